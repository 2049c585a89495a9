//! Decodes a whole JPEG file.
#![expect(clippy::cast_possible_truncation, reason = "a side has 16 bits")]

use crate::imaging::buffer_pool;
use crate::imaging::codecs::byte_order::be16;
use crate::imaging::codecs::jpeg::coefficients::{Grid, ZIGZAG};
use crate::imaging::codecs::jpeg::colour::Colour;
use crate::imaging::codecs::jpeg::fault::Fault;
use crate::imaging::codecs::jpeg::frame::{Frame, Process, check_process};
use crate::imaging::codecs::jpeg::huffman::{HuffmanTable, HuffmanTables};
use crate::imaging::codecs::jpeg::markers::{
    DAC, DHP, DHT, DQT, DRI, EOI, FORMAT, SOS, Segment, Segments, is_frame,
};
use crate::imaging::codecs::jpeg::metadata::Metadata;
use crate::imaging::codecs::jpeg::progress::Progress;
use crate::imaging::codecs::jpeg::progressive::{
    AcFirstCoder, AcRefinementCoder, Band, DcFirstCoder, DcRefinementCoder,
};
use crate::imaging::codecs::jpeg::render::Renderer;
use crate::imaging::codecs::jpeg::scan::{Rest, Scan, ScanData, decode_blocks};
use crate::imaging::codecs::jpeg::sequential::SequentialCoder;
use crate::imaging::codecs::jpeg::transform::Steps;
use crate::imaging::error::DecodeError;
use crate::imaging::header::Header;
use crate::imaging::raster::{Layout, Raster, Samples};

/// Decodes a whole JPEG file.
pub(crate) fn decode(bytes: &[u8], header: Header) -> Result<Raster, DecodeError> {
    let mut segments = Segments::new(bytes);
    let mut tables = Tables::default();
    let mut metadata = Metadata::default();
    let frame = loop {
        let Some(segment) = segments.next()? else {
            return Err(DecodeError::truncated(FORMAT, "its image data is missing"));
        };
        match segment.marker {
            marker if is_frame(marker) => break Frame::read(marker, segment.payload)?,
            DHP | DAC => drop(check_process(segment.marker, segment.payload)?),
            SOS | EOI => return Err(DecodeError::corrupt(FORMAT, "it has no frame header")),
            _ => tables.read_or(&segment, &mut metadata)?,
        }
    };
    if (frame.width, frame.height) != (header.width as usize, header.height as usize)
        || frame.width == 0
        || frame.height == 0
    {
        return Err(DecodeError::corrupt(FORMAT, "its headers disagree about its size"));
    }
    let file = File { bytes, frame, tables, metadata };
    file.decode(segments)
}

/// The tables that segments define for the scans behind them.
#[derive(Default)]
struct Tables {
    huffman: HuffmanTables,
    quantisation: [Option<Steps>; 4],
    /// MCUs between restart markers, or 0.
    restart_interval: usize,
}

impl Tables {
    /// Reads a segment with tables. Gives any other one to the metadata.
    fn read_or<'a>(
        &mut self,
        segment: &Segment<'a>,
        metadata: &mut Metadata<'a>,
    ) -> Result<(), DecodeError> {
        let is_sound = match segment.marker {
            DHT => self.huffman.read(segment.payload).is_some(),
            DQT => self.read_steps(segment.payload).is_some(),
            DRI => {
                let interval = be16(segment.payload, 0);
                self.restart_interval = interval.unwrap_or(0) as usize;
                interval.is_some()
            }
            _ => {
                metadata.add(segment);
                true
            }
        };
        if is_sound { Ok(()) } else { Err(DecodeError::corrupt(FORMAT, "a table is not valid")) }
    }

    /// Reads the quantisation tables of a segment.
    fn read_steps(&mut self, mut payload: &[u8]) -> Option<()> {
        while let Some((slot, rest)) = payload.split_first() {
            let (is_wide, slot) = (slot >> 4 == 1, usize::from(slot & 15));
            let (entries, rest) = rest.split_at_checked(if is_wide { 128 } else { 64 })?;
            let mut steps = [0; 64];
            for (index, position) in ZIGZAG.iter().enumerate() {
                let step = if is_wide { be16(entries, 2 * index)? } else { entries[index].into() };
                steps[usize::from(*position)] = step.cast_signed();
            }
            *self.quantisation.get_mut(slot)? = Some(steps);
            payload = rest;
        }
        Some(())
    }
}

/// A file whose headers were read.
struct File<'a> {
    bytes: &'a [u8],
    frame: Frame,
    tables: Tables,
    metadata: Metadata<'a>,
}

