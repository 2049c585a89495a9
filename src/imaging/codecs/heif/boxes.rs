//! Boxes of the ISO base media file format, and the big-endian fields in them.
//!
//! Source: ISO/IEC 14496-12, section 4.2. A reader never goes past the end of its bytes.

/// A box of which the payload may be cut off by the end of its parent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) kind: [u8; 4],
    pub(crate) payload: &'a [u8],
    /// True if the box claims more bytes than its parent has.
    pub(crate) is_cut: bool,
}

/// Iterates over the boxes in `bytes`, up to the first that is no box.
pub(crate) fn boxes(bytes: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let mut fields = Fields(rest);
        let short = fields.u32()?;
        let kind = fields.code()?;
        let len = match short {
            0 => rest.len() as u64,
            1 => fields.u64()?,
            len => u64::from(len),
        };
        let header = rest.len() - fields.0.len();
        if len < header as u64 {
            return None;
        }
        let end = usize::try_from(len).unwrap_or(usize::MAX);
        let is_cut = end > rest.len();
        let (entry, after) = rest.split_at(end.min(rest.len()));
        rest = after;
        Some(Entry { kind, payload: &entry[header..], is_cut })
    })
}

/// Returns the payload of the first whole box named `kind` in `bytes`.
pub(crate) fn child(bytes: &[u8], kind: [u8; 4]) -> Option<&[u8]> {
    boxes(bytes).find(|entry| entry.kind == kind && !entry.is_cut).map(|entry| entry.payload)
}

/// Reads fields from the start of its bytes. Each read returns `None` past the end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    /// Reads a four-character code.
    pub(crate) fn code(&mut self) -> Option<[u8; 4]> {
        self.array()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// Reads a number of `len` bytes; none of them is 0.
    pub(crate) fn number(&mut self, len: u8) -> Option<u64> {
        match len {
            0 => Some(0),
            2 => self.u16().map(u64::from),
            4 => self.u32().map(u64::from),
            8 => self.u64(),
            _ => None,
        }
    }

    /// Reads 16 bits, or 32 if `is_wide`.
    pub(crate) fn short_or_long(&mut self, is_wide: bool) -> Option<u32> {
        if is_wide { self.u32() } else { self.u16().map(u32::from) }
    }

    /// Reads the version and the flags of a full box.
    pub(crate) fn version_and_flags(&mut self) -> Option<(u8, u32)> {
        let [version, high, middle, low] = self.array()?;
        Some((version, u32::from_be_bytes([0, high, middle, low])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_of_length_zero_extends_to_the_end() {
        let bytes = b"\0\0\0\x09abcdX\0\0\0\0restYZ";
        let found: Vec<_> = boxes(bytes).map(|entry| (entry.kind, entry.payload)).collect();
        assert_eq!(found, [(*b"abcd", &b"X"[..]), (*b"rest", b"YZ")]);
    }

    #[test]
    fn a_box_beyond_the_end_is_cut_and_one_shorter_than_its_header_ends_the_list() {
        let cut = boxes(b"\0\0\0\x20abcdX").next().unwrap();
        assert!(cut.is_cut && cut.payload == b"X");
        assert!(child(b"\0\0\0\x20abcdX", *b"abcd").is_none());
        assert!(boxes(b"\0\0\0\x07abcd").next().is_none());
        let long = b"\0\0\0\x01long\xff\xff\xff\xff\xff\xff\xff\xffX";
        assert!(boxes(long).next().is_some_and(|entry| entry.is_cut && entry.payload == b"X"));
    }
}
