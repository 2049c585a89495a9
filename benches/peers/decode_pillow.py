#!/usr/bin/env python3
"""Photos for the decoding benchmark, and the same work with Pillow.

    decode_pillow.py make FOLDER     writes the photos
    decode_pillow.py time FILE N     decodes and crops N times, prints the median seconds

HEIC and JPEG XL need `pillow-heif` and `pillow-jxl-plugin`, AVIF a Pillow with libavif. Each of them runs on one thread.
"""

import hashlib
import io
import statistics
import sys
import time
from pathlib import Path

from PIL import Image, features

try:
    import pillow_heif

    pillow_heif.register_heif_opener(decode_threads=1)
except ImportError:
    pillow_heif = None
try:
    import pillow_jxl

    pillow_jxl.JpegXLImagePlugin.DECODE_THREADS = 1
except ImportError:
    pillow_jxl = None
if features.check("avif"):
    from PIL import AvifImagePlugin

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1

PHOTOS = Path(__file__).parent / "../../examples/photos"
SIZE = (4000, 3000)
# The cropped region, which has a typical size of an object.
BOX = (500, 400, 2500, 1900)


def make(folder: Path) -> None:
    """Writes collages of the enlarged sample photos, with about the detail of a phone photo."""
    collage = Image.new("RGB", SIZE)
    photos = [Image.open(path).convert("RGB") for path in sorted(PHOTOS.glob("[!-]*.jpg"))]
    photos = [photo.resize((photo.width * 2, photo.height * 2), Image.LANCZOS) for photo in photos]
    index = 0
    for top in range(0, SIZE[1], 600):
        left = 0
        while left < SIZE[0]:
            collage.paste(photos[index % len(photos)].crop((0, 0, 4000, 600)), (left, top))
            left += photos[index % len(photos)].width
            index += 1
    collage.save(folder / "420.jpg", quality=85, subsampling="4:2:0")
    collage.save(folder / "420-fine.jpg", quality=92, subsampling="4:2:0")
    collage.save(folder / "444.jpg", quality=90, subsampling="4:4:4")
    collage.save(folder / "progressive.jpg", quality=85, subsampling="4:2:0", progressive=True)
    if pillow_heif:
        collage.save(folder / "420.heic", quality=75)
        collage.save(folder / "420-tiles.heic", quality=75, tile_size=512)
    if features.check("avif"):
        collage.save(folder / "420.avif", quality=75, speed=8)
    if pillow_jxl:
        collage.save(folder / "lossy.jxl", quality=85, effort=3)


def run(data: bytes) -> float:
    # Of the process, because some decoders work on a thread of their own.
    start = time.process_time()
    hashlib.sha256(data).digest()
    image = Image.open(io.BytesIO(data))
    image.load()
    image.crop(BOX)
    return time.process_time() - start


def main() -> None:
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
        return
    data = Path(sys.argv[2]).read_bytes()
    run(data)
    print(statistics.median(run(data) for _ in range(int(sys.argv[3]))))


if __name__ == "__main__":
    main()
