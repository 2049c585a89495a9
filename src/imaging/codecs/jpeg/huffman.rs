//! Huffman tables of JPEG (ITU-T T.81, annexes C and F), and the standard ones (annex K.3).
#![expect(clippy::cast_possible_truncation, reason = "codes have 16 bits, symbols 8")]

use crate::imaging::codecs::jpeg::bits::BitReader;
use crate::imaging::codecs::jpeg::fault::Fault;

/// Bits of the lookup tables' index. Longer codes are rare.
const INDEX_BITS: u32 = 10;

/// A Huffman table for decoding.
#[derive(Clone)]
pub(crate) struct HuffmanTable {
    /// For the next bits: value, run and total length of a code whose value also fits into them;
    /// otherwise 0. See [`Entry`].
    values: Vec<i32>,
    /// For the next bits: symbol and length of the code, or 0 if it is longer.
    symbols: Vec<u16>,
    /// All symbols, by code.
    by_code: Vec<u8>,
    /// For each length, the first longer code, left-aligned to 16 bits.
    ends: [u32; 17],
    /// For each length, the position of its first symbol minus its first code.
    starts: [i32; 17],
    /// Length of the shortest code.
    shortest: u32,
}

/// A coefficient that was decoded with one lookup.
pub(crate) struct Entry {
    /// Number of zero coefficients before it.
    pub(crate) run: usize,
    pub(crate) value: i16,
}

impl HuffmanTable {
    /// Builds a table from the number of codes of each length, and their symbols. Returns `None` if
    /// there are more codes than bits can distinguish.
    pub(crate) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut table = Self {
            values: vec![0; 1 << INDEX_BITS],
            symbols: vec![0; 1 << INDEX_BITS],
            by_code: symbols.to_vec(),
            ends: [0; 17],
            starts: [0; 17],
            shortest: 16,
        };
        let mut code: u32 = 0;
        let mut position = 0;
        for length in 1..=16_u32 {
            let count = u32::from(counts[length as usize - 1]);
            table.starts[length as usize] = position - code.cast_signed();
            for _ in 0..count {
                let symbol = *symbols.get(usize::try_from(position).ok()?)?;
                if code >= 1 << length {
                    return None;
                }
                table.shortest = table.shortest.min(length);
                table.add(code, length, symbol);
                code += 1;
                position += 1;
            }
            table.ends[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Some(table)
    }

    /// Fills the lookup tables for one code.
    fn add(&mut self, code: u32, length: u32, symbol: u8) {
        let Some(free) = INDEX_BITS.checked_sub(length) else {
            return;
        };
        let size = u32::from(symbol & 15);
        for rest in 0..1_u32 << free {
            let index = (code << free | rest) as usize;
            self.symbols[index] = u16::from(symbol) << 8 | length as u16;
            if size > 0 && size <= free {
                let value = extended(rest >> (free - size), size);
                let run = i32::from(symbol >> 4);
                self.values[index] =
                    i32::from(value) << 16 | run << 8 | (length + size).cast_signed();
            }
        }
    }

    /// Decodes a code and its value if both are short. Needs a refilled reader.
    #[inline(always)]
    pub(crate) fn short(&self, reader: &mut BitReader<'_>) -> Option<Entry> {
        let entry = self.values[reader.peek(INDEX_BITS) as usize];
        if entry == 0 {
            return None;
        }
        reader.skip((entry & 0xff).cast_unsigned());
        let run = (entry >> 8 & 0x0f).cast_unsigned() as usize;
        Some(Entry { run, value: (entry >> 16) as i16 })
    }

    /// Decodes a code. Needs a refilled reader.
    #[inline(always)]
    pub(crate) fn symbol(&self, reader: &mut BitReader<'_>) -> Result<u8, Fault> {
        let entry = self.symbols[reader.peek(INDEX_BITS) as usize];
        if entry == 0 {
            return self.long_symbol(reader);
        }
        reader.skip(u32::from(entry & 0xff));
        Ok((entry >> 8) as u8)
    }

    #[cold]
    fn long_symbol(&self, reader: &mut BitReader<'_>) -> Result<u8, Fault> {
        let bits = reader.peek(16);
        let length = (INDEX_BITS + 1..=16).find(|length| bits < self.ends[*length as usize]);
        let length = length.ok_or(Fault::BadCode)?;
        let code = (bits >> (16 - length)).cast_signed();
        let position = code + self.starts[length as usize];
        let symbol = usize::try_from(position).ok().and_then(|at| self.by_code.get(at));
        reader.skip(length);
        symbol.copied().ok_or(Fault::BadCode)
    }

    /// Returns the length of the shortest code in bits.
    pub(crate) fn shortest(&self) -> u32 {
        self.shortest
    }
}

/// Returns the value that `size` bits encode.
#[inline(always)]
pub(crate) fn extended(bits: u32, size: u32) -> i16 {
    let bits = bits.cast_signed();
    let is_negative = bits >> (size - 1) == 0;
    (bits - if is_negative { (1 << size) - 1 } else { 0 }) as i16
}

/// The tables in the slots of a decoder.
#[derive(Default)]
pub(crate) struct HuffmanTables {
    pub(crate) dc: [Option<HuffmanTable>; 4],
    pub(crate) ac: [Option<HuffmanTable>; 4],
}

impl HuffmanTables {
    /// Reads the tables of a segment. Returns `None` if one is not valid.
    pub(crate) fn read(&mut self, mut payload: &[u8]) -> Option<()> {
        while let Some((slot, rest)) = payload.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let len = counts.iter().map(|count| usize::from(*count)).sum();
            let (symbols, rest) = rest.split_at_checked(len)?;
            let tables = match slot >> 4 {
                0 => &mut self.dc,
                1 => &mut self.ac,
                _ => return None,
            };
            *tables.get_mut(usize::from(slot & 15))? = Some(HuffmanTable::new(counts, symbols)?);
            payload = rest;
        }
        Some(())
    }

