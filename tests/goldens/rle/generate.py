"""Writes rle.json: masks with their compressed runs, area, box and union by pycocotools.

Run with Python 3, numpy and pycocotools; see README.md.
"""

import importlib.metadata
import json
import pathlib

import numpy as np
from pycocotools import mask as coco

rng = np.random.default_rng(71)


def encode(bitmap):
    return coco.encode(np.asfortranarray(bitmap.astype(np.uint8)))


def described(name, bitmap, **how):
    rle = encode(bitmap)
    x, y, width, height = (int(value) for value in coco.toBbox(rle))
    return {
        "name": name,
        **how,
        "rle": {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()},
        "area": int(coco.area(rle)),
        "bbox": [x, y, width, height] if bitmap.any() else None,
    }


def rows(bitmap):
    return ["".join("#" if pixel else "." for pixel in row) for row in bitmap]


def small(name, bitmap):
    return described(name, bitmap, rows=rows(bitmap))


def ellipse(name, width, height, centre, radii):
    y, x = np.mgrid[0:height, 0:width]
    # Whole numbers only, so that every language agrees on each pixel.
    (cx, cy), (rx, ry) = centre, radii
    bitmap = (x - cx) ** 2 * ry**2 + (y - cy) ** 2 * rx**2 <= rx**2 * ry**2
    return described(name, bitmap, ellipse={"centre": centre, "radii": radii})


def masks():
    yield small("one pixel", np.ones((1, 1)))
    yield small("one pixel, empty", np.zeros((1, 1)))
    yield small("all", np.ones((5, 3)))
    yield small("none", np.zeros((3, 5)))
    yield small("chessboard", np.indices((6, 7)).sum(0) % 2)
    yield small("first pixel", np.eye(1, 12).reshape(3, 4))
    yield small("last pixel", np.eye(1, 12, 11).reshape(3, 4))
    for index, share in enumerate((0.05, 0.3, 0.5, 0.7, 0.95)):
        height, width = rng.integers(2, 24, 2)
        yield small(f"noise {index}", rng.random((height, width)) < share)
    yield ellipse("ellipse", 640, 480, [300, 200], [111, 67])
    yield ellipse("ellipse across the border", 640, 480, [10, 470], [90, 140])
    yield ellipse("small in a large frame", 6000, 4000, [5900, 3000], [20, 35])


def unions():
    for count in (1, 2, 5):
        height, width = (int(side) for side in rng.integers(4, 20, 2))
        bitmaps = [rng.random((height, width)) < 0.25 for _ in range(count)]
        union = coco.merge([encode(bitmap) for bitmap in bitmaps])
        yield {
            "masks": [rows(bitmap) for bitmap in bitmaps],
            "union": union["counts"].decode(),
        }


document = {
    "pycocotools": importlib.metadata.version("pycocotools"),
    "masks": list(masks()),
    "unions": list(unions()),
}
path = pathlib.Path(__file__).with_name("rle.json")
path.write_text(json.dumps(document, indent=1) + "\n")
