"""Measures the rates that the GPU reaches with PyTorch alone, as a scale for the engine's stages.

    python3 gpu/ceilings.py --rows rows.jsonl [--device cuda|cpu] [--small]

Appends one JSON line per measure. A measure that fails writes a row with `error`, and the next one
runs. `--device cpu --small` rehearses all of it without a GPU. GB are 10^9 bytes; copies on the
device count the bytes read and written. FLOP are 2 per multiply-add, of the unpadded shapes.
"""

import argparse
import ctypes
import json
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F

WARM_UPS = 3
RUNS = 7
CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS = 88


class Rows:
    """Appends the rows of one step to a file of JSON lines, and prints them."""

    def __init__(self, path: str, step: str, small: bool) -> None:
        self.file = open(path, "a", encoding="utf-8")
        self.step = step
        self.small = small

    def add(self, row: str, **fields: object) -> None:
        for key, value in fields.items():
            if isinstance(value, float):
                fields[key] = float(f"{value:.5g}")
        fields = {"step": self.step, "row": row} | fields
        if self.small:
            # Numbers of a rehearsal must not be mistaken for results.
            fields["small"] = True
        line = json.dumps(fields)
        self.file.write(line + "\n")
        # Rows must survive the end of the process at its time limit.
        self.file.flush()
        print(line, flush=True)

    @contextmanager
    def guarded(self, row: str) -> Iterator[None]:
        """Writes an exception as the row's error instead of raising it."""
        try:
            yield
        except Exception as error:
            first_line = (str(error).splitlines() or [""])[0]
            self.add(row, error=f"{type(error).__name__}: {first_line}"[:200])


