//! Entropy-coded data as bits: intervals between restart markers, without stuffed zeros.
#![expect(clippy::cast_possible_truncation, reason = "a word has as many bits as are asked for")]

/// Splits the data of a scan at its restart markers.
pub(crate) struct Intervals<'a> {
    data: &'a [u8],
}

impl<'a> Intervals<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { data }
    }

    /// Returns the next interval without stuffed zeros, and the restart marker at its end. The last
    /// one has no marker.
    pub(crate) fn next(&mut self) -> (Vec<u8>, Option<u8>) {
        let mut interval = Vec::new();
        loop {
            let Some(offset) = memchr::memchr(0xff, self.data) else {
                interval.extend_from_slice(self.data);
                self.data = &[];
                return (interval, None);
            };
            interval.extend_from_slice(&self.data[..offset]);
            // Bytes 0xff before a marker, or before a stuffed zero, are fill.
            let Some(fill) = self.data[offset..].iter().position(|byte| *byte != 0xff) else {
                self.data = &[];
                return (interval, None);
            };
            let marker = self.data[offset + fill];
            self.data = &self.data[offset + fill + 1..];
            if marker != 0 {
                return (interval, Some(marker));
            }
            interval.push(0xff);
        }
    }
}

/// Reads bits of one interval. Past its end it reads zeros, and [`BitReader::is_exceeded`] is true.
#[derive(Clone)]
pub(crate) struct BitReader<'a> {
    data: &'a [u8],
    /// Offset of the next byte to load.
    at: usize,
    /// The next bits, from the highest on. Bits beyond `count` are those of the byte at `at`.
    bits: u64,
    count: u32,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, bits: 0, count: 0 }
    }

    /// Loads bits, so that at least 32 can be read: a Huffman code and the bits behind it.
    #[inline(always)]
    pub(crate) fn refill(&mut self) {
        if self.count < 32 {
            let word = match self.data.get(self.at..self.at + 8) {
                Some(bytes) => u64::from_be_bytes(*bytes.first_chunk().expect("eight bytes")),
                None => self.last_word(),
            };
            self.bits |= word >> self.count;
            self.at += ((63 - self.count) >> 3) as usize;
            self.count |= 0x38;
        }
    }

    #[cold]
    fn last_word(&self) -> u64 {
        let rest = self.data.get(self.at..).unwrap_or_default();
        rest.iter()
            .enumerate()
            .fold(0, |word, (index, byte)| word | u64::from(*byte) << (56 - 8 * index))
    }

    /// Returns the next `count` bits, from 1 to 16, after [`BitReader::refill`].
    #[inline(always)]
    pub(crate) fn peek(&self, count: u32) -> u32 {
        (self.bits >> (64 - count)) as u32
    }

    #[inline(always)]
    pub(crate) fn skip(&mut self, count: u32) {
        self.bits <<= count;
        self.count -= count;
    }

    /// Reads `count` bits, from 1 to 16, after [`BitReader::refill`].
    #[inline(always)]
    pub(crate) fn take(&mut self, count: u32) -> u32 {
        let bits = self.peek(count);
        self.skip(count);
        bits
    }

    /// Returns the number of bits that were read.
    fn read(&self) -> usize {
        8 * self.at - self.count as usize
    }

    /// Returns true if more bits were read than the interval has.
    #[inline(always)]
    pub(crate) fn is_exceeded(&self) -> bool {
        self.read() > 8 * self.data.len()
    }

    /// Returns true if fewer bits are left than the longest code has.
    pub(crate) fn is_near_end(&self) -> bool {
        self.read() + 16 > 8 * self.data.len()
    }

    /// Returns the number of whole bytes that were not read.
    pub(crate) fn bytes_left(&self) -> usize {
        self.data.len().saturating_sub(self.read().div_ceil(8))
    }

    /// Returns true if the rest of the last byte that was read is of equal bits. Encoders fill it
    /// with ones, and some with zeros.
    pub(crate) fn has_even_padding(&self) -> bool {
        let (whole, used) = (self.read() / 8, self.read() % 8);
        match self.data.get(whole) {
            Some(byte) if used > 0 => {
                let rest = byte << used >> used;
                rest == 0 || rest == 0xff >> used
            }
            _ => true,
        }
    }

    /// Returns true if less than a byte is left, and its bits are the ones that fill up the last
    /// byte.
    pub(crate) fn is_at_padded_end(&self) -> bool {
        let left = (8 * self.data.len()).saturating_sub(self.read());
        let last = self.data.last().copied().unwrap_or(0);
        !self.is_exceeded() && left < 8 && last.trailing_ones() as usize >= left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_end_at_restart_markers_and_lose_stuffed_zeros() {
        let data = [1, 0xff, 0, 2, 0xff, 0xd0, 3, 0xff, 0xff, 0, 0xff, 0xff, 0xd1, 0xff];
        let mut intervals = Intervals::new(&data);
        assert_eq!(intervals.next(), (vec![1, 0xff, 2], Some(0xd0)));
        assert_eq!(intervals.next(), (vec![3, 0xff], Some(0xd1)));
        assert_eq!(intervals.next(), (vec![], None));
    }

    #[test]
    fn every_number_of_bits_is_read_in_order() {
        let data: Vec<u8> = (0..=40).map(|index: u8| index.wrapping_mul(37)).collect();
        let bit =
            |at: usize| u32::from(data.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1));
        let mut reader = BitReader::new(&data);
        let mut at = 0;
        for count in (1..=16).cycle().take(60) {
            reader.refill();
            let expected = (at..at + count as usize).fold(0, |bits, at| bits << 1 | bit(at));
            assert_eq!(reader.take(count), expected, "{count} bits at {at}");
            at += count as usize;
            assert_eq!(reader.is_exceeded(), at > 8 * data.len());
            assert_eq!(reader.bytes_left(), data.len().saturating_sub(at.div_ceil(8)));
        }
    }

    #[test]
    fn padding_is_even_if_its_bits_are_equal() {
        for (byte, is_even) in
            [(0b101_11111, true), (0b101_00000, true), (0b101_10000, false), (0b101_01111, false)]
        {
            let data = [byte, 0x55];
            let mut reader = BitReader::new(&data);
            reader.refill();
            reader.skip(3);
            assert_eq!(reader.has_even_padding(), is_even);
            reader.skip(5);
            assert!(reader.has_even_padding(), "no bit is left in the byte");
        }
    }

    #[test]
    fn only_ones_fill_the_last_byte() {
        for (byte, is_padded) in [(0b101_11111, true), (0b101_11110, false)] {
            let data = [byte];
            let mut reader = BitReader::new(&data);
            reader.refill();
            reader.skip(3);
            assert_eq!(reader.is_at_padded_end(), is_padded);
        }
    }
}
