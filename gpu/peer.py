"""Times the same networks in plain PyTorch on the same card: what the engine's stages compare with.

    python3 gpu/peer.py --rows rows.jsonl [--device cuda|cpu] [--small]

The shapes are those of SAM 2.1 large and of mPLUG-Owl3 7B-241101 in bf16 with random weights, eager
mode and `scaled_dot_product_attention`. Image features are kept channels last. The decoder is
plain: it repeats the image features for each click. `memory_mib` includes the weights; `tflop`
counts matrix products only. `--small` shrinks widths and sizes, but not layers and batches, so that
all of it runs on a CPU.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ceilings import (
    RUNS,
    WARM_UPS,
    Rows,
    arguments,
    median_ms,
    prepared_device,
    release_memory,
)

RATING_LEVELS = 5

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Sam:
    image_px: int = 1024
    width: int = 144
    heads: int = 2
    blocks: tuple[int, ...] = (2, 6, 36, 4)
    windows: tuple[int, ...] = (8, 4, 16, 8)
    global_blocks: tuple[int, ...] = (23, 33, 43)
    decoder_width: int = 256
    decoder_heads: int = 8
    decoder_mlp: int = 2048
    masks: int = 3

    @property
    def grid(self) -> int:
        """Side of the image embedding."""
        return self.image_px // 16


@dataclass(frozen=True)
class Siglip:
    image_px: int = 378
    patch_px: int = 14
    width: int = 1152
    heads: int = 16
    mlp: int = 4304
    layers: int = 26

    @property
    def tokens(self) -> int:
        return (self.image_px // self.patch_px) ** 2


@dataclass(frozen=True)
class Qwen2:
    width: int = 3584
    heads: int = 28
    kv_heads: int = 4
    head_width: int = 128
    mlp: int = 18944
    # Layers 0 to 5 and the 86 tokens before the image depend on the prompt only and are cached.
    layers: range = range(6, 28)
    hyper_layers: tuple[int, ...] = (6, 14, 22, 25)
    prefix: int = 86
    rows: int = 42


SMALL_SAM = Sam(image_px=256, width=16, decoder_width=32, decoder_mlp=64)
SMALL_SIGLIP = Siglip(image_px=42, width=64, heads=4, mlp=128)
SMALL_QWEN2 = Qwen2(width=64, heads=4, kv_heads=2, head_width=16, mlp=128)


def pool(x: Tensor) -> Tensor:
    """2x2 max pool of `[batch, height, width, channels]`."""
    return F.max_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def mlp(*widths: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(widths, widths[1:]):
        layers += [nn.Linear(fan_in, fan_out), activation()]
    return nn.Sequential(*layers[:-1])


class HieraBlock(nn.Module):
    """A block of the image encoder on `[batch, height, width, channels]`; window 0 is global."""

    def __init__(self, width_in: int, width: int, heads: int, window: int, pools: bool) -> None:
        super().__init__()
        self.heads, self.window, self.pools = heads, window, pools
        self.norm1 = nn.LayerNorm(width_in, eps=1e-6)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width_in, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = mlp(width, 4 * width, width, activation=nn.GELU)
        self.shortcut = nn.Linear(width_in, width) if pools else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        shortcut = x if self.shortcut is None else pool(self.shortcut(y))
        x = shortcut + self.attention(y)
        return x + self.mlp(self.norm2(x))

    def attention(self, y: Tensor) -> Tensor:
        batch, height, width, channels = y.shape
        side = self.window or height
        rows, columns = height // side, width // side
        y = y.view(batch, rows, side, columns, side, channels).transpose(2, 3)
        qkv = self.qkv(y.reshape(-1, side * side, channels))
        windows, tokens, channels = len(qkv), side * side, qkv.shape[2] // 3
        q, k, v = qkv.view(windows, tokens, 3, self.heads, -1).unbind(2)
        if self.pools:
            side //= 2
            q = pool(q.reshape(windows, 2 * side, 2 * side, channels))
            q = q.reshape(windows, side * side, self.heads, -1)
        x = F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (q, k, v)))
        x = self.out(x.transpose(1, 2).reshape(windows, side * side, channels))
        x = x.view(batch, rows, columns, side, side, channels).transpose(2, 3)
        return x.reshape(batch, rows * side, columns * side, channels)


class ImageEncoder(nn.Module):
    """Hiera, the neck, and the two fine maps that the mask decoder takes from the image."""

    def __init__(self, shape: Sam) -> None:
        super().__init__()
        side = shape.image_px // 4
        self.patch = nn.Conv2d(3, shape.width, 7, stride=4, padding=3)
        self.position = nn.Parameter(torch.randn(side, side, shape.width))
        self.stages = nn.ModuleList()
        width_in = width = shape.width
        heads, index = shape.heads, 0
        for stage, count in enumerate(shape.blocks):
            blocks = []
            for block in range(count):
                pools = stage > 0 and block == 0
                # The first block of a stage still uses the window of the stage before it.
                window = shape.windows[stage - 1 if pools else stage]
                window = 0 if index in shape.global_blocks else window
                blocks.append(HieraBlock(width_in, width, heads, window, pools))
                width_in = width
                index += 1
            self.stages.append(nn.Sequential(*blocks))
            width, heads = 2 * width, 2 * heads
        d = shape.decoder_width
        self.neck = nn.ModuleList(nn.Linear(shape.width << i, d) for i in range(4))
        self.fine0, self.fine1 = nn.Linear(d, d // 8), nn.Linear(d, d // 4)
        self.no_memory = nn.Parameter(torch.randn(d))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the embedding `[batch, side, side, d]` and the maps at 2 and 4 times its side."""
        x = self.patch(image).permute(0, 2, 3, 1) + self.position
        levels = []
        for stage, neck in zip(self.stages, self.neck):
            x = stage(x)
            levels.append(neck(x))
        coarse = F.interpolate(levels[3].permute(0, 3, 1, 2), scale_factor=2.0, mode="nearest")
        embedding = levels[2] + coarse.permute(0, 2, 3, 1) + self.no_memory
        return embedding, self.fine1(levels[1]), self.fine0(levels[0])