impl<'a> File<'a> {
    /// Decodes the scans.
    fn decode(mut self, mut segments: Segments<'a>) -> Result<Raster, DecodeError> {
        let components = self.frame.components.len();
        let mut steps: Vec<Option<Steps>> = vec![None; components];
        let mut progress = Progress::new(&self.frame, self.bytes.len());
        let mut grids: Vec<Grid> = Vec::new();
        while let Some(segment) = segments.next()? {
            match segment.marker {
                SOS => {
                    let scan = Scan::read(&self.frame, segment.payload)?;
                    progress.add(&self.frame, &scan)?;
                    for used in &scan.components {
                        let table = self.frame.components[used.index].table;
                        steps[used.index] = steps[used.index].or(self.tables.quantisation[table]);
                    }
                    if self.frame.process == Process::Sequential {
                        self.tables.huffman.add_standard();
                    }
                    let end = ScanEnd { marker: segments.peek_marker() };
                    let is_alone = self.frame.process == Process::Sequential
                        && scan.components.len() == components;
                    if is_alone {
                        let pixels = self.decode_at_once(&scan, &segment, steps, end)?;
                        return Ok(self.raster(pixels));
                    }
                    if grids.is_empty() {
                        self.check_data_explains_size(&scan, &segment, end)?;
                        grids = self.grids();
                    }
                    self.decode_scan(&scan, &segment, end, &mut grids)?;
                    if progress.is_complete() {
                        break;
                    }
                }
                EOI => {
                    progress.accept_end();
                    break;
                }
                marker if is_frame(marker) => {
                    return Err(DecodeError::corrupt(FORMAT, "it has two frame headers"));
                }
                _ => self.tables.read_or(&segment, &mut self.metadata)?,
            }
        }
        if !progress.is_whole() {
            return Err(DecodeError::truncated(FORMAT, "its last scans are missing"));
        }
        let pixels = self.render(&grids, steps)?;
        Ok(self.raster(pixels))
    }

    /// Decodes a scan with all coefficients of all components, and renders each row of MCUs.
    fn decode_at_once(
        &self,
        scan: &Scan,
        segment: &Segment<'_>,
        steps: Vec<Option<Steps>>,
        end: ScanEnd,
    ) -> Result<Vec<u8>, DecodeError> {
        self.check_data_explains_size(scan, segment, end)?;
        let coder = SequentialCoder::new(self.sequential_tables(scan)?);
        let mut grids: Vec<Grid> = self
            .frame
            .components
            .iter()
            .map(|component| Grid::new(self.frame.mcus_x * component.h, component.v))
            .collect();
        let mut renderer = self.renderer(steps)?;
        let row_done = |mcu_y, grids: &[Grid]| renderer.add_mcu_row(mcu_y, grids);
        let data = self.data(scan, segment);
        let rest = decode_blocks(&data, coder, &mut grids, row_done);
        match rest.map_err(|fault| end.error(fault))? {
            Rest::Blocks => Err(end.error(Fault::Surplus)),
            Rest::Nothing | Rest::Stray => Ok(renderer.into_pixels()),
        }
    }

    /// Decodes a scan with some of the coefficients or components.
    fn decode_scan(
        &self,
        scan: &Scan,
        segment: &Segment<'_>,
        end: ScanEnd,
        grids: &mut [Grid],
    ) -> Result<(), DecodeError> {
        let data = self.data(scan, segment);
        let frame = &self.frame;
        let done = |_: usize, _: &[Grid]| Ok::<(), Fault>(());
        let huffman = &self.tables.huffman;
        let band = Band { first: scan.first, last: scan.last, bit: scan.bit };
        let is_sequential = frame.process == Process::Sequential;
        let rest = if is_sequential {
            let coder = SequentialCoder::new(self.sequential_tables(scan)?);
            decode_blocks(&data, coder, grids, done)
        } else if scan.first == 0 && scan.bit_before == 0 {
            let tables = scan.components.iter().map(|used| defined(huffman.dc[used.dc].as_ref()));
            let tables = tables.collect::<Result<_, _>>()?;
            let coder = DcFirstCoder { tables, predictions: [0; 4], bit: scan.bit };
            decode_blocks(&data, coder, grids, done)
        } else if scan.first == 0 {
            let coder = DcRefinementCoder { bit: scan.bit };
            decode_blocks(&data, coder, grids, done)
        } else {
            let table = defined(huffman.ac[scan.components[0].ac].as_ref())?;
            if scan.bit_before == 0 {
                let coder = AcFirstCoder { table, band, blocks_to_skip: 0 };
                decode_blocks(&data, coder, grids, done)
            } else {
                let coder = AcRefinementCoder { table, band, blocks_to_skip: 0 };
                decode_blocks(&data, coder, grids, done)
            }
        };
        match rest.map_err(|fault| end.error(fault))? {
            Rest::Nothing => Ok(()),
            // Devices write stray bytes before the end marker, never between scans.
            Rest::Stray if end.is_end() => Ok(()),
            Rest::Blocks if end.is_end() && !is_sequential => Ok(()),
            Rest::Stray | Rest::Blocks => Err(end.error(Fault::Surplus)),
        }
    }