def arguments(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rows", required=True, help="file of JSON lines to append to")
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument("--small", action="store_true", help="tiny shapes, for a rehearsal")
    return parser.parse_args()


def prepared_device(options: argparse.Namespace) -> torch.device:
    torch.manual_seed(0)
    if options.small:
        # Tiny tensors are slower with threads.
        torch.set_num_threads(1)
    return torch.device(options.device)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release_memory(rows: Rows, device: torch.device) -> None:
    """Gives cached memory back to the device, so that one part leaves none to the next."""
    if device.type == "cuda":
        with rows.guarded("empty_cache"):
            torch.cuda.empty_cache()


def elapsed_ms(function: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Returns the ms of one call on the device and the ms until the call returned."""
    synchronize(device)
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        begin = time.perf_counter()
        function()
        enqueued = time.perf_counter()
        end.record()
        end.synchronize()
        return start.elapsed_time(end), (enqueued - begin) * 1e3
    begin = time.perf_counter()
    function()
    wall_ms = (time.perf_counter() - begin) * 1e3
    return wall_ms, wall_ms


def median_ms(
    function: Callable[[], object],
    device: torch.device,
    calls: int = 1,
    warm_ups: int = WARM_UPS,
    runs: int = RUNS,
) -> tuple[float, float]:
    """Returns the medians of the device's ms and the enqueue ms, each of one call.

    Several `calls` between two events hide the launch of a kernel that is shorter than it.
    """

    def repeated() -> None:
        for _ in range(calls):
            function()

    for _ in range(warm_ups):
        function()
    times = [elapsed_ms(repeated, device) for _ in range(runs)]
    device_ms, enqueue_ms = (statistics.median(column) / calls for column in zip(*times))
    return device_ms, enqueue_ms


def command_output(command: list[str]) -> str:
    output = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return output.stdout.strip()


def machine(rows: Rows, device: torch.device) -> None:
    with rows.guarded("torch"):
        rows.add("torch", value=f"{torch.__version__}, CUDA {torch.version.cuda}", unit="")
    with rows.guarded("device"):
        properties = torch.cuda.get_device_properties(device)
        rows.add("device", value=properties.name, unit="")
        rows.add("device memory", memory_mib=properties.total_memory // 2**20)
        rows.add("multiprocessors", value=properties.multi_processor_count, unit="")
        rows.add("L2 cache", value=properties.L2_cache_size // 2**20, unit="MiB")
    for row, query in (
        ("driver", "driver_version"),
        ("PCIe generation, width", "pcie.link.gen.max,pcie.link.width.max"),
        ("clocks, SM and memory (max)", "clocks.max.sm,clocks.max.mem"),
    ):
        with rows.guarded(row):
            command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
            rows.add(row, value=command_output(command), unit="")
    with rows.guarded("PAGEABLE_MEMORY_ACCESS"):
        rows.add("PAGEABLE_MEMORY_ACCESS", value=pageable_memory_access(), unit="(attribute 88)")


def pageable_memory_access() -> int:
    """Returns 1 if the device reads pageable memory coherently, which changes its copies."""
    cuda = ctypes.CDLL("libcuda.so.1")
    ordinal, value = ctypes.c_int(), ctypes.c_int()
    attribute = CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS
    for call, result in (
        ("cuInit", cuda.cuInit(0)),
        ("cuDeviceGet", cuda.cuDeviceGet(ctypes.byref(ordinal), 0)),
        (
            "cuDeviceGetAttribute",
            cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, ordinal),
        ),
    ):
        if result != 0:
            raise OSError(f"{call} returned {result}")
    return value.value


def copies(rows: Rows, device: torch.device) -> None:
    with rows.guarded("copy on the device, 1 GiB"):
        copy_on_device(rows, device)

    # The masks of 64 clicks take 50 MB.
    size = 50_000 if rows.small else 50_000_000
    on_device = torch.empty(size, dtype=torch.uint8, device=device).random_()
    pageable = torch.empty(size, dtype=torch.uint8).random_()

    def copy_row(
        label: str, function: Callable[[], object], predicted_ms: float | None = None
    ) -> None:
        with rows.guarded(label):
            ms, enqueue_ms = median_ms(function, device)
            fields = {"ms": ms, "enqueue_ms": enqueue_ms, "gb_per_s": size / ms / 1e6}
            if predicted_ms is not None and not rows.small:
                fields["predicted_ms"] = predicted_ms
            rows.add(label, **fields)

    with rows.guarded("pinned memory"):
        # Pinned memory needs a GPU; a rehearsal uses pageable memory instead.
        pinned = torch.empty(size, dtype=torch.uint8, pin_memory=device.type == "cuda")
        pinned.copy_(pageable)
        copy_row("H2D 50 MB, pinned", lambda: on_device.copy_(pinned, non_blocking=True))
        copy_row("D2H 50 MB, pinned", lambda: pinned.copy_(on_device, non_blocking=True), 1.5)
    copy_row("H2D 50 MB, pageable, reused buffer", lambda: on_device.copy_(pageable))
    copy_row("H2D 50 MB, pageable, new and filled", lambda: pageable.clone().to(device))
    copy_row("D2H 50 MB, pageable, reused buffer", lambda: pageable.copy_(on_device))
    # A buffer of this size is new memory from the operating system: its page faults are timed.
    copy_row(
        "D2H 50 MB, pageable, new buffer",
        lambda: torch.empty(size, dtype=torch.uint8).copy_(on_device),
        10.0,
    )


def copy_on_device(rows: Rows, device: torch.device) -> None:
    size = 2**20 if rows.small else 2**30
    source = torch.empty(size, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    ms, _ = median_ms(lambda: target.copy_(source), device)
    rows.add("copy on the device, 1 GiB", ms=ms, gb_per_s=2 * size / ms / 1e6)


def rate_row(
    rows: Rows,
    label: str,
    make: Callable[[], Callable[[], object]],
    device: torch.device,
    dtype: str,
    flop: float,
    predicted_ms: float | None = None,
) -> None:
    """Times the function that `make` returns; its inputs are made under the guard too."""
    with rows.guarded(label):
        ms, _ = median_ms(make(), device, calls=3)
        fields = {"dtype": dtype, "ms": ms, "tflop": flop / 1e12, "tflop_per_s": flop / ms / 1e9}
        if predicted_ms is not None and not rows.small:
            fields["predicted_ms"] = predicted_ms
        rows.add(label, **fields)


def matmuls(rows: Rows, device: torch.device) -> None:
    def square(side: int, dtype: torch.dtype) -> Callable[[], object]:
        left, right = (torch.randn(side, side, dtype=dtype, device=device) for _ in range(2))
        return lambda: left @ right

    side = 128 if rows.small else 8192
    flop = 2.0 * side**3
    label = "matmul 8192^3"
    # 790 TFLOP/s, measured by others on an H200.
    predicted_ms = flop / 790e9
    rate_row(rows, label, partial(square, side, torch.bfloat16), device, "bf16", flop, predicted_ms)
    torch.set_float32_matmul_precision("highest")
    side = 64 if rows.small else 4096
    label = "matmul 4096^3 without TF32"
    rate_row(rows, label, partial(square, side, torch.float32), device, "f32", 2.0 * side**3)


def attention_matmuls(rows: Rows, device: torch.device) -> None:
    """The two products of plain attention in SigLIP, with an odd leading dimension and padded."""
    heads, tokens, width = (4, 29, 72) if rows.small else (256, 729, 72)
    flop = 2.0 * heads * tokens * tokens * width

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, dtype=torch.bfloat16, device=device)

    def scores(keys: int) -> Callable[[], object]:
        q, k = random(heads, tokens, width), random(heads, keys, width)
        return lambda: torch.bmm(q, k.transpose(1, 2))

    def values(keys: int) -> Callable[[], object]:
        p, v = random(heads, tokens, keys), random(heads, keys, width)
        return lambda: torch.bmm(p, v)

    padded = (tokens + 7) // 8 * 8
    for keys, shown, rate in ((tokens, 729, 60e9), (padded, 736, 400e9)):
        for name, make in (("q.k^T", scores), ("p.v", values)):
            label = f"bmm {name}, 256 heads, 729 tokens, {shown} keys"
            rate_row(rows, label, partial(make, keys), device, "bf16", flop, flop / rate)


def attentions(rows: Rows, device: torch.device) -> None:
    def attention(*shape: int) -> Callable[[], object]:
        q, k, v = (torch.randn(shape, dtype=torch.bfloat16, device=device) for _ in range(3))
        return lambda: F.scaled_dot_product_attention(q, k, v)

    for label, batch, heads, tokens in (
        ("sdpa d=72, 16 x 16 heads, 729 tokens", 16, 16, 729),
        ("sdpa d=72, 1 x 8 heads, 4096 tokens", 1, 8, 4096),
    ):
        if rows.small:
            batch, tokens = 1, tokens // 16
        flop = 4.0 * batch * heads * tokens * tokens * 72
        make = partial(attention, batch, heads, tokens, 72)
        # 250 TFLOP/s is an estimate for flash attention at this width.
        rate_row(rows, label, make, device, "bf16", flop, flop / 250e9)


def launches(rows: Rows, device: torch.device) -> None:
    one = torch.zeros(1, device=device)
    with rows.guarded("launch, host"):
        # Fewer calls than the driver queues, so that the host never waits for the device.
        device_ms, enqueue_ms = median_ms(lambda: one.add_(1), device, calls=500)
        rows.add("launch, host", value=enqueue_ms * 1e3, unit="us per launch")
        rows.add("launch, device", value=device_ms * 1e3, unit="us per launch")
    with rows.guarded("launch and synchronize"):

        def round_trip() -> None:
            one.add_(1)
            synchronize(device)

        _, wall_ms = median_ms(round_trip, device, calls=50)
        rows.add("launch and synchronize", value=wall_ms * 1e3, unit="us")


def main() -> None:
    options = arguments("Rates that the GPU reaches with PyTorch alone.")
    rows = Rows(options.rows, "ceilings", options.small)
    device = prepared_device(options)
    machine(rows, device)
    for part in (copies, matmuls, attention_matmuls, attentions, launches):
        with rows.guarded(part.__name__), torch.inference_mode():
            part(rows, device)
        release_memory(rows, device)


if __name__ == "__main__":
    main()
