//! The first directory of a TIFF file, read without the decoder: the size before anything is
//! allocated, and the entry that must change for palettes.

const IMAGE_WIDTH: u16 = 256;
const IMAGE_LENGTH: u16 = 257;
const PHOTOMETRIC: u16 = 262;

const BLACK_IS_ZERO: u16 = 1;
const PALETTE: u64 = 3;

/// Reads width and height in pixels. A side that the directory does not name is 0.
pub(crate) fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    Directory::first(bytes).and_then(Directory::size)
}

/// The position of the entries of the first directory.
#[derive(Clone, Copy)]
pub(crate) struct Directory<'a> {
    bytes: &'a [u8],
    variant: Variant,
    /// Offset of the first entry.
    first: usize,
    count: usize,
}

/// Byte order and offset size of a file.
#[derive(Clone, Copy)]
struct Variant {
    is_little_endian: bool,
    /// True for `BigTIFF`: offsets of 8 bytes, entries of 20.
    is_big: bool,
}

impl<'a> Directory<'a> {
    /// Finds the first directory, or returns `None` if the header or the directory's start is
    /// missing.
    pub(crate) fn first(bytes: &'a [u8]) -> Option<Self> {
        let is_little_endian = bytes.starts_with(b"II");
        let mut variant = Variant { is_little_endian, is_big: false };
        variant.is_big = variant.number(bytes, 2, 2)? == 43;
        let offset_len = if variant.is_big { 8 } else { 4 };
        let offset = variant.number(bytes, offset_len, offset_len)?;
        let offset = usize::try_from(offset).ok()?;
        let count_len = if variant.is_big { 8 } else { 2 };
        let count = usize::try_from(variant.number(bytes, offset, count_len)?).ok()?;
        Some(Self { bytes, variant, first: offset.checked_add(count_len)?, count })
    }

    fn size(self) -> Option<(u32, u32)> {
        let value = |tag| match self.value_at(tag) {
            Some((at, len)) => self.variant.number(self.bytes, at, len),
            None => Some(0),
        };
        let side = |tag| value(tag).map(|value| u32::try_from(value).unwrap_or(u32::MAX));
        side(IMAGE_WIDTH).zip(side(IMAGE_LENGTH))
    }

    /// Returns a copy of the file that declares its palette indexes as grey, or `None` if it has no
    /// palette.
    pub(crate) fn palette_declared_grey(self) -> Option<Vec<u8>> {
        let (at, len) = self.value_at(PHOTOMETRIC)?;
        if len != 2 || self.variant.number(self.bytes, at, len)? != PALETTE {
            return None;
        }
        let mut bytes = self.bytes.to_vec();
        let grey = if self.variant.is_little_endian {
            BLACK_IS_ZERO.to_le_bytes()
        } else {
            BLACK_IS_ZERO.to_be_bytes()
        };
        bytes.get_mut(at..at + 2)?.copy_from_slice(&grey);
        Some(bytes)
    }

    /// Returns true if the file is long enough for the values of every entry that the decoder reads
    /// on opening, before it has limits. Private tags, from 32,768 on, are read within limits.
    pub(crate) fn values_fit(self) -> bool {
        let fits = |(tag, kind, count): (u64, u64, u64)| {
            let len = match kind {
                3 | 8 => 2,
                4 | 9 | 11 | 13 => 4,
                5 | 10 | 12 | 16..=18 => 8,
                _ => 1,
            };
            tag >= 32_768 || count.saturating_mul(len) <= self.bytes.len() as u64
        };
        let count_len = if self.variant.is_big { 8 } else { 4 };
        let entry = |index: usize| {
            let at = self.entry_at(index)?;
            let number = |offset, len| self.variant.number(self.bytes, at + offset, len);
            Some((number(0, 2)?, number(2, 2)?, number(4, count_len)?))
        };
        (0..self.count).map_while(entry).all(fits)
    }

    fn entry_at(self, index: usize) -> Option<usize> {
        let entry_len = if self.variant.is_big { 20 } else { 12 };
        self.first.checked_add(index.checked_mul(entry_len)?)
    }

    /// Returns offset and length of an entry's value, if the value is an integer.
    fn value_at(self, tag: u16) -> Option<(usize, usize)> {
        let value_offset = if self.variant.is_big { 12 } else { 8 };
        for index in 0..self.count {
            let at = self.entry_at(index)?;
            if self.variant.number(self.bytes, at, 2)? != u64::from(tag) {
                continue;
            }
            let len = match self.variant.number(self.bytes, at + 2, 2)? {
                3 => 2,
                4 => 4,
                16 if self.variant.is_big => 8,
                _ => return None,
            };
            return Some((at + value_offset, len));
        }
        None
    }
}

impl Variant {
    /// Reads an unsigned number of `len` bytes. Returns `None` past the end of the file.
    fn number(self, bytes: &[u8], at: usize, len: usize) -> Option<u64> {
        let bytes = bytes.get(at..at.checked_add(len)?)?;
        let shifted_in = |number: u64, byte: &u8| (number << 8) | u64::from(*byte);
        Some(if self.is_little_endian {
            bytes.iter().rev().fold(0, shifted_in)
        } else {
            bytes.iter().fold(0, shifted_in)
        })
    }
}
