//! A scan: its header, and the walk over its blocks.

use crate::imaging::codecs::jpeg::bits::{BitReader, Intervals};
use crate::imaging::codecs::jpeg::coefficients::{Block, Grid};
use crate::imaging::codecs::jpeg::fault::Fault;
use crate::imaging::codecs::jpeg::frame::{Component, Frame};
use crate::imaging::codecs::jpeg::markers::FORMAT;
use crate::imaging::error::DecodeError;

/// A component of a scan, and the slots of its Huffman tables.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScanComponent {
    /// Index in the frame.
    pub(crate) index: usize,
    pub(crate) dc: usize,
    pub(crate) ac: usize,
}

/// A scan header.
#[derive(Debug, Clone)]
pub(crate) struct Scan {
    pub(crate) components: Vec<ScanComponent>,
    /// First and last coefficient, in coding order.
    pub(crate) first: usize,
    pub(crate) last: usize,
    /// Lowest bit of the coefficients that earlier scans decoded; 0 if none did.
    pub(crate) bit_before: u32,
    /// Lowest bit of the coefficients that this scan decodes.
    pub(crate) bit: u32,
}

impl Scan {
    /// Reads a scan header.
    pub(crate) fn read(frame: &Frame, payload: &[u8]) -> Result<Self, DecodeError> {
        let corrupt = || DecodeError::corrupt(FORMAT, "a scan header is not valid");
        let count = usize::from(*payload.first().ok_or_else(corrupt)?);
        let (entries, rest) = payload[1..].split_at_checked(2 * count).ok_or_else(corrupt)?;
        let mut components: Vec<ScanComponent> = Vec::new();
        for [name, tables] in entries.as_chunks::<2>().0 {
            // Some writers name several components alike; they mean them in order.
            let is_free = |index: usize| components.iter().all(|used| used.index != index);
            let mut named = frame.components.iter().enumerate();
            let index = named.find(|(index, found)| found.name == *name && is_free(*index));
            let (index, _) = index.ok_or_else(corrupt)?;
            let (dc, ac) = (usize::from(tables >> 4), usize::from(tables & 15));
            components.push(ScanComponent { index, dc, ac });
        }
        let [first, last, bits] = *rest.first_chunk().ok_or_else(corrupt)?;
        let (first, last) = (usize::from(first), usize::from(last));
        let (bit_before, bit) = (u32::from(bits >> 4), u32::from(bits & 15));
        let has_tables = components.iter().all(|component| component.dc < 4 && component.ac < 4);
        if components.is_empty() || !has_tables {
            return Err(corrupt());
        }
        Ok(Self { components, first, last, bit_before, bit })
    }

    /// Returns the number of blocks in the scan.
    pub(crate) fn blocks(&self, frame: &Frame) -> usize {
        let component = |used: &ScanComponent| &frame.components[used.index];
        match self.components.as_slice() {
            [alone] => component(alone).blocks_x() * component(alone).blocks_y(),
            several => {
                let of_mcu: usize =
                    several.iter().map(|used| component(used).h * component(used).v).sum();
                of_mcu * frame.mcus_x * frame.mcus_y
            }
        }
    }
}

/// Decodes the blocks of a scan, one after the other.
pub(crate) trait BlockCoder: Clone {
    /// Starts a new interval.
    fn restart(&mut self);

    /// Returns true if an interval may end here: no announced block is missing.
    fn is_settled(&self) -> bool {
        true
    }

    /// Decodes a block of a component of the scan. `last` is the last position of its coefficients
    /// that may not be zero.
    fn decode(
        &mut self,
        reader: &mut BitReader<'_>,
        slot: usize,
        block: &mut Block,
        last: &mut u8,
    ) -> Result<(), Fault>;
}

/// A block of an MCU.
struct McuBlock {
    /// Index of its component in the scan.
    slot: usize,
    /// Index of its component in the frame.
    grid: usize,
    /// Offset in the MCU, in blocks.
    x: usize,
    y: usize,
    /// Blocks of the component per MCU, horizontally and vertically.
    h: usize,
    v: usize,
    /// Position in the grid.
    at: usize,
}

/// The MCUs of a scan.
struct Layout {
    blocks: Vec<McuBlock>,
    mcus_x: usize,
    mcus_y: usize,
}

impl Layout {
    fn of(frame: &Frame, scan: &Scan) -> Self {
        let mut blocks = Vec::new();
        let is_alone = scan.components.len() == 1;
        for (slot, used) in scan.components.iter().enumerate() {
            let Component { h, v, .. } = frame.components[used.index];
            // Alone, an MCU is a block.
            let (h, v) = if is_alone { (1, 1) } else { (h, v) };
            let grid = used.index;
            for y in 0..v {
                blocks.extend((0..h).map(|x| McuBlock { slot, grid, x, y, h, v, at: 0 }));
            }
        }
        let first = &frame.components[scan.components[0].index];
        let (mcus_x, mcus_y) = if is_alone {
            (first.blocks_x(), first.blocks_y())
        } else {
            (frame.mcus_x, frame.mcus_y)
        };
        Self { blocks, mcus_x, mcus_y }
    }

