#!/usr/bin/env python3
"""Writes the golden images beside this file, with Pillow as the reference decoder.

    python3 -m venv venv && venv/bin/pip install 'pillow==11.3.0' numpy
    venv/bin/python tests/goldens/imaging/make.py

For every case there is an input file and an `.expected.png`, what Pillow (with LittleCMS for
colour profiles) makes of it: upright, in sRGB, alpha over white. `cases.json` pairs them and gives
the tolerance and its reason; `resize.json` holds digests of resized pixels, which must be equal.
"""

import hashlib
import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

HERE = Path(__file__).parent
PHOTO = HERE / "../../../examples/photos/cat.jpg"

cases = []
# Names of the expected images by their pixels: many inputs are to become the same.
written = {}


def main() -> None:
    for old in [*HERE.glob("*.expected.png"), *HERE.glob("*.json")]:
        old.unlink()
    # An odd size, so that blocks and subsampled pixels stick out over the edges.
    base = Image.open(PHOTO).convert("RGB").resize((45, 31), Image.LANCZOS)
    jpeg(base)
    orientations(base)
    profiles(base)
    png(base)
    webp(base)
    gif(base)
    bmp(base)
    tiff(base)
    (HERE / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")
    resize()


# Tolerances: the largest difference of a sample, and the largest mean difference.
EXACT = {"largest": 0, "mean": 0, "reason": "lossless, and no arithmetic on the samples"}
ROUNDED = {"largest": 1, "mean": 0.1, "reason": "the two round alpha blending differently"}
JPEG = {"largest": 2, "mean": 0.1, "reason": "the standard leaves the inverse transform's rounding open"}
CHROMA = {"largest": 4, "mean": 0.5, "reason": "chroma upsampling filters differ between decoders"}
LOSSY = {"largest": 1, "mean": 0.1, "reason": "chroma upsampling and YUV rounding differ between decoders"}
MATRIX = {"largest": 2, "mean": 0.1, "reason": "fixed point of the colour engines"}
LUT = {"largest": 12, "mean": 2.0, "reason": "LittleCMS interpolates tetrahedra, moxcms cubes, here of a coarse table"}
TWICE = {"largest": 8, "mean": 1.6, "reason": "expected is what was there before compression"}


def plus(one: dict, other: dict) -> dict:
    return {
        "largest": one["largest"] + other["largest"],
        "mean": round(one["mean"] + other["mean"], 2),
        "reason": f"{one['reason']}; {other['reason']}",
    }


def case(name: str, data: bytes, tolerance: dict, expected: Image.Image | None = None) -> None:
    """Writes an input and what it is to become; by default what Pillow makes of it."""
    (HERE / name).write_bytes(data)
    if expected is None:
        expected = reference(data)
    expected = expected.convert("RGB")
    pixels = (expected.size, expected.tobytes())
    if pixels not in written:
        written[pixels] = name.replace(".", "-") + ".expected.png"
        expected.save(HERE / written[pixels], optimize=True, icc_profile=None)
    cases.append({"file": name, "expected": written[pixels], **tolerance})


def reference(data: bytes) -> Image.Image:
    """Pillow's way to upright, opaque sRGB."""
    image = Image.open(io.BytesIO(data))
    image.load()
    image = ImageOps.exif_transpose(image)
    icc = image.info.get("icc_profile")
    if image.mode in ("P", "PA", "1"):
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if icc is not None:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            srgb = ImageCms.createProfile("sRGB")
            alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
            plain = {"LA": "L", "RGBA": "RGB"}.get(image.mode, image.mode)
            image = ImageCms.profileToProfile(image.convert(plain), profile, srgb, outputMode="RGB")
            if alpha is not None:
                image.putalpha(alpha)
        except (OSError, ImageCms.PyCMSError):
            pass
    if image.mode in ("LA", "RGBA", "La", "RGBa"):
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def saved(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


# --- JPEG -------------------------------------------------------------------------------------


def jpeg(base: Image.Image) -> None:
    case("444.jpg", saved(base, "JPEG", quality=92, subsampling="4:4:4"), JPEG)
    case("422.jpg", saved(base, "JPEG", quality=92, subsampling="4:2:2"), CHROMA)
    case("420.jpg", saved(base, "JPEG", quality=92, subsampling="4:2:0"), CHROMA)
    case("progressive.jpg", saved(base, "JPEG", quality=92, progressive=True), CHROMA)
    restarts = saved(base, "JPEG", quality=92, subsampling="4:4:4", restart_marker_blocks=3)
    case("restarts.jpg", restarts, JPEG)
    case("grey.jpg", saved(base.convert("L"), "JPEG", quality=92), JPEG)
    rgb = saved(base, "JPEG", quality=92, keep_rgb=True)
    case("rgb.jpg", rgb, JPEG)
    case("rgb-adobe.jpg", renamed_components(rgb), JPEG, reference(rgb))

    cmyk = saved(base.convert("CMYK"), "JPEG", quality=95)
    case("cmyk-adobe.jpg", cmyk, JPEG)
    case("ycck-adobe.jpg", with_transform(cmyk, 2), plus(JPEG, JPEG))
    # Pillow and browsers take the inks as inverted also without an Adobe segment.
    unmarked = without_segment(saved(base.convert("CMYK"), "JPEG", quality=95), 0xEE)
    case("cmyk-unmarked.jpg", unmarked, TWICE, base.convert("CMYK").convert("RGB"))


def segments(data: bytes):
    """Yields (marker, start, end) of every segment before the image data, and of its header."""
    at = 2
    while True:
        marker = data[at + 1]
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        yield marker, at, at + 2 + length
        if marker == 0xDA:
            return
        at += 2 + length


def without_segment(data: bytes, wanted: int) -> bytes:
    for marker, start, end in segments(data):
        if marker == wanted:
            return data[:start] + data[end:]
    raise ValueError(f"no segment {wanted:02x}")


def with_transform(data: bytes, transform: int) -> bytes:
    """Changes the colour transform of the Adobe segment."""
    for marker, _, end in segments(data):
        if marker == 0xEE:
            return data[: end - 1] + bytes([transform]) + data[end:]
    raise ValueError("no Adobe segment")


def renamed_components(data: bytes) -> bytes:
    """Names the components 1, 2, 3 instead of R, G, B, and adds the Adobe segment that says RGB."""
    out = bytearray(data)
    has_adobe = False
    for marker, start, _ in segments(data):
        has_adobe |= marker == 0xEE
        if marker == 0xC0:
            for index in range(3):
                out[start + 10 + 3 * index] = index + 1
        elif marker == 0xDA:
            for index in range(3):
                out[start + 5 + 2 * index] = index + 1
    if not has_adobe:
        adobe = b"\xff\xee" + struct.pack(">H", 14) + b"Adobe" + struct.pack(">HHHB", 100, 0, 0, 0)
        out[2:2] = adobe
    return bytes(out)


# --- Orientation ------------------------------------------------------------------------------


def orientations(base: Image.Image) -> None:
    for value in range(1, 9):
        data = saved(base, "JPEG", quality=92, subsampling="4:4:4", exif=exif(value))
        case(f"orientation-{value}.jpg", data, JPEG)
    case("orientation-6.png", saved(base, "PNG", exif=exif(6)), EXACT)
    case("orientation-8.webp", saved(base, "WEBP", lossless=True, exif=exif(8)), EXACT)
    # Pillow has already turned a TIFF when it hands it over.
    expected = base.transpose(Image.Transpose.TRANSPOSE)
    case("orientation-5.tif", saved(base, "TIFF", tiffinfo={274: 5}), EXACT, expected)


# --- Colour profiles --------------------------------------------------------------------------


def profiles(base: Image.Image) -> None:
    p3 = matrix_profile(
        [(0.5151, 0.2412, -0.0011), (0.2919, 0.6922, 0.0419), (0.1572, 0.0666, 0.7841)], 2.2
    )
    adobe = matrix_profile(
        [(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)],
        2.19921875,
    )
    full = dict(quality=95, subsampling="4:4:4")
    case("icc-p3.jpg", saved(base, "JPEG", **full, icc_profile=p3), plus(JPEG, MATRIX))
    case("icc-p3.png", saved(base, "PNG", icc_profile=p3), MATRIX)
    case("icc-adobe-rgb.webp", saved(base, "WEBP", lossless=True, icc_profile=adobe), MATRIX)
    case("icc-adobe-rgb.tif", saved(base, "TIFF", compression="tiff_lzw", icc_profile=adobe), MATRIX)
    rgba = base.copy()
    rgba.putalpha(gradient(base.size))
    case("icc-alpha.png", saved(rgba, "PNG", icc_profile=p3), plus(MATRIX, ROUNDED))
    sixteen = np.asarray(base).astype(np.uint16) * 257
    case("icc-sixteen.png", png_file(sixteen, 16, 2, icc=p3), MATRIX, reference(saved(base, "PNG", icc_profile=p3)))
    grey = base.convert("L")
    case("icc-grey.jpg", saved(grey, "JPEG", quality=95, icc_profile=grey_profile(1.8)), plus(JPEG, MATRIX))
    inks = cmyk_profile()
    cmyk = base.convert("CMYK")
    case("icc-cmyk.jpg", saved(cmyk, "JPEG", quality=95, icc_profile=inks), plus(JPEG, LUT))
    case("icc-cmyk.tif", saved(cmyk, "TIFF", compression="tiff_lzw", icc_profile=inks), LUT)
    srgb = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    srgb[24:36] = bytes(12)  # the time of creation
    srgb = bytes(srgb)
    case("icc-srgb.png", saved(base, "PNG", icc_profile=srgb), EXACT, base)
    # Profiles that cannot be used leave the samples as they are.
    case("icc-broken.png", saved(base, "PNG", icc_profile=p3[:150]), EXACT, base)
    case("icc-noise.jpg", saved(base, "JPEG", **full, icc_profile=bytes(range(200))), JPEG)
    case("icc-of-inks.png", saved(base, "PNG", icc_profile=inks), EXACT, base)


def profile(space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr", pcs: bytes = b"XYZ ") -> bytes:
    """An ICC profile of version 2.4 with the given tags."""
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78), **tags}
    table, data = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    header = struct.pack(">I4sI", start + len(data), b"none", 0x02400000)
    header += kind + space + pcs + struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp"
    header += bytes(28) + xyz(0.9642, 1.0, 0.8249)[8:] + bytes(48)
    return header + table + data


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(v * 65536)) for v in values)


def curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def matrix_profile(primaries, gamma: float) -> bytes:
    tags = {b"wtpt": xyz(0.9642, 1.0, 0.8249)}
    for name, primary in zip((b"r", b"g", b"b"), primaries):
        tags[name + b"XYZ"] = xyz(*primary)
        tags[name + b"TRC"] = curve(gamma)
    return profile(b"RGB ", tags)


def grey_profile(gamma: float) -> bytes:
    return profile(b"GRAY", {b"wtpt": xyz(0.9642, 1.0, 0.8249), b"kTRC": curve(gamma)})


def cmyk_profile() -> bytes:
    """Four inks to Lab through a table of 5 steps an ink: a made-up press with dull colours."""
    steps = 5
    body = bytearray()
    for c in range(steps):
        for m in range(steps):
            for y in range(steps):
                for k in range(steps):
                    c_, m_, y_, k_ = (v / (steps - 1) for v in (c, m, y, k))
                    light = 95 * (1 - 0.4 * c_) * (1 - 0.45 * m_) * (1 - 0.1 * y_) * (1 - 0.88 * k_)
                    keep = 1 - 0.9 * k_
                    a = keep * (-35 * c_ + 70 * m_ - 5 * y_)
                    b = keep * (-45 * c_ - 5 * m_ + 80 * y_)
                    body += bytes([round(light * 2.55), round(a + 128), round(b + 128)])
    identity = bytes(range(256))
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = b"mft1\0\0\0\0" + bytes([4, 3, steps, 0]) + matrix
    table += identity * 4 + bytes(body) + identity * 3
    return profile(b"CMYK", {b"wtpt": xyz(0.9642, 1.0, 0.8249), b"A2B0": table}, b"prtr", b"Lab ")


