//! Reads MATLAB's files of version 5 (the format of `save`, and of `scipy.io.savemat`): matrices of
//! real numbers, text, and cell arrays of both. Other arrays are left out by name.
//!
//! Source: `MathWorks`, "MAT-File Format", chapter 1. Files of version 7.3 are HDF5 and are
//! refused.

use std::io::Read;

use flate2::read::ZlibDecoder;
use thiserror::Error;

/// Maximum depth of cells in cells.
const DEPTH_MAX: usize = 4;
/// Size of the text and the version in front of the elements.
const HEADER_BYTES: usize = 128;

/// A file that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum MatError {
    /// The file does not begin like a MAT file of version 5 in little-endian order.
    #[error("it is not a MAT file of version 5 (little-endian); save it with `-v7` or older")]
    Version,
    /// The file ends inside an element, or an element contradicts itself.
    #[error("element {index} is damaged: {problem}")]
    Damaged {
        /// Position of the element in the file, from 0.
        index: usize,
        /// The contradiction.
        problem: &'static str,
    },
    /// The file is too large when it is decompressed.
    #[error("it has more than {0} bytes when it is decompressed")]
    TooLarge(usize),
}

/// The content of an array.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum MatValue {
    /// A matrix of real numbers, column by column.
    Numbers {
        /// Number of rows, of columns, and of any further dimensions.
        dimensions: Vec<usize>,
        /// The numbers; as many as the product of the dimensions.
        values: Vec<f64>,
    },
    /// A text.
    Text(String),
    /// A cell array, column by column.
    Cells(Vec<Self>),
    /// An array of a kind that is not read: complex, sparse, a structure, an object.
    Other,
}

/// An array with its name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MatArray {
    /// Name of the variable.
    pub(crate) name: String,
    /// Content of the variable.
    pub(crate) value: MatValue,
}

/// Reads all arrays of a file, in its order. Compressed arrays may have `bytes_max` in all when
/// they are decompressed.
///
/// # Errors
/// Fails on another format, on damaged elements, and on more content.
pub(crate) fn read(bytes: &[u8], bytes_max: usize) -> Result<Vec<MatArray>, MatError> {
    let header = bytes.get(..HEADER_BYTES).ok_or(MatError::Version)?;
    // The text in front is free; behind it are the version and the order of the bytes.
    if header[124..] != [0, 1, b'I', b'M'] {
        return Err(MatError::Version);
    }
    let mut rest = &bytes[HEADER_BYTES..];
    let mut left = bytes_max;
    let mut arrays = Vec::new();
    for index in 0.. {
        if rest.is_empty() {
            break;
        }
        let damaged = |problem| MatError::Damaged { index, problem };
        let element = Element::take(&mut rest).map_err(damaged)?;
        let array = match element.kind {
            COMPRESSED => {
                let mut content = Vec::new();
                let read =
                    ZlibDecoder::new(element.data).take(left as u64 + 1).read_to_end(&mut content);
                read.map_err(|_| damaged("its compressed data is invalid"))?;
                let spare = left.checked_sub(content.len());
                left = spare.ok_or(MatError::TooLarge(bytes_max))?;
                let inner = Element::take(&mut content.as_slice()).map_err(damaged)?;
                (inner.kind == MATRIX).then(|| matrix(inner.data, 0)).transpose()
            }
            MATRIX => matrix(element.data, 0).map(Some),
            _ => Ok(None),
        };
        arrays.extend(array.map_err(damaged)?);
    }
    Ok(arrays)
}

/// Element types of the format.
const INT8: u32 = 1;
const UINT8: u32 = 2;
const INT16: u32 = 3;
const UINT16: u32 = 4;
const INT32: u32 = 5;
const UINT32: u32 = 6;
const SINGLE: u32 = 7;
const DOUBLE: u32 = 9;
const INT64: u32 = 12;
const UINT64: u32 = 13;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;
const UTF8: u32 = 16;
const UTF16: u32 = 17;

/// Array classes of the format.
const CELL_CLASS: u8 = 1;
const CHAR_CLASS: u8 = 4;
const NUMERIC_CLASSES: std::ops::RangeInclusive<u8> = 6..=15;
/// Flag of a complex array.
const COMPLEX_FLAG: u8 = 8;

struct Element<'a> {
    kind: u32,
    data: &'a [u8],
}

