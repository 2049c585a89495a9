"""Qwen3.5-VL in transformers on PyTorch on the CPU: the same work as `benches/qwen3_5_vl.rs`.

    echo 256 256 1 | python3 benches/peers/qwen3_5_vl_torch.py 24 2     decoder layers, threads

Reads a line for each run: width and height of the images, and their number. Prints its seconds. The shape is that of
the 0.8B, with a table of few tokens, of which a rating needs no more. Weights are random, so no model is downloaded. If
transformers is missing, the script creates its own virtual environment under target/peers and installs it there.
"""

import sys
import time

try:
    import torch
    from transformers.models.qwen3_5.configuration_qwen3_5 import Qwen3_5Config
    from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5Model
except ImportError:
    from virtual_environment import restart_in

    restart_in("qwen3_5_vl", ["torch", "transformers"])

BEFORE, AFTER = 5, 28
IMAGE, VISION_START = 60, 61


def model(layers):
    text = {
        "vocab_size": 64,
        "hidden_size": 1024,
        "intermediate_size": 3584,
        "num_hidden_layers": layers,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 16,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "full_attention_interval": 4,
        "pad_token_id": 0,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e7,
            "partial_rotary_factor": 0.25,
            "mrope_section": [11, 11, 10],
            "mrope_interleaved": True,
        },
    }
    vision = {
        "depth": 12,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_heads": 12,
        "out_hidden_size": 1024,
        "num_position_embeddings": 2304,
        "patch_size": 16,
        "temporal_patch_size": 2,
        "spatial_merge_size": 2,
    }
    config = Qwen3_5Config(
        text_config=text,
        vision_config=vision,
        image_token_id=IMAGE,
        video_token_id=62,
        vision_start_token_id=VISION_START,
        vision_end_token_id=63,
    )
    return Qwen3_5Model(config).eval()


def inputs(width, height, count):
    rows, columns = height // 16, width // 16
    tokens = rows * columns // 4
    # A patch has two equal frames of 16 x 16 pixels in three channels.
    pixels = torch.rand(count * rows * columns, 2 * 3 * 16 * 16) * 2 - 1
    grids = torch.tensor([[1, rows, columns]] * count)
    line = [1] * (BEFORE - 1) + [VISION_START] + [IMAGE] * tokens + [1] * AFTER
    ids = torch.tensor([line] * count)
    kinds = (ids == IMAGE).int()
    return {"input_ids": ids, "pixel_values": pixels, "image_grid_thw": grids, "mm_token_type_ids": kinds}


@torch.inference_mode()
def main(layers, threads):
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    network = model(int(layers))
    print("ready", flush=True)
    warm = set()
    for line in sys.stdin:
        width, height, count = map(int, line.split())
        # The first run of a size is slower. One image is enough to warm up.
        if (width, height) not in warm:
            network(**inputs(width, height, 1), use_cache=False)
            warm.add((width, height))
        prompts = inputs(width, height, count)
        started = time.perf_counter()
        network(**prompts, use_cache=False)
        print(time.perf_counter() - started, flush=True)


main(*sys.argv[1:])
