"""Summarises the rows of a first run on a GPU in at most 100 lines.

    python3 gpu/summary.py rows.jsonl [--steps steps.txt] [--kernels kernels.csv.gz]

Reads the rows of all steps, one JSON object per line; the steps, one `name rc=code` or
`name skipped` per line; and the kernel tables of `inject.c`, which may stand one after the other.
Missing files, malformed lines and missing numbers shorten the summary and never end it.
"""

import argparse
import csv
import gzip
import io
import json
import math
import re
import textwrap
from collections import defaultdict
from collections.abc import Iterable

LINES_MAX = 100
COLUMNS = 100
KERNELS_SHOWN = 15
WORST_SHOWN = 5
SLOWEST_OPS_SHOWN = 5

Row = dict[str, object]


def read_bytes(path: str | None) -> tuple[bytes, str]:
    """Returns the content of a file, and a note if there is none."""
    if path is None:
        return b"", ""
    try:
        with open(path, "rb") as file:
            return file.read(), ""
    except OSError as error:
        return b"", f"{path}: {error.strerror}"


def unzipped(content: bytes) -> str:
    """Returns the text of a gzip file up to its first fault, or plain text unchanged."""
    if content[:2] != b"\x1f\x8b":
        return content.decode(errors="replace")
    text = bytearray()
    try:
        with gzip.open(io.BytesIO(content)) as file:
            while part := file.read(1 << 16):
                text += part
    except (OSError, EOFError, ValueError):
        pass
    return text.decode(errors="replace")


def read_rows(content: bytes) -> tuple[list[Row], int]:
    """Returns the rows and the number of malformed lines."""
    rows, malformed = [], 0
    for line in content.decode(errors="replace").splitlines():
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict) and "step" in row:
            rows.append(row)
        else:
            malformed += 1
    return rows, malformed


def number(row: Row, key: str) -> float | None:
    value = row.get(key)
    if value is None or isinstance(value, bool):
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None


def text(row: Row, key: str) -> str:
    """Returns a value on one line, `?` without one."""
    value = row.get(key)
    return "?" if value is None else clipped(" ".join(str(value).split()), COLUMNS)


def suffix(row: Row, key: str) -> str:
    return f" {text(row, key)}" if row.get(key) else ""