impl<'a> Element<'a> {
    /// Takes the next element from the bytes.
    fn take(bytes: &mut &'a [u8]) -> Result<Self, &'static str> {
        let word = |at: usize| {
            let word: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_le_bytes(word))
        };
        let first = word(0).ok_or("it ends in its header")?;
        // The small form has the size in the upper half of the first word, and the data behind it.
        let (kind, start, size, whole): (u32, usize, usize, usize) = match first >> 16 {
            0 => {
                let size = word(4).ok_or("it ends in its header")? as usize;
                // Compressed elements are not padded.
                let padded = if first == COMPRESSED { size } else { size.next_multiple_of(8) };
                (first, 8, size, 8_usize.saturating_add(padded))
            }
            size @ 1..=4 => (first & 0xFFFF, 4, size as usize, 8),
            _ => return Err("its small form has more than 4 bytes"),
        };
        let data = start.checked_add(size).and_then(|end| bytes.get(start..end));
        let data = data.ok_or("it is longer than the file")?;
        // The padding of the last element may be missing.
        *bytes = bytes.get(whole..).unwrap_or_default();
        Ok(Self { kind, data })
    }

    /// Returns the numbers of the data, or `None` for a type that has none.
    fn numbers(&self) -> Option<Vec<f64>> {
        fn each<const N: usize>(data: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            data.as_chunks::<N>().0.iter().map(|&chunk| number(chunk)).collect()
        }
        let data = self.data;
        Some(match self.kind {
            INT8 => each(data, |b| f64::from(i8::from_le_bytes(b))),
            UINT8 | UTF8 => each(data, |b| f64::from(u8::from_le_bytes(b))),
            INT16 => each(data, |b| f64::from(i16::from_le_bytes(b))),
            UINT16 | UTF16 => each(data, |b| f64::from(u16::from_le_bytes(b))),
            INT32 => each(data, |b| f64::from(i32::from_le_bytes(b))),
            UINT32 => each(data, |b| f64::from(u32::from_le_bytes(b))),
            SINGLE => each(data, |b| f64::from(f32::from_le_bytes(b))),
            DOUBLE => each(data, f64::from_le_bytes),
            INT64 => each(data, |b| i64::from_le_bytes(b) as f64),
            UINT64 => each(data, |b| u64::from_le_bytes(b) as f64),
            _ => return None,
        })
    }

    fn text(&self) -> Option<String> {
        match self.kind {
            UTF8 | INT8 | UINT8 => Some(String::from_utf8_lossy(self.data).into_owned()),
            UTF16 | UINT16 => {
                let units = self.data.as_chunks::<2>().0.iter().copied();
                let units: Vec<u16> = units.map(u16::from_le_bytes).collect();
                Some(String::from_utf16_lossy(&units))
            }
            _ => None,
        }
    }
}