# --- PNG --------------------------------------------------------------------------------------


def gradient(size) -> Image.Image:
    width, height = size
    return Image.fromarray(np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1)))


def png(base: Image.Image) -> None:
    case("rgb.png", saved(base, "PNG"), EXACT)
    rgba = base.copy()
    rgba.putalpha(gradient(base.size))
    case("alpha.png", saved(rgba, "PNG"), ROUNDED)
    case("grey-alpha.png", saved(rgba.convert("LA"), "PNG"), ROUNDED)
    case("grey.png", saved(base.convert("L"), "PNG"), EXACT)
    case("one-bit.png", saved(base.convert("1"), "PNG"), EXACT)
    palette = base.quantize(12)
    case("palette.png", saved(palette, "PNG"), EXACT)
    case("palette-transparent.png", saved(palette, "PNG", transparency=bytes([0, 128, 255])), ROUNDED)

    # Sixteen bits, beyond what Pillow writes; expected is the rounded nearest of 8 bits.
    values = np.linspace(0, 65535, 45 * 31 * 3).astype(np.uint16)
    values = np.random.default_rng(1).permutation(values).reshape(31, 45, 3)
    nearest = Image.fromarray(np.round(values / 257).astype(np.uint8))
    case("sixteen.png", png_file(values, 16, 2), EXACT, nearest)
    grey = Image.fromarray(np.round(values[:, :, 0] / 257).astype(np.uint8))
    case("sixteen-grey.png", png_file(values[:, :, :1], 16, 0), EXACT, grey)


