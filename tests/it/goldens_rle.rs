//! Run-length encodings against pycocotools.

use dog_iqa::method::{BoundingBox, Rle};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Golden {
    masks: Vec<Described>,
    unions: Vec<Union>,
}

#[derive(Deserialize)]
struct Described {
    name: String,
    rows: Option<Vec<String>>,
    ellipse: Option<Ellipse>,
    rle: Value,
    area: u64,
    bbox: Option<BoundingBox>,
}

#[derive(Deserialize)]
struct Ellipse {
    centre: [i64; 2],
    radii: [i64; 2],
}

#[derive(Deserialize)]
struct Union {
    masks: Vec<Vec<String>>,
    union: String,
}

fn golden() -> Golden {
    let json = include_str!("../goldens/rle/rle.json");
    serde_json::from_str(json).expect("the golden file is valid")
}

fn from_rows(rows: &[String]) -> Rle {
    let bitmap: Vec<bool> = rows.iter().flat_map(|row| row.bytes().map(|c| c == b'#')).collect();
    let side = |length| u32::try_from(length).expect("a golden is small");
    let (width, height) = (side(rows[0].len()), side(rows.len()));
    Rle::from_bitmap(width, height, &bitmap).expect("the rows fill the frame")
}

fn from_ellipse([height, width]: [u32; 2], ellipse: &Ellipse) -> Rle {
    let ([cx, cy], [rx, ry]) = (ellipse.centre, ellipse.radii);
    let is_inside = |x, y| {
        let (dx, dy) = (i64::from(x) - cx, i64::from(y) - cy);
        dx * dx * ry * ry + dy * dy * rx * rx <= rx * rx * ry * ry
    };
    Rle::from_row_major(width, height, is_inside).expect("the frame has pixels")
}

#[test]
fn encoding_area_and_box_equal_pycocotools() {
    let masks = golden().masks;
    assert!(masks.len() >= 15, "only {} masks", masks.len());
    for described in masks {
        let Described { name, rle, .. } = &described;
        let theirs: Rle = serde_json::from_value(rle.clone()).unwrap();
        let ours = match (&described.rows, &described.ellipse) {
            (Some(rows), _) => from_rows(rows),
            (None, Some(ellipse)) => from_ellipse([theirs.height(), theirs.width()], ellipse),
            (None, None) => panic!("{name} has neither rows nor an ellipse"),
        };
        assert_eq!(json!(ours), *rle, "{name}");
        assert_eq!(ours.area(), described.area, "{name}");
        assert_eq!(ours.bbox(), described.bbox, "{name}");
        assert_eq!(theirs, ours, "{name}");
    }
}

#[test]
fn the_union_equals_pycocotools() {
    let unions = golden().unions;
    assert!(unions.len() >= 3, "only {} unions", unions.len());
    for golden in unions {
        let masks: Vec<Rle> = golden.masks.iter().map(|rows| from_rows(rows)).collect();
        let union = Rle::union(masks[0].width(), masks[0].height(), &masks).unwrap();
        assert_eq!(union.to_compressed(), golden.union);
    }
}