    /// Fills empty slots with the standard tables. The frames of motion JPEG omit them.
    pub(crate) fn add_standard(&mut self) {
        let standard = |counts, symbols: &[u8]| HuffmanTable::new(counts, symbols);
        let dc = [&LUMA_DC_COUNTS, &CHROMA_DC_COUNTS];
        let ac = [(&LUMA_AC_COUNTS, LUMA_AC_SYMBOLS), (&CHROMA_AC_COUNTS, CHROMA_AC_SYMBOLS)];
        for (slot, counts) in self.dc.iter_mut().zip(dc) {
            if slot.is_none() {
                *slot = standard(counts, &DC_SYMBOLS);
            }
        }
        for (slot, (counts, symbols)) in self.ac.iter_mut().zip(ac) {
            if slot.is_none() {
                *slot = standard(counts, &symbols);
            }
        }
    }
}

const LUMA_DC_COUNTS: [u8; 16] = [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0];
const CHROMA_DC_COUNTS: [u8; 16] = [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0];
const DC_SYMBOLS: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
const LUMA_AC_COUNTS: [u8; 16] = [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7d];
const CHROMA_AC_COUNTS: [u8; 16] = [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77];

#[rustfmt::skip]
const LUMA_AC_SYMBOLS: [u8; 162] = [
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07,
    0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0,
    0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28,
    0x29, 0x2a, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49,
    0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69,
    0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89,
    0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
    0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5,
    0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2,
    0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8,
    0xf9, 0xfa,
];

#[rustfmt::skip]
const CHROMA_AC_SYMBOLS: [u8; 162] = [
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71,
    0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0,
    0x15, 0x62, 0x72, 0xd1, 0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26,
    0x27, 0x28, 0x29, 0x2a, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48,
    0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68,
    0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87,
    0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5,
    0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
    0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda,
    0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8,
    0xf9, 0xfa,
];
