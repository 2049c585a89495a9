"""CLIP's RN50 in open_clip on PyTorch on the CPU: the same work as `benches/clip_iqa.rs`.

    python3 benches/peers/clip_iqa_torch.py whole 3 2     row, runs, threads

The image tower is open_clip's own. As in CLIP-IQA, its attention pool has no positions, so that it reads any
size; the pool is open_clip's otherwise. Prints the seconds of each run. If open_clip is missing, the script
creates its own virtual environment under target/peers and installs it there. Weights are random, so no model is
downloaded.
"""

import sys
import time

try:
    import open_clip
    import torch
except ImportError:
    from virtual_environment import restart_in

    restart_in("clip_iqa", ["torch", "open_clip_torch"])

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
DEVIATION = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
SIZES = {"whole": [(768, 1024)], "objects": [(256, 341)] * 9, "large": [(2048, 2048)]}


def feature(tower, photo):
    pixels = ((photo.float() / 255 - MEAN) / DEVIATION)[None]
    cells = (pixels.shape[2] // 32) * (pixels.shape[3] // 32)
    # Positions of zero, of the image's own number.
    tower.attnpool.positional_embedding.data = torch.zeros(cells + 1, 2048)
    return tower(pixels)


@torch.inference_mode()
def main(row, runs, threads):
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    model = open_clip.create_model("RN50-quickgelu", pretrained=None).eval()
    if row == "prompts":
        prompts = torch.randint(1, 49000, (10, 77))
        prompts[:, 5] = 49407
        work = lambda: model.encode_text(prompts)
    else:
        photos = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in SIZES[row]]
        work = lambda: [feature(model.visual, photo) for photo in photos]
    work()
    seconds = []
    for _ in range(int(runs)):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    print(*seconds)


main(*sys.argv[1:])