def ratio(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else value / base


def short(value: float | None) -> str:
    """Three significant digits, or `-` without a value."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size == 0 or 1e-2 <= size < 1e6:
        digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
        return f"{value:.{digits}f}"
    return f"{value:.2e}"


def clipped(label: str, width: int) -> str:
    return label if len(label) <= width else label[: width - 2] + ".."


def shortened(label: str, width: int) -> str:
    """Cuts the middle out, because names of tensors and kernels differ at their ends."""
    if len(label) <= width:
        return label
    head = (width - 2) // 3
    return label[:head] + ".." + label[head + 2 - width :]


def paired(items: list[str]) -> list[str]:
    """Lays items out in two columns."""
    width = COLUMNS // 2 - 1
    lines = []
    for left, right in zip(items[::2], items[1::2] + [""]):
        lines.append(f"  {clipped(left, width - 2):{width}}{clipped(right, width - 1)}".rstrip())
    return lines


def wrapped(items: Iterable[str], separator: str = "; ") -> list[str]:
    joined = separator.join(items)
    return textwrap.wrap(joined, COLUMNS, initial_indent="  ", subsequent_indent="  ")


def steps_section(content: bytes) -> list[str]:
    passed, failed, skipped = [], [], []
    for line in content.decode(errors="replace").splitlines():
        found = re.match(r"\s*(\S+)\s+(?:rc=(-?\d+)|(skipped))", line)
        if not found:
            continue
        name, code, is_skipped = found.groups()
        if is_skipped:
            skipped.append(name)
        elif int(code) == 0:
            passed.append(name)
        else:
            failed.append(f"{name} ({code})")
    groups = [("FAILED (exit code): ", failed), ("skipped: ", skipped)]
    lines = ["steps passed: " + " ".join(passed)] if passed else []
    if failed or skipped:
        lines.append("; ".join(title + " ".join(names) for title, names in groups if names))
    return [part for line in lines for part in textwrap.wrap(line, COLUMNS)]


def errors_section(rows: list[Row], malformed: int, notes: list[str]) -> list[str]:
    failed = [row for row in rows if row.get("error")]
    lines = [f"{len(rows)} rows, {len(failed)} with an error, {malformed} malformed lines"]
    if any(row.get("small") for row in rows):
        lines[0] += "; REHEARSAL with tiny shapes"
    lines += notes
    for row in failed:
        label = f"{text(row, 'step')} {clipped(text(row, 'row'), 40)}"
        lines.append(clipped(f"  {label}: {text(row, 'error')}", COLUMNS))
    return lines


def ceilings_section(rows: list[Row]) -> list[str]:
    facts, lines = [], []
    for row in rows:
        if row.get("error"):
            continue
        if number(row, "ms") is None:
            value = text(row, "value") if number(row, "value") is None else ""
            value = value or short(number(row, "value"))
            if "memory_mib" in row:
                value = short(number(row, "memory_mib")) + " MiB"
            facts.append(f"{text(row, 'row')} {value}{suffix(row, 'unit')}")
            continue
        label = f"{text(row, 'row')}{suffix(row, 'dtype')}"
        line = f"  {clipped(label, 48):48} {short(number(row, 'ms')):>7} ms"
        for key, unit in (("gb_per_s", "GB/s"), ("tflop_per_s", "TFLOP/s")):
            if number(row, key) is not None:
                line += f" {short(number(row, key)):>7} {unit}"
        predicted = number(row, "predicted_ms")
        if predicted is not None:
            line += f"  predicted {short(predicted)} ms"
        lines.append(line)
    return ["CEILINGS", *wrapped(facts), *lines] if facts or lines else []


def excess(row: Row, keys: tuple[str, ...]) -> tuple[float, float] | None:
    """Returns the error and its quotient by the tolerance; an error that is no number is infinite.

    `None` for a row without a tolerance or without an error.
    """
    tolerance = number(row, "tolerance")
    key = next((key for key in keys if key in row), None)
    if key is None or tolerance is None:
        return None
    error = number(row, key)
    # JSON writers turn NaN into null.
    if error is None or math.isnan(error):
        return math.inf, math.inf
    if tolerance > 0:
        return error, error / tolerance
    return error, math.inf if error > 0 else 0.0


def comparison_section(title: str, rows: list[Row], keys: tuple[str, ...]) -> list[str]:
    # Quotients, errors and names by dtype.
    compared: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for row in rows:
        found = None if row.get("error") else excess(row, keys)
        if found is not None:
            error, quotient = found
            compared[text(row, "dtype")].append((quotient, error, text(row, "row")))
    if not rows:
        return []
    count = sum(map(len, compared.values()))
    over = {dtype: sum(item[0] > 1 for item in items) for dtype, items in compared.items()}
    lines = [
        f"{title}: {count} compared, {sum(over.values())} over tolerance, "
        f"{len(rows) - count} not compared"
    ]
    for dtype, items in sorted(compared.items()):
        worst = sorted(items, reverse=True)[:WORST_SHOWN]
        lines.append(
            f" {dtype}: {over[dtype]} of {len(items)} over; worst error/tolerance (error):"
        )
        lines += paired(
            [
                f"{short(quotient):>6} ({error:.1e}) {shortened(label, 30)}"
                for quotient, error, label in worst
            ]
        )
    return lines


def slowest_ops(rows: list[Row]) -> list[str]:
    timed = []
    for row in rows:
        ms, predicted = number(row, "ms"), number(row, "predicted_ms")
        if ms is not None and predicted is not None and not row.get("error"):
            label = f"{text(row, 'row')}{suffix(row, 'dtype')}"
            timed.append((ms, predicted, label))
    timed.sort(reverse=True)
    if not timed:
        return []
    lines = [" slowest ops: ms, predicted ms, their quotient"]
    for ms, predicted, label in timed[:SLOWEST_OPS_SHOWN]:
        quotient = ratio(ms, predicted)
        lines.append(f"  {clipped(label, 56):56}" + cells((ms, predicted, quotient), 9))
    return lines


def cells(values: Iterable[float | None], width: int) -> str:
    return "".join(f"{short(value):>{width}}" for value in values)


def stage_key(label: str) -> str:
    """Equal for `encoder, 1 image` and `Encoder, 1 images, own kernels`."""
    parts = [re.sub(r"s\b", "", part.strip().lower()) for part in label.split(",")]
    return ", ".join(parts[:2])


def rate(row: Row, key: str, amount: str) -> float | None:
    """Returns units per second, computed from the amount in 10^9 or 10^12 if not given."""
    given = number(row, key)
    if given is not None:
        return given
    per_ms = ratio(number(row, amount), number(row, "ms"))
    return None if per_ms is None else per_ms * 1e3


def stages_section(rows: list[Row], peers: list[Row]) -> list[str]:
    peer_rows = {stage_key(text(row, "row")): row for row in peers if not row.get("error")}
    rows = [row for row in rows if not row.get("error")]
    if not rows and not peer_rows:
        return []
    lines = [
        "STAGES (ratio = ms / predicted, ms / peer; peer = plain PyTorch)",
        f"  {'row':30}{'ms':>7}{'pred':>7}{'ratio':>6}{'peer':>7}{'ratio':>6}"
        f"{'enq':>7}{'launch':>7}{'GB/s':>7}{'TF/s':>7}{'MiB':>7}",
    ]
    matched = set()
    for row in rows:
        key = stage_key(text(row, "row"))
        matched.add(key)
        peer_ms = number(peer_rows.get(key, {}), "ms")
        lines.append(stage_line(text(row, "row"), row, number(row, "ms"), peer_ms))
    for key, peer in peer_rows.items():
        if key not in matched:
            lines.append(stage_line(text(peer, "row"), {}, None, number(peer, "ms")))
    return lines


def stage_line(label: str, row: Row, ms: float | None, peer_ms: float | None) -> str:
    if row.get("dtype") not in (None, "bf16"):
        label += suffix(row, "dtype")
    predicted = number(row, "predicted_ms")
    return (
        f"  {clipped(label, 29):30}"
        + cells((ms, predicted), 7)
        + cells((ratio(ms, predicted),), 6)
        + cells((peer_ms,), 7)
        + cells((ratio(ms, peer_ms),), 6)
        + cells((number(row, "enqueue_ms"), number(row, "launches")), 7)
        + cells((rate(row, "gb_per_s", "gb"), rate(row, "tflop_per_s", "tflop")), 7)
        + cells((number(row, "memory_mib"),), 7)
    )


def readable_name(name: str) -> str:
    """Returns the longest identifier of a mangled C++ name, usually the most specific one."""
    if not name.startswith("_Z"):
        return name
    identifiers, position = [], 2
    while found := re.compile(r"\d+").search(name, position):
        length = int(found.group()[:9])
        identifier = name[found.end() : found.end() + length]
        if len(identifier) == length and re.fullmatch(r"[A-Za-z_]\w*", identifier):
            identifiers.append(identifier)
            position = found.end() + length
        else:
            position = found.end()
    return max(identifiers, key=len, default=name)


def kernels_section(table: str) -> list[str]:
    """Adds the shapes of a kernel up; the shape shown is the one with the longest time."""
    # Per kernel: ns, count, and ns by shape.
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    shapes: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    # A line cut off in the middle of a quoted name must not swallow the lines after it.
    for line in table.splitlines():
        try:
            kind, name, grid, block, *numbers = next(csv.reader([line]))
            count, ns = (int(value) for value in numbers[:2])
        except (ValueError, StopIteration, csv.Error):
            # The header of each table ends here too.
            continue
        label = readable_name(name) if kind == "kernel" else f"{kind} {name}"
        totals[label][0] += ns
        totals[label][1] += count
        shapes[label][f"{grid} {block}"] += ns
    if not totals:
        return []
    total_ns = sum(ns for ns, _ in totals.values()) or 1
    launches = sum(count for _, count in totals.values())
    lines = [
        f"KERNELS: {short(total_ns / 1e6)} ms in {launches} launches of {len(totals)} kernels; "
        "ms, share, launches, us each, longest shape"
    ]
    heaviest = sorted(totals.items(), key=lambda item: -item[1][0])
    for label, (ns, count) in heaviest[:KERNELS_SHOWN]:
        shape = max(shapes[label].items(), key=lambda item: item[1])[0].strip()
        share = f"{100 * ns / total_ns:>6.1f}%"
        each_us = short(ratio(ns / 1e3, count))
        line = f"{short(ns / 1e6):>8}{share}{count:>8} {each_us:>8}  "
        lines.append(line + f"{shortened(label, 44):45}{clipped(shape, 22)}".rstrip())
    return lines


def engine_section(rows: list[Row]) -> list[str]:
    units = {
        "images_per_s": "images/s",
        "segment_busy": "segment busy",
        "score_busy": "score busy",
        "memory_mib": "MiB",
    }
    lines = []
    for row in rows:
        if row.get("error"):
            continue
        shown = [f"{short(number(row, key))} {unit}" for key, unit in units.items() if key in row]
        if "value" in row:
            shown.append(text(row, "value") + suffix(row, "unit"))
        lines.append(clipped(f"  {clipped(text(row, 'row'), 34):35}{', '.join(shown)}", COLUMNS))
    return ["ENGINE", *lines] if lines else []


def fitted(sections: list[tuple[list[str], int]]) -> list[str]:
    """Cuts sections to their line limits, whose sum is `LINES_MAX`; unused lines help the first."""
    granted = [min(len(lines), limit) for lines, limit in sections]
    spare = LINES_MAX - sum(granted)
    output = []
    for (lines, _), grant in zip(sections, granted):
        extra = min(spare, len(lines) - grant)
        spare -= extra
        grant += extra
        if grant < len(lines):
            lines = [*lines[: grant - 1], f"  .. {len(lines) - grant + 1} lines more"]
        output += lines
    return output


def main() -> None:
    parser = argparse.ArgumentParser(description="Summary of a first run on a GPU.")
    parser.add_argument("rows", help="file of JSON lines")
    parser.add_argument("--steps", help="file of steps and exit codes")
    parser.add_argument("--kernels", help="kernel tables, gzip or plain")
    options = parser.parse_args()
    content, rows_note = read_bytes(options.rows)
    steps, steps_note = read_bytes(options.steps)
    table, table_note = read_bytes(options.kernels)
    rows, malformed = read_rows(content)
    notes = [note for note in (rows_note, steps_note, table_note) if note]

    def of(step: str) -> list[Row]:
        return [row for row in rows if row["step"] == step]

    ops = comparison_section("OPS", of("ops"), ("max_error", "relative_error"))
    # The tolerance of a golden tensor is relative to its largest value.
    parity = comparison_section("PARITY", of("parity"), ("relative_error", "max_error"))
    sections = [
        (steps_section(steps), 4),
        (errors_section(rows, malformed, notes), 4),
        (ceilings_section(of("ceilings")), 20),
        (parity, 13),
        (ops + slowest_ops(of("ops")), 18),
        (stages_section(of("stages"), of("peer")), 19),
        (kernels_section(unzipped(table)), KERNELS_SHOWN + 1),
        (engine_section(of("engine")), 6),
    ]
    for line in fitted(sections):
        print(line)


if __name__ == "__main__":
    main()
