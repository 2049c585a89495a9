#!/usr/bin/env python3
"""Writes the two degraded sample photos beside their originals (needs Pillow 11).

    python3 examples/photos/degrade.py

A degraded photo is named `<original>-<what was done>.jpg`, so that the two can be paired by name.
"""

from pathlib import Path

from PIL import Image, ImageFilter

HERE = Path(__file__).parent


def main() -> None:
    # Out of focus: a Gaussian blur of 3 pixels, saved well so that only the blur counts.
    raccoon = Image.open(HERE / "raccoon.jpg").convert("RGB")
    raccoon.filter(ImageFilter.GaussianBlur(3)).save(
        HERE / "raccoon-blurred.jpg", quality=92, subsampling=0
    )
    # Compressed too hard: quality 8 of 100, with the visible 8 by 8 blocks that it leaves.
    coffee = Image.open(HERE / "coffee.jpg").convert("RGB")
    coffee.save(HERE / "coffee-jpeg.jpg", quality=8)


if __name__ == "__main__":
    main()
