//! Matrices in MAT files of version 5, as MATLAB and `SciPy` write them, compressed or not.

use std::collections::BTreeMap;
use std::io::Read;

use flate2::read::ZlibDecoder;

/// Maximum size of a file in bytes, and of its elements after decompression; the largest of the
/// authors has 368 kB.
const BYTES_MAX: usize = 4 << 20;
/// The text and the flags before the first element.
const HEADER_BYTES: usize = 128;

/// Kinds of elements.
const COMPRESSED: u32 = 15;
const MATRIX: u32 = 14;
const INT8: u32 = 1;
const INT32: u32 = 5;

/// The real matrices of a file, by name.
#[derive(Debug, PartialEq)]
pub(crate) struct MatFile {
    matrices: BTreeMap<String, Matrix>,
}

/// A matrix, column by column.
#[derive(Debug, PartialEq)]
struct Matrix {
    size: (usize, usize),
    values: Vec<f64>,
}

impl MatFile {
    /// Reads all matrices of two dimensions. Other variables are ignored.
    ///
    /// # Errors
    /// Fails with the reason if the file is damaged, too large or of another version.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > BYTES_MAX {
            return Err(format!("the file has {} bytes, the limit is {BYTES_MAX}", bytes.len()));
        }
        let Some((header, mut rest)) = bytes.split_at_checked(HEADER_BYTES) else {
            return Err("not a MAT file of version 5: it is too short".to_owned());
        };
        if header[124..] != [0, 1, b'I', b'M'] {
            return Err("not a little-endian MAT file of version 5".to_owned());
        }
        let mut matrices = BTreeMap::new();
        let mut decompressed_left = BYTES_MAX;
        while !rest.is_empty() {
            let element = Element::take(&mut rest)?;
            let unpacked;
            let element = if element.kind == COMPRESSED {
                unpacked = decompressed(element.data, decompressed_left)?;
                decompressed_left -= unpacked.len();
                Element::take(&mut &unpacked[..])?
            } else {
                element
            };
            if element.kind == MATRIX
                && let Some((name, matrix)) = Matrix::parse(element.data)?
            {
                matrices.insert(name, matrix);
            }
        }
        Ok(Self { matrices })
    }

    /// Returns the values of a row or a column of `length` values.
    ///
    /// # Errors
    /// Fails if there is no such matrix, or a value is not finite.
    pub(crate) fn vector(&self, name: &str, length: usize) -> Result<&[f64], String> {
        self.values(
            name,
            |size| size == (1, length) || size == (length, 1),
            || format!("{length} values"),
        )
    }

    /// Returns the values of a matrix, column by column.
    ///
    /// # Errors
    /// Fails if there is no such matrix, or a value is not finite.
    pub(crate) fn matrix(&self, name: &str, size: (usize, usize)) -> Result<&[f64], String> {
        self.values(name, |found| found == size, || format!("{}×{} values", size.0, size.1))
    }

    fn values(
        &self,
        name: &str,
        is_right: impl Fn((usize, usize)) -> bool,
        wanted: impl Fn() -> String,
    ) -> Result<&[f64], String> {
        let matrix = self.matrices.get(name).ok_or_else(|| format!("`{name}` is missing"))?;
        if !is_right(matrix.size) {
            let (rows, columns) = matrix.size;
            return Err(format!("`{name}` has {rows}×{columns} values, not {}", wanted()));
        }
        if !matrix.values.iter().all(|value| value.is_finite()) {
            return Err(format!("`{name}` has a value that is not finite"));
        }
        Ok(&matrix.values)
    }
}

impl Matrix {
    /// Reads a matrix and its name; `None` for complex, sparse and higher-dimensional ones, for
    /// texts and structures.
    fn parse(mut data: &[u8]) -> Result<Option<(String, Self)>, String> {
        const DOUBLE: u8 = 6;
        const UINT64: u8 = 15;
        const COMPLEX: u8 = 0x08;
        let flags = Element::take(&mut data)?.data;
        let &[class, flags, ..] = flags else { return Err("a matrix has no flags".to_owned()) };
        let dimensions = Element::take(&mut data)?;
        let name = Element::take(&mut data)?;
        if dimensions.kind != INT32 || name.kind != INT8 {
            return Err("a matrix has no dimensions or no name".to_owned());
        }
        let (&[rows, columns], []) = dimensions.data.as_chunks() else { return Ok(None) };
        let [rows, columns] = [rows, columns].map(u32::from_le_bytes);
        if !(DOUBLE..=UINT64).contains(&class) || flags & COMPLEX != 0 {
            return Ok(None);
        }
        let name = String::from_utf8_lossy(name.data).into_owned();
        let values = Element::take(&mut data)?.numbers()?;
        let (rows, columns) = (rows as usize, columns as usize);
        if rows.checked_mul(columns) != Some(values.len()) {
            return Err(format!("`{name}` is {rows}×{columns}, but has {} values", values.len()));
        }
        Ok(Some((name, Self { size: (rows, columns), values })))
    }
}

/// A tagged piece of the file.
struct Element<'a> {
    kind: u32,
    data: &'a [u8],
}

