//! The contract of the masks' reader: a mask stays the same when it is written and read again.

use dog_iqa::method::{Mask, Rle};

/// Largest frame, in pixels, that is also checked pixel by pixel.
const DRAWN_PX_MAX: u64 = 1 << 14;

/// Returns true if the text is a mask. Panics if its reader violates its contract.
pub(crate) fn check(bytes: &[u8]) -> bool {
    let Ok(rle) = serde_json::from_slice::<Rle>(bytes) else { return false };
    let json = serde_json::to_string(&rle).expect("a mask is plain data");
    assert_eq!(serde_json::from_str::<Rle>(&json).expect("it reads what it wrote"), rle);
    let (width, height) = (rle.width(), rle.height());
    let pixels = u64::from(width) * u64::from(height);
    let counted: u64 = rle.counts().iter().map(|&count| u64::from(count)).sum();
    assert_eq!(counted, pixels);
    let complement = rle.complement();
    assert_eq!(complement.area() + rle.area(), pixels);
    assert_eq!(complement.complement(), rle);
    let all = Rle::union(width, height, [&rle, &complement]).expect("both have this frame");
    assert_eq!(all.area(), pixels);
    if let Ok(mask) = Mask::new(rle.clone()) {
        let bbox = mask.bbox();
        assert!(bbox.width > 0 && bbox.height > 0);
        assert!(bbox.x + bbox.width <= width && bbox.y + bbox.height <= height);
        assert!(mask.area_px() <= u64::from(bbox.width) * u64::from(bbox.height));
    }
    if pixels <= DRAWN_PX_MAX {
        let drawn = rle.to_row_major();
        assert_eq!(drawn.iter().map(|&pixel| u64::from(pixel)).sum::<u64>(), rle.area());
        let bitmap: Vec<bool> = drawn.iter().map(|&pixel| pixel == 1).collect();
        assert_eq!(Rle::from_bitmap(width, height, &bitmap).as_ref(), Ok(&rle));
    }
    true
}

/// Returns the memory limit for reading a mask and computing with it, in bytes.
pub(crate) fn memory_max(bytes: &[u8]) -> u64 {
    (64 << 10) + 64 * bytes.len() as u64
}