def png_file(samples: np.ndarray, depth: int, colour: int, icc: bytes | None = None) -> bytes:
    def chunk(name: bytes, payload: bytes) -> bytes:
        checksum = zlib.crc32(name + payload)
        return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", checksum)

    height, width, _ = samples.shape
    rows = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    if icc is not None:
        out += chunk(b"iCCP", b"icc\0\0" + zlib.compress(icc))
    return out + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")


# --- The others -------------------------------------------------------------------------------


def webp(base: Image.Image) -> None:
    rgba = base.copy()
    rgba.putalpha(gradient(base.size))
    case("lossy.webp", saved(base, "WEBP", quality=90), LOSSY)
    case("lossless.webp", saved(base, "WEBP", lossless=True), EXACT)
    case("alpha.webp", saved(rgba, "WEBP", lossless=True, exact=True), ROUNDED)
    other = base.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    data = saved(base, "WEBP", save_all=True, append_images=[other], lossless=True, duration=100)
    case("animated.webp", data, EXACT, base)


def gif(base: Image.Image) -> None:
    palette = base.quantize(32)
    case("plain.gif", saved(palette, "GIF"), EXACT)
    case("transparent.gif", saved(palette, "GIF", transparency=3), EXACT)
    other = base.transpose(Image.Transpose.FLIP_LEFT_RIGHT).quantize(32)
    case("animated.gif", saved(palette, "GIF", save_all=True, append_images=[other], duration=100), EXACT)
    case("interlaced.gif", saved(palette, "GIF", interlace=1), EXACT)


def bmp(base: Image.Image) -> None:
    case("rgb.bmp", saved(base, "BMP"), EXACT)
    case("palette.bmp", saved(base.quantize(32), "BMP"), EXACT)
    case("grey.bmp", saved(base.convert("L"), "BMP"), EXACT)
    case("one-bit.bmp", saved(base.convert("1"), "BMP"), EXACT)