/// Reads the sub-elements of an array: flags, dimensions, name, content.
fn matrix(mut data: &[u8], depth: usize) -> Result<MatArray, &'static str> {
    if data.is_empty() {
        // An empty cell has no sub-elements.
        let value = MatValue::Numbers { dimensions: vec![0, 0], values: Vec::new() };
        return Ok(MatArray { name: String::new(), value });
    }
    let flags = Element::take(&mut data)?.data;
    let (&class, &flag) = flags.first().zip(flags.get(1)).ok_or("it has no flags")?;
    let dimensions = Element::take(&mut data)?.numbers().ok_or("it has no dimensions")?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
    let size = |number: &f64| (*number >= 0.0).then_some(*number as usize);
    let dimensions: Option<Vec<usize>> = dimensions.iter().map(size).collect();
    let dimensions = dimensions.ok_or("a dimension is negative")?;
    let count = dimensions.iter().try_fold(1_usize, |product, &side| product.checked_mul(side));
    let count = count.ok_or("its dimensions are too large")?;
    let name = Element::take(&mut data)?.text().ok_or("it has no name")?;
    let value = match class {
        CELL_CLASS => {
            if depth == DEPTH_MAX {
                return Err("its cells are nested too deeply");
            }
            // Grown one by one: the dimensions are only a claim.
            let mut cells = Vec::new();
            for _ in 0..count {
                let cell = Element::take(&mut data)?;
                if cell.kind != MATRIX {
                    return Err("a cell is not an array");
                }
                cells.push(matrix(cell.data, depth + 1)?.value);
            }
            MatValue::Cells(cells)
        }
        CHAR_CLASS => MatValue::Text(Element::take(&mut data)?.text().ok_or("it has no text")?),
        class if NUMERIC_CLASSES.contains(&class) && flag & COMPLEX_FLAG == 0 => {
            let values = Element::take(&mut data)?.numbers().ok_or("it has no numbers")?;
            if values.len() != count {
                return Err("its dimensions do not match its numbers");
            }
            MatValue::Numbers { dimensions, values }
        }
        _ => MatValue::Other,
    };
    Ok(MatArray { name, value })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    use super::*;

    fn element(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        if (1..=4).contains(&data.len()) {
            let size = u32::try_from(data.len()).unwrap();
            bytes.extend((kind | (size << 16)).to_le_bytes());
            bytes.extend(data);
        } else {
            bytes.extend(kind.to_le_bytes());
            bytes.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
            bytes.extend(data);
        }
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    fn array(class: u8, rows: i32, columns: i32, name: &str, content: &[u8]) -> Vec<u8> {
        let mut data = element(UINT32, &[class, 0, 0, 0, 0, 0, 0, 0]);
        data.extend(element(INT32, &[rows.to_le_bytes(), columns.to_le_bytes()].concat()));
        data.extend(element(INT8, name.as_bytes()));
        data.extend(content);
        element(MATRIX, &data)
    }

    fn file(elements: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = b"MATLAB 5.0 MAT-file, made by a test".to_vec();
        bytes.resize(124, b' ');
        bytes.extend([0, 1, b'I', b'M']);
        bytes.extend(elements.concat());
        bytes
    }

    fn doubles(values: &[f64]) -> Vec<u8> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        element(DOUBLE, &bytes)
    }

    #[test]
    fn numbers_texts_and_cells_are_read_compressed_or_not() {
        let utf16: Vec<u8> = "t1.bmp".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let cells = [
            array(CHAR_CLASS, 1, 6, "", &element(UINT16, &utf16)),
            array(CHAR_CLASS, 1, 5, "", &element(UTF8, "ü.JPG".as_bytes())),
        ]
        .concat();
        let names = array(CELL_CLASS, 2, 1, "names", &cells);
        let plain = array(6, 1, 2, "mos", &doubles(&[1.5, -2.0]));
        // MATLAB stores whole numbers in the smallest type, whatever the class.
        let small = array(6, 1, 3, "n", &element(UINT8, &[1, 2, 255]));
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(&names).unwrap();
        let compressed = zlib.finish().unwrap();
        let mut wrapped = COMPRESSED.to_le_bytes().to_vec();
        wrapped.extend(u32::try_from(compressed.len()).unwrap().to_le_bytes());
        wrapped.extend(compressed);

        let arrays = read(&file(&[wrapped, plain, small]), 1 << 20).unwrap();
        let text = |text: &str| MatValue::Text(text.to_owned());
        assert_eq!(arrays[0].name, "names");
        assert_eq!(arrays[0].value, MatValue::Cells(vec![text("t1.bmp"), text("ü.JPG")]));
        let mos = MatValue::Numbers { dimensions: vec![1, 2], values: vec![1.5, -2.0] };
        assert_eq!(arrays[1], MatArray { name: "mos".to_owned(), value: mos });
        let n = MatValue::Numbers { dimensions: vec![1, 3], values: vec![1.0, 2.0, 255.0] };
        assert_eq!(arrays[2].value, n);
    }

    #[test]
    fn a_file_that_ends_early_or_claims_too_much_is_refused() {
        let whole = file(&[array(6, 1, 2, "mos", &doubles(&[1.5, 2.0]))]);
        for length in 129..whole.len() - 8 {
            let error = read(&whole[..length], 1 << 20).unwrap_err();
            assert!(matches!(error, MatError::Damaged { index: 0, .. }), "{length}: {error}");
        }
        let claims = file(&[array(6, 1 << 30, 1 << 30, "mos", &doubles(&[1.0]))]);
        assert!(matches!(read(&claims, 1 << 20), Err(MatError::Damaged { .. })));
        let cells = file(&[array(CELL_CLASS, i32::MAX, 1, "names", &[])]);
        assert!(matches!(read(&cells, 1 << 20), Err(MatError::Damaged { .. })));
        assert_eq!(read(b"\x89HDF", 1 << 20), Err(MatError::Version));
    }
}