class Attention(nn.Module):
    """Attention of the mask decoder, inside it at `width_inside` channels."""

    def __init__(self, width: int, width_inside: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, width_inside) for _ in range(3))
        self.out = nn.Linear(width_inside, width)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (
            projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projected in (self.q(q), self.k(k), self.v(v))
        )
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class TwoWayLayer(nn.Module):
    def __init__(self, shape: Sam, is_first: bool) -> None:
        super().__init__()
        d, heads = shape.decoder_width, shape.decoder_heads
        self.is_first = is_first
        self.self_attention = Attention(d, d, heads)
        self.to_image = Attention(d, d // 2, heads)
        self.from_image = Attention(d, d // 2, heads)
        self.mlp = mlp(d, shape.decoder_mlp, d)
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(d) for _ in range(4))

    def forward(
        self, queries: Tensor, keys: Tensor, tokens: Tensor, position: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.is_first:
            queries = self.self_attention(queries, queries, queries)
        else:
            q = queries + tokens
            queries = queries + self.self_attention(q, q, queries)
        queries = self.norm1(queries)
        attended = self.to_image(queries + tokens, keys + position, keys)
        queries = self.norm2(queries + attended)
        queries = self.norm3(queries + self.mlp(queries))
        attended = self.from_image(keys + position, queries + tokens, queries)
        return queries, self.norm4(keys + attended)


class MaskDecoder(nn.Module):
    def __init__(self, shape: Sam) -> None:
        super().__init__()
        d = shape.decoder_width
        self.shape = shape
        # The object token, the IoU token and 4 mask tokens.
        self.output_tokens = nn.Parameter(torch.randn(6, d))
        self.no_mask = nn.Parameter(torch.randn(d))
        self.position = nn.Parameter(torch.randn(shape.grid**2, d))
        self.layers = nn.ModuleList(TwoWayLayer(shape, is_first) for is_first in (True, False))
        self.last_to_image = Attention(d, d // 2, shape.decoder_heads)
        self.last_norm = nn.LayerNorm(d)
        self.enlarge1 = nn.ConvTranspose2d(d, d // 4, 2, stride=2)
        self.enlarge_norm = nn.LayerNorm(d // 4, eps=1e-6)
        self.enlarge2 = nn.ConvTranspose2d(d // 4, d // 8, 2, stride=2)
        self.mask_mlps = nn.ModuleList(mlp(d, d, d, d // 8) for _ in range(shape.masks))
        self.iou_mlp = mlp(d, d, d, 4)

    def forward(
        self, embedding: Tensor, fine1: Tensor, fine0: Tensor, points: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns mask logits `[points, masks, 4 side, 4 side]` and the predicted IoUs.

        `points` are the encoded clicks, `[points, 2, d]` with the padding token.
        """
        count, side = len(points), self.shape.grid
        tokens = torch.cat([self.output_tokens.expand(count, -1, -1), points], dim=1)
        keys = (embedding + self.no_mask).flatten(1, 2).repeat_interleave(count, dim=0)
        queries = tokens
        for layer in self.layers:
            queries, keys = layer(queries, keys, tokens, self.position)
        attended = self.last_to_image(queries + tokens, keys + self.position, keys)
        queries = self.last_norm(queries + attended)

        # Convolutions get channels-last views, so that no map is transposed.
        maps = keys.unflatten(1, (side, side)).permute(0, 3, 1, 2)
        maps = self.enlarge1(maps).permute(0, 2, 3, 1) + fine1
        maps = F.gelu(self.enlarge_norm(maps)).permute(0, 3, 1, 2)
        maps = F.gelu(self.enlarge2(maps).permute(0, 2, 3, 1) + fine0)
        heads = [head(queries[:, 3 + index]) for index, head in enumerate(self.mask_mlps)]
        masks = torch.stack(heads, dim=1) @ maps.flatten(1, 2).transpose(1, 2)
        ious = self.iou_mlp(queries[:, 1]).sigmoid()
        return masks.unflatten(2, (4 * side, 4 * side)), ious[:, 1:]


class SiglipLayer(nn.Module):
    def __init__(self, shape: Siglip) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm1, self.norm2 = (nn.LayerNorm(shape.width, eps=1e-6) for _ in range(2))
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.out = nn.Linear(shape.width, shape.width)
        self.fc1, self.fc2 = (
            nn.Linear(shape.width, shape.mlp),
            nn.Linear(shape.mlp, shape.width),
        )

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*qkv.unbind(0))
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x)), approximate="tanh"))


class VisionTower(nn.Module):
    def __init__(self, shape: Siglip) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, shape.width, shape.patch_px, stride=shape.patch_px)
        self.position = nn.Parameter(torch.randn(shape.tokens, shape.width))
        self.layers = nn.Sequential(*(SiglipLayer(shape) for _ in range(shape.layers)))

    def forward(self, views: Tensor) -> Tensor:
        return self.layers(self.patch(views).flatten(2).transpose(1, 2) + self.position)


def rotate(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions of `[.., rows, head_width]`, half-split."""
    cos, sin = angles
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class QwenLayer(nn.Module):
    def __init__(self, shape: Qwen2, is_hyper: bool) -> None:
        super().__init__()
        self.shape = shape
        kv_width = shape.kv_heads * shape.head_width
        self.norm1, self.norm2 = (nn.RMSNorm(shape.width, eps=1e-6) for _ in range(2))
        self.qkv = nn.Linear(shape.width, shape.width + 2 * kv_width)
        self.out = nn.Linear(shape.width, shape.width, bias=False)
        self.gate_up = nn.Linear(shape.width, 2 * shape.mlp, bias=False)
        self.down = nn.Linear(shape.mlp, shape.width, bias=False)
        self.image_kv = nn.Linear(shape.width, 2 * kv_width) if is_hyper else None
        prefix = (1, shape.kv_heads, shape.prefix, shape.head_width)
        self.prefix_k, self.prefix_v = (nn.Parameter(torch.randn(prefix)) for _ in range(2))

    def image_keys(self, image: Tensor, angles: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns keys and values `[crops, kv_heads, tokens, head_width]` of a hyper layer."""
        kv = self.image_kv(self.norm1(image)).unflatten(-1, (self.shape.kv_heads, 2, -1))
        k, v = kv.transpose(1, 2).unbind(3)
        return rotate(k, angles), v

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        image: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        is_last: bool,
    ) -> Tensor:
        """The last layer returns the last row only, which sees all keys and needs no mask."""
        shape = self.shape
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (-1, shape.head_width)).transpose(1, 2)
        q, k, v = qkv.split([shape.heads, shape.kv_heads, shape.kv_heads], dim=1)
        q, k = rotate(q, angles), rotate(k, angles)
        crops = len(x)
        keys = [self.prefix_k.expand(crops, -1, -1, -1), k]
        values = [self.prefix_v.expand(crops, -1, -1, -1), v]
        if image is not None:
            keys, values = [image[0], *keys], [image[1], *values]
        if is_last:
            q, x, mask = q[:, :, -1:], x[:, -1:], None
        # The query heads of a key head become rows, so that keys are not repeated.
        rows = q.shape[2]
        q = q.unflatten(1, (shape.kv_heads, -1)).flatten(2, 3)
        k, v = torch.cat(keys, dim=2), torch.cat(values, dim=2)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        attended = attended.unflatten(2, (-1, rows)).flatten(1, 2).transpose(1, 2).flatten(2)
        x = x + self.out(attended)
        gate, up = self.gate_up(self.norm2(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class Scorer(nn.Module):
    """The language model on the rows after the prefix, with the level head."""

    def __init__(self, shape: Qwen2, image_tokens: int) -> None:
        super().__init__()
        self.shape = shape
        self.layers = nn.ModuleList(QwenLayer(shape, i in shape.hyper_layers) for i in shape.layers)
        self.norm = nn.RMSNorm(shape.width, eps=1e-6)
        self.levels = nn.Linear(shape.width, RATING_LEVELS, bias=False)
        self.angles = self.make_angles(range(shape.prefix, shape.prefix + shape.rows))
        # All keys of an image are at the position of its first token.
        self.image_angles = self.make_angles(range(shape.prefix, shape.prefix + 1))
        self.mask = self.make_mask(0)
        self.hyper_mask = self.make_mask(image_tokens)

    def make_angles(self, positions: range) -> tuple[Tensor, Tensor]:
        dtype = self.levels.weight.dtype
        half = torch.arange(0, self.shape.head_width, 2, dtype=torch.float32)
        frequencies = 1e6 ** (-half / self.shape.head_width)
        rows = torch.arange(positions.start, positions.stop, dtype=torch.float32)
        angles = torch.outer(rows, frequencies).repeat(1, 2)
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def make_mask(self, image_tokens: int) -> Tensor:
        """Returns what to add to the scores: the rows see the image, the prefix and their past."""
        shape = self.shape
        past = torch.full((shape.rows, shape.rows), float("-inf")).triu(1)
        mask = F.pad(past, (image_tokens + shape.prefix, 0))
        return mask.repeat(shape.heads // shape.kv_heads, 1)

    def show(self, image: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Returns keys and values of the hyper layers for the projected image tokens."""
        hyper = (layer for layer in self.layers if layer.image_kv is not None)
        return [layer.image_keys(image, self.image_angles) for layer in hyper]

    def forward(self, x: Tensor, images: list[tuple[Tensor, Tensor]]) -> Tensor:
        remaining = iter(images)
        for layer in self.layers:
            is_hyper = layer.image_kv is not None
            image = next(remaining) if is_hyper else None
            mask = self.hyper_mask if is_hyper else self.mask
            x = layer(x, self.angles, image, mask, layer is self.layers[-1])
        return self.levels(self.norm(x[:, -1]))


def frozen(network: Network) -> Network:
    """The counter of FLOP follows gradients of parameters that want one."""
    return network.requires_grad_(False)


def counted_tflop(function: Callable[..., object], *inputs: object) -> float | None:
    """Returns `None` if the call cannot be counted, which must not cost its time."""
    try:
        with FlopCounterMode(display=False) as counter:
            function(*inputs)
    except Exception as error:
        print(f"FLOP not counted: {error}", flush=True)
        return None
    return counter.get_total_flops() / 1e12


def measure(
    rows: Rows,
    label: str,
    device: torch.device,
    function: Callable[..., object],
    *inputs: object,
) -> None:
    with rows.guarded(label):
        # This call is also the first warm-up.
        tflop = counted_tflop(function, *inputs)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        warm_ups, runs = (0, 2) if rows.small else (WARM_UPS, RUNS)
        call = partial(function, *inputs)
        ms, enqueue_ms = median_ms(call, device, warm_ups=warm_ups, runs=runs)
        fields = {"dtype": "bf16", "ms": ms, "enqueue_ms": enqueue_ms}
        if tflop is not None:
            fields |= {"tflop": tflop, "tflop_per_s": tflop / ms * 1e3}
        if device.type == "cuda":
            fields["memory_mib"] = torch.cuda.max_memory_allocated(device) // 2**20
        rows.add(label, **fields)


def segmenter(rows: Rows, device: torch.device) -> None:
    shape = SMALL_SAM if rows.small else Sam()
    encoder, decoder = frozen(ImageEncoder(shape)), frozen(MaskDecoder(shape))
    for count in (1, 4):
        images = torch.randn(count, 3, shape.image_px, shape.image_px)
        label = "encoder, 1 image" if count == 1 else f"encoder, {count} images"
        measure(rows, label, device, encoder, images)
    features = encoder(torch.randn(1, 3, shape.image_px, shape.image_px))
    for count in (64, 128, 256):
        points = torch.randn(count, 2, shape.decoder_width)
        measure(rows, f"decoder, {count} points", device, decoder, *features, points)


def vision(rows: Rows, device: torch.device) -> None:
    shape = SMALL_SIGLIP if rows.small else Siglip()
    width = (SMALL_QWEN2 if rows.small else Qwen2()).width
    tower = frozen(VisionTower(shape))
    projector = frozen(mlp(shape.width, width, width, activation=nn.GELU))
    for count in (9, 16):
        views = torch.randn(count, 3, shape.image_px, shape.image_px)
        measure(rows, f"siglip, {count} views", device, tower, views)
        tokens = torch.randn(count, shape.tokens, shape.width)
        measure(rows, f"projector, {count} views", device, projector, tokens)
        measure(rows, f"views, {count} views", device, nn.Sequential(tower, projector), views)


def text(rows: Rows, device: torch.device) -> None:
    shape = SMALL_QWEN2 if rows.small else Qwen2()
    image_tokens = (SMALL_SIGLIP if rows.small else Siglip()).tokens
    scorer = frozen(Scorer(shape, image_tokens))
    for count in (9, 32):
        image = torch.randn(count, image_tokens, shape.width)
        measure(rows, f"show, {count} crops", device, scorer.show, image)
        x = torch.randn(count, shape.rows, shape.width)
        measure(rows, f"qwen2, {count} crops", device, scorer, x, scorer.show(image))
        measure(
            rows,
            f"text, {count} crops",
            device,
            lambda x, image: scorer(x, scorer.show(image)),
            x,
            image,
        )


def main() -> None:
    options = arguments("The same networks in plain PyTorch.")
    rows = Rows(options.rows, "peer", options.small)
    device = prepared_device(options)
    torch.set_default_dtype(torch.bfloat16)
    for part in (segmenter, vision, text):
        with rows.guarded(part.__name__), torch.inference_mode(), device:
            part(rows, device)
        release_memory(rows, device)


if __name__ == "__main__":
    main()
