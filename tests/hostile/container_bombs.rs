//! Bombs in the container of HEIC and AVIF, and in JPEG XL: small files with lists, loops and sizes
//! that cost much. Each is refused, or decoded within the memory that its limits allow.

use std::time::{Duration, Instant};

use allocation_counter::measure;
use dog_iqa::imaging::{Settings, decode as decode_image};

use super::bombs::{decode_measured, with};
use super::decode;
use super::images::file;

/// Time for a file of less than 100 kB, in a build without optimisation of this crate.
const TIME_MAX: Duration = Duration::from_secs(5);

fn code(bytes: &[u8]) -> String {
    let started = Instant::now();
    let outcome = decode_measured(bytes);
    assert!(started.elapsed() < TIME_MAX, "it took {:?}", started.elapsed());
    outcome.map_or_else(|error| error.code().to_owned(), |picture| format!("{picture:?}"))
}

fn part(kind: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len() + 8).unwrap();
    [&len.to_be_bytes()[..], &kind, payload].concat()
}

/// Returns a box with a version and flags.
fn full(kind: [u8; 4], version: u8, payload: &[u8]) -> Vec<u8> {
    part(kind, &[&[version, 0, 0, 0], payload].concat())
}

fn short(number: usize) -> [u8; 2] {
    u16::try_from(number).unwrap().to_be_bytes()
}

/// An item: its kind, its data inside of the directory, its size and the items that it refers to.
struct Item {
    kind: &'static [u8; 4],
    data: Vec<u8>,
    size: (u32, u32),
    sources: Vec<usize>,
}

/// Returns a file whose first item is the primary one. Items are numbered from 1 on.
fn heif(items: &[Item]) -> Vec<u8> {
    let (mut kinds, mut locations, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut links, mut references, mut data) = (Vec::new(), Vec::new(), Vec::new());
    for (index, item) in items.iter().enumerate() {
        let id = short(index + 1);
        kinds.extend(full(*b"infe", 2, &[&id[..], &[0, 0], item.kind, &[0]].concat()));
        let at = u32::try_from(data.len()).unwrap().to_be_bytes();
        let len = u32::try_from(item.data.len()).unwrap().to_be_bytes();
        locations.extend([&id[..], &[0, 1, 0, 0, 0, 1], &at, &len].concat());
        data.extend(&item.data);
        let size = [item.size.0.to_be_bytes(), item.size.1.to_be_bytes()].concat();
        sizes.extend(full(*b"ispe", 0, &size));
        links.extend([&id[..], &[1], &[u8::try_from(index + 1).unwrap()]].concat());
        if !item.sources.is_empty() {
            let sources: Vec<u8> = item.sources.iter().flat_map(|id| short(*id)).collect();
            let count = short(item.sources.len());
            references.extend(part(*b"dimg", &[&id[..], &count, &sources].concat()));
        }
    }
    let count = short(items.len());
    let entries = u32::try_from(items.len()).unwrap().to_be_bytes();
    let links = full(*b"ipma", 0, &[&entries[..], &links].concat());
    let meta = [
        full(*b"pitm", 0, &short(1)),
        full(*b"iinf", 0, &[&count[..], &kinds].concat()),
        full(*b"iloc", 1, &[&[0x44, 0], &count[..], &locations].concat()),
        part(*b"iprp", &[part(*b"ipco", &sizes), links].concat()),
        full(*b"iref", 0, &references),
        part(*b"idat", &data),
    ];
    [part(*b"ftyp", b"heic\0\0\0\0mif1heic"), full(*b"meta", 0, &meta.concat())].concat()
}

fn grid(rows: u8, columns: u8, width: u16, height: u16, tile: (u32, u32)) -> Vec<u8> {
    let count = (usize::from(rows) + 1) * (usize::from(columns) + 1);
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let data = [&[0, 0, rows, columns], &size[..]].concat();
    let size = (u32::from(width), u32::from(height));
    heif(&[
        Item { kind: b"grid", data, size, sources: vec![2; count.min(65_535)] },
        Item { kind: b"hvc1", data: vec![0; 100], size: tile, sources: vec![] },
    ])
}

#[test]
fn a_grid_whose_tiles_do_not_fit_its_size_is_refused() {
    // Far more tiles than pixels, and tiles far larger than the image.
    assert_eq!(code(&grid(254, 255, 40, 40, (64, 64))), "decode.corrupt");
    assert_eq!(code(&grid(0, 0, 40, 40, (60_000, 60_000))), "decode.corrupt");
    assert_eq!(code(&grid(1, 1, 200, 200, (0, 0))), "decode.corrupt");
}

#[test]
fn a_grid_whose_tiles_share_their_data_is_refused_early() {
    let mut bytes = grid(15, 15, 256, 256, (16, 16));
    let picture = code(&bytes);
    assert!(picture.starts_with("decode."), "{picture}");
    // The data of each tile is the rest of the file.
    let location = bytes.windows(4).position(|window| window == [0, 0, 0, 100]).unwrap();
    bytes[location..location + 4].fill(0);
    bytes.resize(60_000, 0);
    assert_eq!(code(&bytes), "decode.corrupt");
}