impl<'a> Element<'a> {
    /// Takes the next element.
    fn take(rest: &mut &'a [u8]) -> Result<Self, String> {
        let ends = || "the file ends within an element".to_owned();
        let (tag, after) = rest.split_at_checked(8).ok_or_else(ends)?;
        let (first, second) = (word(tag), word(&tag[4..]));
        // Small elements have their data in the tag.
        if first >> 16 != 0 {
            let data = tag[4..].get(..(first >> 16) as usize).ok_or_else(ends)?;
            *rest = after;
            return Ok(Self { kind: first & 0xffff, data });
        }
        let size = usize::try_from(second).map_err(|_| ends())?;
        let (data, after) = after.split_at_checked(size).ok_or_else(ends)?;
        // The padding of the last element may be absent, and compressed elements have none.
        let padding = if first == COMPRESSED { 0 } else { size.next_multiple_of(8) - size };
        *rest = &after[padding.min(after.len())..];
        Ok(Self { kind: first, data })
    }

    /// Returns the numbers of the element.
    fn numbers(&self) -> Result<Vec<f64>, String> {
        let number: (usize, fn(&[u8]) -> f64) = match self.kind {
            INT8 => (1, |bytes| f64::from(bytes[0].cast_signed())),
            2 => (1, |bytes| f64::from(bytes[0])),
            3 => (2, |bytes| f64::from(i16::from_le_bytes([bytes[0], bytes[1]]))),
            4 => (2, |bytes| f64::from(u16::from_le_bytes([bytes[0], bytes[1]]))),
            INT32 => (4, |bytes| f64::from(word(bytes).cast_signed())),
            6 => (4, |bytes| f64::from(word(bytes))),
            7 => (4, |bytes| f64::from(f32::from_bits(word(bytes)))),
            9 => (8, |bytes| {
                f64::from_bits(u64::from(word(bytes)) | u64::from(word(&bytes[4..])) << 32)
            }),
            kind => return Err(format!("numbers of the kind {kind} are not supported")),
        };
        let (size, number) = number;
        if !self.data.len().is_multiple_of(size) {
            return Err("an element ends within a number".to_owned());
        }
        Ok(self.data.chunks_exact(size).map(number).collect())
    }
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn decompressed(data: &[u8], bytes_max: usize) -> Result<Vec<u8>, String> {
    let mut unpacked = Vec::new();
    ZlibDecoder::new(data)
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut unpacked)
        .map_err(|error| format!("an element cannot be decompressed: {error}"))?;
    if unpacked.len() > bytes_max {
        return Err(format!("the file has more than {BYTES_MAX} bytes after decompression"));
    }
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(kind: u32, data: &[u8]) -> Vec<u8> {
        let size = u32::try_from(data.len()).unwrap();
        let mut bytes = [kind.to_le_bytes(), size.to_le_bytes()].concat();
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    /// A file with the matrix `m`.
    fn file(rows: i32, columns: i32, kind: u32, values: &[u8]) -> Vec<u8> {
        let dimensions = [rows.to_le_bytes(), columns.to_le_bytes()].concat();
        let name = [0x0001_0001_u32.to_le_bytes(), [b'm', 0, 0, 0]].concat();
        let matrix = [
            element(6, &[6, 0, 0, 0, 0, 0, 0, 0]),
            element(INT32, &dimensions),
            name,
            element(kind, values),
        ]
        .concat();
        let mut bytes = vec![b' '; 124];
        bytes.extend_from_slice(&[0, 1, b'I', b'M']);
        bytes.extend_from_slice(&element(MATRIX, &matrix));
        bytes
    }

    #[test]
    fn matrices_of_small_integers_are_numbers() {
        let parsed = MatFile::parse(&file(1, 3, 3, &[1, 0, 255, 255, 0, 1])).unwrap();
        assert_eq!(parsed.vector("m", 3).unwrap(), [1.0, -1.0, 256.0]);
        assert_eq!(parsed.matrix("m", (1, 3)).unwrap().len(), 3);
        let fault = parsed.matrix("m", (3, 1)).unwrap_err();
        assert_eq!(fault, "`m` has 1×3 values, not 3×1 values");
        assert_eq!(parsed.vector("n", 3).unwrap_err(), "`n` is missing");
    }

    #[test]
    fn damage_is_an_error_at_every_byte() {
        let whole = file(2, 1, 9, &[0; 16]);
        for length in 0..whole.len() {
            let cut = MatFile::parse(&whole[..length]);
            assert!(length == HEADER_BYTES || cut.is_err(), "{length} bytes are accepted");
        }
        let fault = MatFile::parse(&file(i32::MAX, i32::MAX, 9, &[0; 16])).unwrap_err();
        assert!(fault.contains("but has 2 values"), "{fault}");
        let infinite = file(1, 1, 9, &f64::INFINITY.to_le_bytes());
        let fault = MatFile::parse(&infinite).unwrap().vector("m", 1).unwrap_err();
        assert_eq!(fault, "`m` has a value that is not finite");
    }
}