    /// Refuses a size that the data cannot fill, before memory for it is allocated. A block takes
    /// at least the shortest code of each table.
    fn check_data_explains_size(
        &self,
        scan: &Scan,
        segment: &Segment<'_>,
        end: ScanEnd,
    ) -> Result<(), DecodeError> {
        let shortest =
            |table: Option<&HuffmanTable>| table.map_or(0, |table| table.shortest() as usize);
        let huffman = &self.tables.huffman;
        let bits_of_block = scan.components.iter().map(|used| {
            let is_sequential = self.frame.process == Process::Sequential;
            let ac = if is_sequential { shortest(huffman.ac[used.ac].as_ref()) } else { 0 };
            shortest(huffman.dc[used.dc].as_ref()) + ac
        });
        let bits = bits_of_block.min().unwrap_or(0) * scan.blocks(&self.frame);
        if scan.first == 0 && segment.data.len() * 8 < bits {
            return Err(end.error(Fault::EndsEarly));
        }
        Ok(())
    }

    fn data<'s>(&'s self, scan: &'s Scan, segment: &Segment<'s>) -> ScanData<'s> {
        let restart_interval = self.tables.restart_interval;
        ScanData { frame: &self.frame, scan, bytes: segment.data, restart_interval }
    }

    fn sequential_tables(
        &self,
        scan: &Scan,
    ) -> Result<Vec<(&HuffmanTable, &HuffmanTable)>, DecodeError> {
        let huffman = &self.tables.huffman;
        let of = |dc: usize, ac: usize| {
            Ok((defined(huffman.dc[dc].as_ref())?, defined(huffman.ac[ac].as_ref())?))
        };
        scan.components.iter().map(|used| of(used.dc, used.ac)).collect()
    }

    /// Returns grids for all blocks, with those that fill up the last MCUs.
    fn grids(&self) -> Vec<Grid> {
        let Frame { components, mcus_x, mcus_y, .. } = &self.frame;
        components.iter().map(|found| Grid::new(mcus_x * found.h, mcus_y * found.v)).collect()
    }

    fn colour(&self) -> Colour {
        self.metadata.colour(&self.frame)
    }

    fn renderer(&self, steps: Vec<Option<Steps>>) -> Result<Renderer, DecodeError> {
        let steps: Option<Vec<Steps>> = steps.into_iter().collect();
        let missing = || DecodeError::corrupt(FORMAT, "a quantisation table is missing");
        let steps = steps.ok_or_else(missing)?;
        let colour = self.colour();
        let len = self.frame.width * self.frame.height * colour.samples();
        Ok(Renderer::new(&self.frame, &steps, colour, buffer_pool::empty(len)))
    }

    fn render(&self, grids: &[Grid], steps: Vec<Option<Steps>>) -> Result<Vec<u8>, DecodeError> {
        let mut renderer = self.renderer(steps)?;
        for mcu_y in 0..self.frame.mcus_y {
            renderer.add_mcu_row(mcu_y, grids).map_err(|fault| fault.into_error(false))?;
        }
        Ok(renderer.into_pixels())
    }

    fn raster(&self, pixels: Vec<u8>) -> Raster {
        let layout = match self.colour() {
            Colour::Grey => Layout::Gray,
            Colour::Rgb | Colour::YCbCr => Layout::Rgb,
            Colour::Cmyk | Colour::Ycck => Layout::Cmyk,
        };
        Raster {
            width: self.frame.width as u32,
            height: self.frame.height as u32,
            layout,
            samples: Samples::Eight(pixels),
            icc: self.metadata.profile(),
            orientation: self.metadata.orientation(),
        }
    }
}

/// The marker behind a scan's data, or `None` at the end of the file.
#[derive(Clone, Copy)]
struct ScanEnd {
    marker: Option<u8>,
}

impl ScanEnd {
    fn is_end(self) -> bool {
        self.marker.is_none_or(|marker| marker == EOI)
    }

    fn error(self, fault: Fault) -> DecodeError {
        fault.into_error(self.is_end())
    }
}

fn defined(table: Option<&HuffmanTable>) -> Result<&HuffmanTable, DecodeError> {
    table.ok_or_else(|| DecodeError::corrupt(FORMAT, "a Huffman table is missing"))
}
