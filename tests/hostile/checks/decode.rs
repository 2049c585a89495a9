//! Any bytes are an image within the limits or an error with a reason.

use dog_iqa::imaging::{DecodeError, Settings, decode, probe};

use crate::message;

/// Limits that a small file can pass, so that they are met often.
pub(crate) fn settings() -> Settings {
    Settings { pixels_max: 1 << 16, side_max_px: 1 << 12, ..Settings::default() }
}

/// Whether bytes are an image; panics where they break a promise of the decoder.
pub(crate) fn check(bytes: &[u8]) -> bool {
    let settings = settings();
    let probed = probe(bytes, &settings);
    match decode(bytes, &settings) {
        Ok(picture) => {
            let header = probed.expect("what is decoded has a header");
            let size = (picture.width(), picture.height());
            let stored = (header.width, header.height);
            assert!(size == stored || size == (stored.1, stored.0), "{stored:?} became {size:?}");
            assert!(u64::from(size.0) * u64::from(size.1) <= settings.pixels_max);
            assert!(size.0.max(size.1) <= settings.side_max_px);
            assert_eq!(picture.format(), header.format);
            assert_eq!(picture.bytes_len(), bytes.len() as u64);
            true
        }
        Err(error) => {
            assert!(!matches!(error, DecodeError::Panicked { .. }), "{error}");
            message::check(error.code(), &["decode"], &error.to_string());
            if let Err(at_once) = probed {
                assert_eq!(at_once, error);
            }
            false
        }
    }
}

/// Bytes that decoding may take at a time: the documented ones for a pixel, once more for the way to 8 bits; what
/// the bytes themselves hold; and 16 MiB for what does not depend on the size, three times while a buffer grows.
pub(crate) fn memory_max(bytes: &[u8]) -> u64 {
    let pixels = match probe(bytes, &settings()) {
        Ok(header) => u64::from(header.width) * u64::from(header.height),
        Err(_) => 0,
    };
    (48 << 20) + 40 * pixels + 40 * bytes.len() as u64
}
