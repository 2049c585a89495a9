#!/usr/bin/env python3
"""Writes the JPEG files that the tests damage, with Pillow, from a photograph of the examples."""

from pathlib import Path

from PIL import Image

here = Path(__file__).parent
photo = Image.open(here / "../../../examples/photos/cat.jpg").convert("RGB")
photo.thumbnail((192, 192), Image.LANCZOS)
photo.save(here / "420.jpg", quality=85, subsampling="4:2:0")
photo.save(here / "444.jpg", quality=92, subsampling="4:4:4", optimize=True)
photo.save(here / "progressive.jpg", quality=85, subsampling="4:2:0", progressive=True)
photo.save(here / "restarts.jpg", quality=85, subsampling="4:2:0", restart_marker_rows=1)
photo.convert("L").save(here / "grey.jpg", quality=85)
