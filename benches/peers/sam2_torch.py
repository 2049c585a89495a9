"""SAM 2 from Hugging Face transformers in PyTorch on the CPU: the same work as `benches/sam2.rs`.

    python3 benches/peers/sam2_torch.py tiny encoder 3 2     size, stage, runs, threads

Prints the seconds of each run. If PyTorch is missing, the script creates its own virtual environment under
target/peers and installs it there. Weights are random, so no model is downloaded.
"""

import sys
import time

try:
    import torch
    import torchvision
    from transformers import Sam2Config, Sam2Model
except ImportError:
    from virtual_environment import restart_in

    restart_in("sam2", ["torch", "torchvision", "transformers", "pillow"])

BACKBONES = {
    "tiny": dict(hidden_size=96, num_attention_heads=1, blocks_per_stage=[1, 2, 7, 2],
                 embed_dim_per_stage=[96, 192, 384, 768], num_attention_heads_per_stage=[1, 2, 4, 8],
                 window_size_per_stage=[8, 4, 14, 7], global_attention_blocks=[5, 7, 9]),
    "large": dict(hidden_size=144, num_attention_heads=2, blocks_per_stage=[2, 6, 36, 4],
                  embed_dim_per_stage=[144, 288, 576, 1152], num_attention_heads_per_stage=[2, 4, 8, 16],
                  window_size_per_stage=[8, 4, 16, 8], global_attention_blocks=[23, 33, 43]),
}
WIDTH, HEIGHT, SIDE, CLICKS = 1024, 768, 32, 64


def build(size):
    backbone = dict(model_type="sam2_hiera_det_model", **BACKBONES[size])
    channels = list(reversed(backbone["embed_dim_per_stage"]))
    config = Sam2Config(vision_config=dict(model_type="sam2_vision_model", backbone_config=backbone,
                                           backbone_channel_list=channels))
    torch.manual_seed(0)
    return Sam2Model(config).eval()


def normalised(photo):
    image = torchvision.transforms.functional.resize(photo.float() / 255, [1024, 1024], antialias=True)
    return torchvision.transforms.functional.normalize(image, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])[None]


def decode(model, embeddings, points):
    output = model(image_embeddings=embeddings, input_points=points[None, :, None, :],
                   input_labels=torch.ones(1, len(points), 1, dtype=torch.int), multimask_output=True)
    return output.pred_masks[0], output.iou_scores[0]


def whole(model, photo):
    """Does the work of `SAM2AutomaticMaskGenerator` with one crop: every mask is upscaled, then filtered
    with a threshold that half of the masks pass. Unlike the reference, it encodes only the masks that
    remain at the end, which saves the many runs of noise."""
    embeddings = model.get_image_embeddings(normalised(photo))
    offset = 1 / (2 * SIDE)
    line = torch.linspace(offset, 1 - offset, SIDE)
    grid = torch.stack([line.repeat(SIDE), line.repeat_interleave(SIDE)], 1) * 1024
    boxes, scores, kept = [], [], []
    for points in grid.split(CLICKS):
        masks, iou = decode(model, embeddings, points)
        masks = torch.nn.functional.interpolate(masks, (HEIGHT, WIDTH), mode="bilinear", align_corners=False)
        masks, iou = masks.flatten(0, 1), iou.flatten()
        passes = iou > iou.median()
        masks, iou = masks[passes], iou[passes]
        sure = (masks > 1.0).flatten(1).sum(1, dtype=torch.int32)
        possible = (masks > -1.0).flatten(1).sum(1, dtype=torch.int32)
        passes = (sure / possible) >= 0.0
        masks, iou = masks[passes] > 0.0, iou[passes]
        boxes.append(torchvision.ops.masks_to_boxes(masks))
        scores.append(iou)
        kept.extend(masks)
    stay = torchvision.ops.nms(torch.cat(boxes).float(), torch.cat(scores), 0.7)
    flat = [kept[index].t().flatten() for index in stay]
    return [torch.diff((mask[1:] ^ mask[:-1]).nonzero()[:, 0]).tolist() for mask in flat]


@torch.inference_mode()
def main(size, stage, runs, threads):
    torch.set_num_threads(int(threads))
    model = build(size)
    photo = torch.randint(0, 256, (3, HEIGHT, WIDTH), dtype=torch.uint8)
    if stage == "encoder":
        image = normalised(photo)
        work = lambda: model.get_image_embeddings(image)
    elif stage == "decoder":
        embeddings = model.get_image_embeddings(normalised(photo))
        points = torch.rand(CLICKS, 2) * 1024
        work = lambda: decode(model, embeddings, points)
    else:
        work = lambda: whole(model, photo)
    if stage != "whole":
        work()
    seconds = []
    for _ in range(int(runs)):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    print(*seconds)


main(*sys.argv[1:])