def tiff(base: Image.Image) -> None:
    grey = base.convert("L")
    case("raw.tif", saved(base, "TIFF"), EXACT)
    case("deflate.tif", saved(base, "TIFF", compression="tiff_adobe_deflate"), EXACT)
    case("predictor.tif", saved(base, "TIFF", compression="tiff_lzw", tiffinfo={317: 2}), EXACT)
    case("packbits.tif", saved(base, "TIFF", compression="packbits"), EXACT)
    case("jpeg.tif", saved(base, "TIFF", compression="jpeg", quality=92), CHROMA)
    case("grey.tif", saved(grey, "TIFF"), EXACT)
    case("white-is-zero.tif", saved(grey, "TIFF", tiffinfo={262: 0}), EXACT)
    case("one-bit.tif", saved(base.convert("1"), "TIFF"), EXACT)
    case("fax.tif", saved(base.convert("1"), "TIFF", compression="group4"), EXACT)
    case("palette.tif", saved(base.quantize(32), "TIFF"), EXACT)
    case("cmyk.tif", saved(base.convert("CMYK"), "TIFF"), EXACT)
    rgba = base.copy()
    rgba.putalpha(gradient(base.size))
    case("alpha.tif", saved(rgba, "TIFF"), ROUNDED)
    case("grey-alpha.tif", saved(rgba.convert("LA"), "TIFF"), ROUNDED)
    values = np.linspace(0, 65535, 45 * 31).astype(np.uint16).reshape(31, 45)
    nearest = Image.fromarray(np.round(values / 257).astype(np.uint8))
    case("sixteen.tif", saved(Image.fromarray(values), "TIFF"), EXACT, nearest)
    case("float.tif", saved(Image.fromarray((values / 65535).astype(np.float32)), "TIFF"), EXACT, nearest)
    big_endian = Image.frombytes("I;16B", base.size, values.astype(">u2").tobytes())
    case("big-endian.tif", saved(big_endian, "TIFF"), EXACT, nearest)
    case("big.tif", saved(base, "TIFF", big_tiff=True), EXACT)

    # What Pillow does not write.
    pixels = np.asarray(base)
    planes = [pixels[:, :, channel].tobytes() for channel in range(3)]
    case("planes.tif", tiff_file(base.size, 2, [8] * 3, planes, {284: [2]}), EXACT, base)
    quarters = np.asarray(grey) // 16
    packed = np.pad(quarters, ((0, 0), (0, 1)))
    packed = packed[:, ::2] * 16 + packed[:, 1::2]
    sixteenths = Image.fromarray(quarters * 17)
    case("four-bits.tif", tiff_file(base.size, 1, [4], [packed.tobytes()], {}), EXACT, sixteenths)
    alpha = np.asarray(gradient(base.size)).astype(np.uint16)[:, :, None]
    multiplied = np.concatenate([pixels * alpha // 255, alpha], axis=2).astype(np.uint8)
    over_white = multiplied[:, :, :3] + (255 - alpha)
    data = tiff_file(base.size, 2, [8] * 4, [multiplied.tobytes()], {338: [1]})
    case("multiplied-alpha.tif", data, ROUNDED, Image.fromarray(over_white.astype(np.uint8)))
    floats = (pixels / 255).astype("<f4").tobytes()
    data = tiff_file(base.size, 2, [32] * 3, [floats], {339: [3] * 3})
    case("float-rgb.tif", data, EXACT, base)
    case("pages.tif", saved(base, "TIFF", save_all=True, append_images=[grey]), EXACT)


def tiff_file(size, photometric: int, bits: list[int], strips: list[bytes], more: dict) -> bytes:
    """An uncompressed little-endian TIFF file; every tag is a list of 16-bit numbers."""
    width, height = size
    tags = {256: [width], 257: [height], 258: bits, 259: [1], 262: [photometric]}
    tags |= {277: [len(bits)], 278: [height], **more}
    tags |= {279: [len(strip) for strip in strips], 273: [0] * len(strips)}
    start = 8 + 2 + 12 * len(tags) + 4
    outside = {}  # values that do not fit into their entries
    for tag, values in tags.items():
        if len(values) > 2:
            outside[tag] = start
            start += 2 * len(values)
    tags[273] = [start + sum(map(len, strips[:index])) for index in range(len(strips))]
    out = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}H", *values).ljust(4, b"\0")
        value = struct.pack("<I", outside[tag]) if tag in outside else packed
        out += struct.pack("<HHI", tag, 3, len(values)) + value
    out += bytes(4)
    for tag in outside:
        out += struct.pack(f"<{len(tags[tag])}H", *tags[tag])
    return out + b"".join(strips)


# --- Resizing ---------------------------------------------------------------------------------


def resize() -> None:
    """Digests of resized pixels; the source is computed in the same way by the test."""
    width, height = 157, 103
    state, samples = 1, bytearray()
    for _ in range(width * height * 3):
        state = (state * 1103515245 + 12345) % 2**31
        samples.append(state >> 23)
    source = Image.frombytes("RGB", (width, height), bytes(samples))
    filters = {
        "box": Image.Resampling.BOX,
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
        "lanczos": Image.Resampling.LANCZOS,
    }
    sizes = [(157, 103), (1, 1), (50, 40), (156, 103), (157, 20), (400, 300), (3, 500), (378, 378), (20, 11)]
    digests = [
        {
            "filter": name,
            "width": w,
            "height": h,
            "sha256": hashlib.sha256(source.resize((w, h), kind).tobytes()).hexdigest(),
        }
        for name, kind in filters.items()
        for w, h in sizes
    ]
    (HERE / "resize.json").write_text(json.dumps(digests, indent=1) + "\n")


if __name__ == "__main__":
    main()