#[test]
fn images_that_are_made_of_themselves_are_refused() {
    let item =
        |kind, data: &[u8]| Item { kind, data: data.to_vec(), size: (9, 9), sources: vec![1] };
    let overlay = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 9, 0, 0, 0, 0];
    let grid = [0, 0, 0, 0, 0, 9, 0, 9];
    assert_eq!(code(&heif(&[item(b"iden", b"")])), "decode.unsupported_feature");
    assert_eq!(code(&heif(&[item(b"iovl", &overlay)])), "decode.unsupported_feature");
    assert_eq!(code(&heif(&[item(b"grid", &grid)])), "decode.unsupported_feature");
}

#[test]
fn item_locations_without_bytes_are_refused() {
    // Each of 60,000 items claims 65,535 parts, whose offsets and lengths take no bytes.
    let mut locations = [&[0, 0][..], &short(60_000)].concat();
    locations.extend([0, 1, 0, 0, 0xff, 0xff].repeat(60_000));
    let meta = [full(*b"pitm", 0, &short(1)), full(*b"iloc", 0, &locations)].concat();
    let bytes = [part(*b"ftyp", b"heic\0\0\0\0mif1heic"), full(*b"meta", 0, &meta)].concat();
    assert_eq!(code(&bytes), "decode.corrupt");
}

#[test]
fn deep_boxes_and_many_boxes_cost_nothing() {
    let mut nested = Vec::new();
    for _ in 0..10_000 {
        nested = part(*b"meta", &nested);
    }
    let head = part(*b"ftyp", b"avif\0\0\0\0mif1avif");
    assert!(code(&[head.clone(), nested].concat()).starts_with("decode."));
    let many = part(*b"free", b"").repeat(100_000);
    let grey = file("grey.avif");
    let at = head.len();
    assert_eq!(code(&[head, many].concat()), "decode.truncated");
    // Boxes between the others move the data away from where its offset points.
    assert!(code(&with(grey, at, &part(*b"free", b"").repeat(10_000))).starts_with("decode."));
}

#[test]
fn a_picture_larger_than_its_container_claims_is_not_decoded() {
    for name in ["444.heic", "444.avif"] {
        let mut bytes = file(name);
        let size = bytes.windows(4).position(|window| window == b"ispe").unwrap() + 8;
        bytes[size + 3] = 1;
        bytes[size + 7] = 1;
        let picture = code(&bytes);
        assert!(picture.starts_with("decode.") || picture.contains("width: 1,"), "{picture}");
        // A claim of more than the picture has.
        bytes[size + 2] = 0xf0;
        bytes[size + 6] = 0xf0;
        assert_eq!(code(&bytes), "decode.too_large", "{name}");
        bytes[size + 6] = 0;
        assert!(code(&bytes).starts_with("decode."), "{name}");
    }
}

#[test]
fn a_large_claim_in_a_few_bytes_is_refused_before_its_pixels_are_allocated() {
    let settings = Settings::default();
    for name in ["420.heic", "420.avif"] {
        let mut bytes = file(name);
        let size = bytes.windows(4).position(|window| window == b"ispe").unwrap() + 8;
        bytes[size..size + 8].copy_from_slice(&[0, 0, 0x27, 0x10, 0, 0, 0x27, 0x10]);
        let refused = |bytes: &[u8], bytes_max| {
            let mut error = None;
            let used = measure(|| error = decode_image(bytes, &settings).err());
            assert!(used.bytes_max < bytes_max, "{name}: {} bytes", used.bytes_max);
            error.unwrap()
        };
        let error = refused(&bytes, 64 << 10);
        assert_eq!(error.code(), "decode.too_large", "{error}");
        assert!(error.to_string().contains("10000×10000 px in "), "{error}");
        // Below that limit a claim is believed, and the data contradicts it.
        bytes[size..size + 8].copy_from_slice(&[0, 0, 0x0b, 0xb8, 0, 0, 0x0b, 0xb8]);
        let error = refused(&bytes, 8 << 20);
        assert_eq!(error.code(), "decode.corrupt", "{error}");
    }
}

#[test]
fn a_jpeg_xl_header_with_a_large_claim_is_refused() {
    // 65,536 × 65,536 pixels: both sides have 18 bits.
    let bytes =
        [b"\xff\x0a".as_slice(), &[0xf8, 0xff, 0x7f, 0xff, 0xff, 0x07, 0xff, 0xff]].concat();
    assert!(code(&bytes).starts_with("decode."));
    assert!(!decode::check(&bytes));
    let bare = file("lossy.jxl");
    for len in 2..40 {
        assert!(code(&bare[..len]).starts_with("decode."), "{len} bytes");
    }
}

#[test]
fn a_jpeg_xl_box_that_unpacks_to_much_is_skipped() {
    let bytes = file("container.jxl");
    // After the signature and the file type.
    let brotli = [b"Exif".as_slice(), &vec![0x5b; 20_000]].concat();
    let expected = decode_image(&bytes, &decode::settings()).unwrap();
    let picture = decode_measured(&with(bytes, 32, &part(*b"brob", &brotli))).unwrap();
    assert_eq!(picture.pixels(), expected.pixels());
}
