"""mPLUG-Owl3 (generation 241014) in PyTorch on the CPU: the same work as `benches/mplug_owl3.rs`.

    python3 benches/peers/mplug_owl3_torch.py 2b 128 87 2     size, tokens of the prompt, position of the image, threads

Reads a line `ROW BATCH` for each measurement and prints its seconds. `plain` runs the 26 layers of the vision
tower, the whole prompt, and the K logits of the last token. `greedy` generates as the reference does: the whole
head, then a step for the second token, for which it projects the image tokens again. If PyTorch is missing, the
script creates its own virtual environment under target/peers and installs it there. Weights are random.
"""

import sys
import time

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    from virtual_environment import restart_in

    restart_in("mplug_owl3", ["torch"])

SIZES = {
    "1b": dict(hidden=896, inner=4864, layers=24, heads=14, keys=2, hyper=[5, 12, 19, 21]),
    "2b": dict(hidden=1536, inner=8960, layers=28, heads=12, keys=2, hyper=[6, 14, 22, 25]),
}
VOCABULARY, LEVELS = 151851, 7
VISION, VISION_INNER, VISION_HEADS, VISION_LAYERS, TOKENS = 1152, 4304, 16, 26, 729


def random(*shape):
    return torch.empty(*shape).uniform_(-1, 1) * (3 / shape[-1]) ** 0.5


def linear(out, width, bias=True):
    return random(out, width), (random(1, out)[0] * 0.1 if bias else None)


class Vision:
    def __init__(self, hidden):
        self.patch = (random(VISION, 588).reshape(VISION, 3, 14, 14), torch.zeros(VISION))
        self.position = random(TOKENS, VISION)
        self.layers = [
            dict(norm1=norm(), qkv=[linear(VISION, VISION) for _ in range(3)], out=linear(VISION, VISION),
                 norm2=norm(), fc1=linear(VISION_INNER, VISION), fc2=linear(VISION, VISION_INNER))
            for _ in range(VISION_LAYERS)
        ]
        self.project = linear(hidden, VISION)

    def __call__(self, pixels):
        xs = F.conv2d(pixels, *self.patch, stride=14).flatten(2).transpose(1, 2) + self.position
        batch = xs.shape[0]
        for layer in self.layers:
            ys = F.layer_norm(xs, (VISION,), *layer["norm1"], eps=1e-6)
            q, k, v = [F.linear(ys, *part).view(batch, TOKENS, VISION_HEADS, -1).transpose(1, 2) for part in layer["qkv"]]
            ys = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, TOKENS, VISION)
            xs = xs + F.linear(ys, *layer["out"])
            ys = F.layer_norm(xs, (VISION,), *layer["norm2"], eps=1e-6)
            xs = xs + F.linear(F.gelu(F.linear(ys, *layer["fc1"]), approximate="tanh"), *layer["fc2"])
        return F.linear(xs, *self.project)


def norm():
    return torch.ones(VISION), torch.zeros(VISION)


def rotate(xs, cosines, sines):
    first, second = xs.chunk(2, dim=-1)
    return xs * cosines + torch.cat((-second, first), dim=-1) * sines


class Decoder:
    def __init__(self, hidden, inner, layers, heads, keys, hyper):
        self.hidden, self.heads, self.keys, self.dim = hidden, heads, keys, hidden // heads
        width = keys * self.dim
        self.embedding = random(VOCABULARY, hidden)
        self.layers = [
            dict(norm1=torch.ones(hidden), q=linear(hidden, hidden), k=linear(width, hidden), v=linear(width, hidden),
                 out=linear(hidden, hidden, False), norm2=torch.ones(hidden), gate=linear(inner, hidden, False),
                 up=linear(inner, hidden, False), down=linear(hidden, inner, False),
                 images=(*linear(2 * width, hidden), torch.rand(hidden)) if index in hyper else None)
            for index in range(layers)
        ]
        self.norm = torch.ones(hidden)

    def angles(self, positions):
        frequencies = 1.0 / 1e6 ** (torch.arange(0, self.dim, 2).float() / self.dim)
        angles = positions.float()[:, None] * frequencies
        return torch.cat((angles, angles), -1).cos(), torch.cat((angles, angles), -1).sin()

    def shared(self, xs):
        return xs.repeat_interleave(self.heads // self.keys, dim=1)

    def __call__(self, ids, embeds, start, cache):
        xs, past = self.embedding[ids], cache[0][0].shape[2] if cache else 0
        batch, count, _ = xs.shape
        text, image = self.angles(torch.arange(past, past + count)), self.angles(torch.full((TOKENS,), start + 1))
        kept = []
        for index, layer in enumerate(self.layers):
            ys = F.rms_norm(xs, (self.hidden,), layer["norm1"], 1e-6)
            split = lambda part: F.linear(ys, *layer[part]).view(batch, count, -1, self.dim).transpose(1, 2)
            q, k, v = rotate(split("q"), *text), rotate(split("k"), *text), split("v")
            if cache:
                k, v = torch.cat((cache[index][0], k), 2), torch.cat((cache[index][1], v), 2)
            kept.append((k, v))
            ys = F.scaled_dot_product_attention(q, self.shared(k), self.shared(v), is_causal=count > 1)
            ys = ys.transpose(1, 2).reshape(batch, count, self.hidden)
            if layer["images"]:
                weight, bias, gate = layer["images"]
                rows = F.linear(F.rms_norm(embeds, (self.hidden,), layer["norm1"], 1e-6), weight, bias)
                rows = rows.view(batch, TOKENS, self.keys, 2, self.dim).permute(3, 0, 2, 1, 4)
                sees = max(0, start + 1 - past)
                cross = F.scaled_dot_product_attention(q[:, :, sees:], self.shared(rotate(rows[0], *image)), self.shared(rows[1]))
                cross = cross.transpose(1, 2).reshape(batch, count - sees, self.hidden)
                share = torch.sigmoid(gate)
                ys = torch.cat((ys[:, :sees], ys[:, sees:] * (1 - share) + cross * share), 1)
            xs = xs + F.linear(ys, *layer["out"])
            ys = F.rms_norm(xs, (self.hidden,), layer["norm2"], 1e-6)
            xs = xs + F.linear(F.silu(F.linear(ys, *layer["gate"])) * F.linear(ys, *layer["up"]), *layer["down"])
        return F.rms_norm(xs[:, -1], (self.hidden,), self.norm, 1e-6), kept


def main():
    size, tokens, start, threads = sys.argv[1], *map(int, sys.argv[2:5])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    vision, decoder = Vision(SIZES[size]["hidden"]), Decoder(**SIZES[size])
    print("ready", flush=True)
    for line in sys.stdin:
        row, batch = line.split()
        ids = torch.randint(0, VOCABULARY, (int(batch), tokens))
        pixels = torch.rand(int(batch), 3, 384, 384) * 2 - 1
        with torch.inference_mode():
            started = time.perf_counter()
            embeds = vision(pixels)
            hidden, cache = decoder(ids, embeds, start, None)
            if row == "plain":
                F.linear(hidden, decoder.embedding[:LEVELS])
            else:
                chosen = F.linear(hidden, decoder.embedding).argmax(-1)
                hidden, _ = decoder(chosen[:, None], embeds, start, cache)
                F.linear(hidden, decoder.embedding).argmax(-1)
            print(time.perf_counter() - started, flush=True)


main()
