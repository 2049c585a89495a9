//! Keys and URIs of the objects that notifications name.

use crate::event::error::ReferenceError;

/// Decodes the key of an S3 record: a space is `+`, other bytes are percent-encoded.
///
/// # Errors
/// Fails if two hexadecimal digits do not follow a `%`, or the bytes are not UTF-8.
pub(crate) fn decoded_form(key: &str) -> Result<String, ReferenceError> {
    decoded(&key.replace('+', " "))
}

/// Decodes the path of a URL, in which `+` stands for itself.
///
/// # Errors
/// As [`decoded_form`].
pub(crate) fn decoded(key: &str) -> Result<String, ReferenceError> {
    let mut bytes = key.bytes();
    let mut plain = Vec::with_capacity(key.len());
    while let Some(byte) = bytes.next() {
        let decoded = if byte == b'%' { hex_byte(bytes.next(), bytes.next()) } else { Some(byte) };
        let reason = "a % is not followed by two hexadecimal digits";
        plain.push(decoded.ok_or(ReferenceError::InvalidKey { reason })?);
    }
    let reason = "its decoded bytes are not UTF-8";
    String::from_utf8(plain).map_err(|_| ReferenceError::InvalidKey { reason })
}

/// Returns the URI of an object. The bucket must be a plain name: with a slash in it, the URI would
/// name another bucket.
///
/// # Errors
/// Fails if the bucket is no plain name.
pub(crate) fn uri(scheme: &str, bucket: &str, key: &str) -> Result<String, ReferenceError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._$".contains(&byte);
    if !bucket.bytes().all(is_plain) {
        return Err(ReferenceError::InvalidBucket);
    }
    Ok(format!("{scheme}://{bucket}/{key}"))
}

fn hex_byte(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high?)? * 16 + digit(low?)?).ok()
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_of_s3_is_decoded_once() {
        let decode = |key| decoded_form(key).unwrap();
        assert_eq!(decode("2026/my+photo%281%29.jpg"), "2026/my photo(1).jpg");
        assert_eq!(decode("a%2Fb%2fc"), "a/b/c");
        assert_eq!(decode("a%2Bb"), "a+b");
        assert_eq!(decode("caf%C3%A9/%E5%86%99%E7%9C%9F.png"), "café/写真.png");
        assert_eq!(decode("100%2525"), "100%25");
        assert_eq!(decode("写真.png"), "写真.png", "stores may leave unicode as it is");
        assert_eq!(decoded("a+b%20c").unwrap(), "a+b c");
    }

    #[test]
    fn a_malformed_encoding_is_refused() {
        for key in ["%", "a%2", "%zz", "%+1", "a%%20", "%F", "%ff", "%C3", "%c3%28", "é%"] {
            assert_eq!(decoded_form(key).unwrap_err().code(), "reference.invalid_key", "{key}");
        }
    }

    #[test]
    fn a_bucket_with_a_slash_names_no_other_bucket() {
        assert_eq!(uri("s3", "photos", "a/../b").unwrap(), "s3://photos/a/../b");
        for bucket in ["photos/../private", "photos/x", "me@photos", "photos:80", "ph otos", "é"] {
            let error = uri("s3", bucket, "a.jpg").unwrap_err();
            assert_eq!(error.code(), "reference.invalid_field", "{bucket}");
        }
    }

    proptest! {
        #[test]
        fn an_encoded_key_comes_back(key in ".{0,40}") {
            let encoded = utf8_percent_encode(&key, NON_ALPHANUMERIC).to_string();
            prop_assert_eq!(decoded_form(&encoded).unwrap(), key);
        }

        #[test]
        fn no_key_makes_the_decoder_panic(key in "[%+0-9a-fA-Fé]{0,20}") {
            let _fault = decoded_form(&key).err();
        }
    }
}
