//! The first directory of a TIFF file, read without the decoder: the size before anything is
//! allocated, and the entry that must change for palettes.

pub(crate) const IMAGE_WIDTH: u16 = 256;
pub(crate) const IMAGE_LENGTH: u16 = 257;
pub(crate) const BITS_PER_SAMPLE: u16 = 258;
pub(crate) const COMPRESSION: u16 = 259;
pub(crate) const PHOTOMETRIC: u16 = 262;
pub(crate) const FILL_ORDER: u16 = 266;
pub(crate) const STRIP_OFFSETS: u16 = 273;
pub(crate) const SAMPLES_PER_PIXEL: u16 = 277;
pub(crate) const ROWS_PER_STRIP: u16 = 278;
pub(crate) const STRIP_BYTE_COUNTS: u16 = 279;
pub(crate) const T4_OPTIONS: u16 = 292;
pub(crate) const TILE_OFFSETS: u16 = 324;
pub(crate) const TILE_BYTE_COUNTS: u16 = 325;

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

    /// Returns a tag's number, or `default` if there is none.
    pub(crate) fn number(self, tag: u16, default: u64) -> u64 {
        self.numbers(tag).and_then(|numbers| numbers.first().copied()).unwrap_or(default)
    }

    /// Returns a tag's numbers, or `None` if they are no integers or beyond the end of the file.
    pub(crate) fn numbers(self, tag: u16) -> Option<Vec<u64>> {
        let entry = self.find(tag)?;
        let len = self.integer_len(entry)?;
        let offset_len = self.variant.offset_len();
        let number = |at, len| self.variant.number(self.bytes, at, len);
        let count = usize::try_from(number(entry + 4, offset_len)?).ok()?;
        let size = count.checked_mul(len).filter(|size| *size <= self.bytes.len())?;
        let inline = entry + 4 + offset_len;
        let start = if size <= offset_len {
            inline
        } else {
            usize::try_from(number(inline, offset_len)?).ok()?
        };
        (0..count).map(|index| number(start.checked_add(index * len)?, len)).collect()
    }

    /// Writes one number of 4 or 8 bytes into a tag's entry of a copy of the file. Returns false if
    /// there is no entry.
    pub(crate) fn set(self, copy: &mut [u8], tag: u16, number: u64) -> bool {
        let Some(entry) = self.find(tag) else { return false };
        let len = self.variant.offset_len();
        let kind = if self.variant.is_big { 16 } else { 4 };
        for (offset, len, value) in [(2, 2, kind), (4, len, 1), (4 + len, len, number)] {
            let Some(field) = copy.get_mut(entry + offset..entry + offset + len) else {
                return false;
            };
            if self.variant.is_little_endian {
                field.copy_from_slice(&value.to_le_bytes()[..len]);
            } else {
                field.copy_from_slice(&value.to_be_bytes()[8 - len..]);
            }
        }
        true
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
        let entry = self.find(tag)?;
        Some((entry + 4 + self.variant.offset_len(), self.integer_len(entry)?))
    }

    /// Returns the offset of a tag's entry.
    fn find(self, tag: u16) -> Option<usize> {
        for index in 0..self.count {
            let at = self.entry_at(index)?;
            if self.variant.number(self.bytes, at, 2)? == u64::from(tag) {
                return Some(at);
            }
        }
        None
    }

    /// Returns the length of an entry's integers, or `None` if they are none.
    fn integer_len(self, entry: usize) -> Option<usize> {
        match self.variant.number(self.bytes, entry + 2, 2)? {
            3 => Some(2),
            4 => Some(4),
            16 if self.variant.is_big => Some(8),
            _ => None,
        }
    }
}

impl Variant {
    /// Returns the length of offsets and counts.
    fn offset_len(self) -> usize {
        if self.is_big { 8 } else { 4 }
    }

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