    /// Moves to the first MCU of a row.
    fn start_row(&mut self, mcu_y: usize, grids: &[Grid]) {
        for block in &mut self.blocks {
            block.at = grids[block.grid].position(mcu_y * block.v + block.y, block.x);
        }
    }
}

/// A scan with its data.
pub(crate) struct ScanData<'a> {
    pub(crate) frame: &'a Frame,
    pub(crate) scan: &'a Scan,
    pub(crate) bytes: &'a [u8],
    /// MCUs between restart markers, or 0.
    pub(crate) restart_interval: usize,
}

/// The data behind the last block of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    Nothing,
    /// Bytes that some devices write there.
    Stray,
    /// Further blocks, up to the last bit, or a part of one: damage made the decoder lose as many.
    Blocks,
}

/// Decodes all blocks of a scan into the grids of the frame's components. Calls `row_done` after
/// each row of MCUs.
///
/// # Errors
/// Fails if a block was not decoded from data of its own.
pub(crate) fn decode_blocks<Coder: BlockCoder, Error: From<Fault>>(
    data: &ScanData<'_>,
    mut coder: Coder,
    grids: &mut [Grid],
    mut row_done: impl FnMut(usize, &[Grid]) -> Result<(), Error>,
) -> Result<Rest, Error> {
    let mut layout = Layout::of(data.frame, data.scan);
    let mut intervals = Intervals::new(data.bytes);
    let (mut bytes, mut marker) = intervals.next();
    let mut reader = BitReader::new(&bytes);
    let mut mcus_left = data.restart_interval;
    let mut restarts: u8 = 0;
    for mcu_y in 0..layout.mcus_y {
        layout.start_row(mcu_y, grids);
        for _ in 0..layout.mcus_x {
            if data.restart_interval > 0 && mcus_left == 0 {
                check_restart(&reader, &coder, marker, restarts)?;
                (bytes, marker) = intervals.next();
                reader = BitReader::new(&bytes);
                coder.restart();
                mcus_left = data.restart_interval;
                restarts = restarts.wrapping_add(1);
            }
            mcus_left = mcus_left.wrapping_sub(1);
            decode_mcu(&mut layout.blocks, &mut coder, &mut reader, grids)
                .map_err(|fault| in_interval(fault, marker))?;
        }
        row_done(mcu_y, grids)?;
    }
    if !coder.is_settled() {
        return Err(Fault::Surplus.into());
    }
    Ok(rest(&layout.blocks, coder, reader))
}

#[inline(always)]
fn decode_mcu<Coder: BlockCoder>(
    blocks: &mut [McuBlock],
    coder: &mut Coder,
    reader: &mut BitReader<'_>,
    grids: &mut [Grid],
) -> Result<(), Fault> {
    for McuBlock { slot, grid, h, at, .. } in blocks {
        let (block, last) = grids[*grid].block(*at);
        *at += *h;
        if let Err(fault) = coder.decode(reader, *slot, block, last) {
            // Zeros behind the end of the data are no codes of the file.
            return Err(if reader.is_near_end() { Fault::EndsEarly } else { fault });
        }
    }
    if reader.is_exceeded() { Err(Fault::EndsEarly) } else { Ok(()) }
}

/// Blames the marker if an interval ends early that is not the last.
fn in_interval(fault: Fault, marker: Option<u8>) -> Fault {
    if fault == Fault::EndsEarly && marker.is_some() { Fault::Restart } else { fault }
}

/// Checks that an interval ends with its data, at the restart marker that follows the one before.
fn check_restart<Coder: BlockCoder>(
    reader: &BitReader<'_>,
    coder: &Coder,
    marker: Option<u8>,
    restarts: u8,
) -> Result<(), Fault> {
    match marker {
        None if reader.bytes_left() > 0 => Err(Fault::Restart),
        None => Err(Fault::EndsEarly),
        Some(marker) if marker != 0xd0 + restarts % 8 => Err(Fault::Restart),
        Some(_) if reader.bytes_left() > 0 || !reader.has_even_padding() => Err(Fault::Surplus),
        Some(_) if !coder.is_settled() => Err(Fault::Surplus),
        Some(_) => Ok(()),
    }
}

/// Classifies the data behind the last block.
fn rest<Coder: BlockCoder>(
    blocks: &[McuBlock],
    mut coder: Coder,
    mut reader: BitReader<'_>,
) -> Rest {
    if !reader.has_even_padding() {
        return Rest::Blocks;
    }
    if reader.bytes_left() == 0 {
        return Rest::Nothing;
    }
    let (mut block, mut last) = ([0; 64], 0);
    for McuBlock { slot, .. } in blocks.iter().cycle() {
        let decoded = coder.decode(&mut reader, *slot, &mut block, &mut last);
        if decoded.is_err() || reader.is_exceeded() {
            break;
        }
        if reader.is_at_padded_end() {
            return Rest::Blocks;
        }
    }
    Rest::Stray
}
