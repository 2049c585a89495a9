//! The frame header: size, coding process and components.

use crate::imaging::codecs::byte_order::be16;
use crate::imaging::codecs::jpeg::markers::{
    DAC, DHP, DNL, EOI, FORMAT, SOF55, SOS, Segments, is_frame,
};
use crate::imaging::error::DecodeError;

/// Samples of a block's side.
pub(crate) const BLOCK: usize = 8;

/// The order in which a file stores the coefficients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Process {
    /// All coefficients of a block at once.
    Sequential,
    /// Some bits of some coefficients of all blocks, then further ones.
    Progressive,
}

/// One of the components of which a pixel consists.
#[derive(Debug, Clone)]
pub(crate) struct Component {
    /// Name by which scan headers refer to it.
    pub(crate) name: u8,
    /// Samples per MCU, horizontally and vertically, in blocks.
    pub(crate) h: usize,
    pub(crate) v: usize,
    /// Slot of its quantisation table.
    pub(crate) table: usize,
    /// Size in samples.
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Component {
    /// Returns the blocks of a row in a scan of this component alone.
    pub(crate) fn blocks_x(&self) -> usize {
        self.width.div_ceil(BLOCK)
    }

    /// Returns the rows of blocks in a scan of this component alone.
    pub(crate) fn blocks_y(&self) -> usize {
        self.height.div_ceil(BLOCK)
    }
}

/// A frame header of a supported coding process.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) process: Process,
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) components: Vec<Component>,
    /// The largest sampling factors of all components.
    pub(crate) h_max: usize,
    pub(crate) v_max: usize,
    /// MCUs of a row, and rows of MCUs, in a scan of several components.
    pub(crate) mcus_x: usize,
    pub(crate) mcus_y: usize,
}

/// Reads width and height from the first frame header.
pub(crate) fn size(bytes: &[u8]) -> Result<Option<(u32, u32)>, DecodeError> {
    let mut segments = Segments::new(bytes);
    while let Some(segment) = segments.next()? {
        if is_frame(segment.marker) {
            let (Some(height), Some(width)) = (be16(segment.payload, 1), be16(segment.payload, 3))
            else {
                return Err(DecodeError::corrupt(FORMAT, "its frame header is too short"));
            };
            if height == 0 && has_height_after_data(&mut segments)? {
                let feature = "its height is given after the image data (DNL)";
                return Err(DecodeError::unsupported(FORMAT, feature));
            }
            return Ok(Some((width, height)));
        }
        if segment.marker == EOI {
            return Err(DecodeError::corrupt(FORMAT, "it has no frame header"));
        }
    }
    Ok(None)
}

/// Returns true if a marker behind the first scan gives the height.
fn has_height_after_data(segments: &mut Segments<'_>) -> Result<bool, DecodeError> {
    while let Some(segment) = segments.next()? {
        if segment.marker == SOS {
            return Ok(segments.peek_marker() == Some(DNL));
        }
    }
    Ok(false)
}

/// Refuses a coding process that is not supported, and names it.
pub(crate) fn check_process(marker: u8, payload: &[u8]) -> Result<Process, DecodeError> {
    let feature = match marker {
        0xc0..=0xc2 if payload.first() == Some(&8) => {
            let is_progressive = marker == 0xc2;
            return Ok(if is_progressive { Process::Progressive } else { Process::Sequential });
        }
        0xc0..=0xc2 => "its samples do not have 8 bits".to_owned(),
        0xc3 => "lossless coding is not supported".to_owned(),
        DHP | 0xc5..=0xc7 => "hierarchical coding is not supported".to_owned(),
        0xc9..=0xcb | 0xcd..=0xcf | DAC => "arithmetic coding is not supported".to_owned(),
        SOF55 => "it is JPEG-LS, which is not supported".to_owned(),
        _ => format!("its coding process {marker:02x} is not supported"),
    };
    Err(DecodeError::unsupported(FORMAT, &feature))
}

impl Frame {
    /// Reads a frame header.
    pub(crate) fn read(marker: u8, payload: &[u8]) -> Result<Self, DecodeError> {
        let process = check_process(marker, payload)?;
        let corrupt = |detail| DecodeError::corrupt(FORMAT, detail);
        let (Some(height), Some(width)) = (be16(payload, 1), be16(payload, 3)) else {
            return Err(corrupt("its frame header is too short"));
        };
        let (width, height) = (width as usize, height as usize);
        let count = usize::from(payload.get(5).copied().unwrap_or(0));
        let entries = payload.get(6..).unwrap_or_default().as_chunks::<3>().0;
        if count == 0 || entries.len() < count {
            return Err(corrupt("its frame header is too short"));
        }
        if !matches!(count, 1 | 3 | 4) {
            let feature = format!("it has {count} components");
            return Err(DecodeError::unsupported(FORMAT, &feature));
        }
        let mut components = Vec::new();
        for [name, sampling, table] in &entries[..count] {
            let (h, v) = (usize::from(sampling >> 4), usize::from(sampling & 15));
            if !(1..=4).contains(&h) || !(1..=4).contains(&v) || *table > 3 {
                return Err(corrupt("its frame header has invalid sampling factors or tables"));
            }
            // A single component is never interleaved: its MCU is a block at any factors.
            let (h, v) = if count == 1 { (1, 1) } else { (h, v) };
            let table = usize::from(*table);
            components.push(Component { name: *name, h, v, table, width: 0, height: 0 });
        }
        let h_max = components.iter().map(|component| component.h).max().unwrap_or(1);
        let v_max = components.iter().map(|component| component.v).max().unwrap_or(1);
        for component in &mut components {
            component.width = (width * component.h).div_ceil(h_max);
            component.height = (height * component.v).div_ceil(v_max);
        }
        let (mcus_x, mcus_y) = (width.div_ceil(BLOCK * h_max), height.div_ceil(BLOCK * v_max));
        Ok(Self { process, width, height, components, h_max, v_max, mcus_x, mcus_y })
    }

    /// Returns the number of blocks of all components.
    pub(crate) fn blocks(&self) -> usize {
        let count = |component: &Component| component.blocks_x() * component.blocks_y();
        self.components.iter().map(count).sum()
    }
}
