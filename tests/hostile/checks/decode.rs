//! The contract of the decoder: any bytes are a picture within the limits, or an error with a
//! message.

use dog_iqa::imaging::{DecodeError, Settings, decode, probe};

use crate::message;

/// Returns limits that small files can exceed, so that the limits are tested often.
pub(crate) fn settings() -> Settings {
    Settings { pixels_max: 1 << 16, side_max_px: 1 << 12, ..Settings::default() }
}

/// Returns true if the bytes are an image. Panics if the decoder violates its contract.
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
            if let Err(probe_error) = probed {
                assert_eq!(probe_error, error);
            }
            false
        }
    }
}

/// Returns the memory limit for decoding, in bytes: the documented bytes per pixel, and the same
/// again for the conversion to 8 bits, and 40 times the file. A further 16 MiB do not depend on the
/// size, and count three times while a buffer grows.
pub(crate) fn memory_max(bytes: &[u8]) -> u64 {
    let pixels = match probe(bytes, &settings()) {
        Ok(header) => u64::from(header.width) * u64::from(header.height),
        Err(_) => 0,
    };
    (48 << 20) + 40 * pixels + 40 * bytes.len() as u64
}
