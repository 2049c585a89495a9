//! The items of an image file: their kinds, properties, references and data.
//!
//! Sources: ISO/IEC 14496-12, section 8.11; ISO/IEC 23008-12, section 9. Lists are limited, because
//! some of them may be long without using bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::imaging::codecs::heif::boxes::{Fields, boxes, child};
use crate::imaging::codecs::heif::properties::Property;
use crate::imaging::error::DecodeError;
use crate::imaging::format::ImageFormat;

/// Maximum number of parts that the data of one item has; files of cameras have one.
const EXTENTS_MAX: usize = 256;

/// Maximum number of properties of one item; files of cameras have ten.
const PROPERTIES_MAX: usize = 64;

/// The items of a file.
pub(crate) struct Items<'a> {
    file: &'a [u8],
    format: ImageFormat,
    pub(crate) primary: u32,
    by_id: BTreeMap<u32, Item>,
    properties: Vec<Property<'a>>,
    references: Vec<Reference>,
    /// Data inside of the directory.
    inner_data: &'a [u8],
}

#[derive(Default)]
struct Item {
    kind: [u8; 4],
    is_described: bool,
    /// Indexes of properties, in the order in which they apply, and true if one is essential.
    properties: Vec<(usize, bool)>,
    location: Option<Location>,
}

struct Location {
    construction: u16,
    base: u64,
    /// Offset and length of each part; a length of 0 extends to the end.
    extents: Vec<(u64, u64)>,
}

struct Reference {
    kind: [u8; 4],
    from: u32,
    to: Vec<u32>,
}

impl<'a> Items<'a> {
    /// Reads the directory, the payload of a file's `meta` box. Returns `None` if it names no
    /// primary item, as in a file that has only a sequence.
    pub(crate) fn read(
        file: &'a [u8],
        format: ImageFormat,
        meta: &'a [u8],
    ) -> Result<Option<Self>, DecodeError> {
        let damaged = |part| move || DecodeError::corrupt(format, part);
        let meta = meta.get(4..).ok_or_else(damaged("its directory is empty"))?;
        let Some(primary) = child(meta, *b"pitm") else {
            return Ok(None);
        };
        let primary = primary_item(primary).ok_or_else(damaged("its primary item is not named"))?;
        let mut items = Self {
            file,
            format,
            primary,
            by_id: BTreeMap::new(),
            properties: Vec::new(),
            references: Vec::new(),
            inner_data: child(meta, *b"idat").unwrap_or_default(),
        };
        if let Some(infos) = child(meta, *b"iinf") {
            items.read_kinds(infos).ok_or_else(damaged("its list of items is damaged"))?;
        }
        if let Some(locations) = child(meta, *b"iloc") {
            items
                .read_locations(locations)
                .ok_or_else(damaged("its item locations are damaged"))?;
        }
        if let Some(properties) = child(meta, *b"iprp") {
            items.read_properties(properties).ok_or_else(damaged("its properties are damaged"))?;
        }
        if let Some(references) = child(meta, *b"iref") {
            items.read_references(references).ok_or_else(damaged("its references are damaged"))?;
        }
        Ok(Some(items))
    }

    fn read_kinds(&mut self, infos: &[u8]) -> Option<()> {
        let mut fields = Fields(infos);
        let (version, _) = fields.version_and_flags()?;
        fields.short_or_long(version > 0)?;
        for entry in boxes(fields.0).filter(|entry| entry.kind == *b"infe") {
            let mut fields = Fields(entry.payload);
            let (version, _) = fields.version_and_flags()?;
            // Older versions have no kind; they describe no images.
            if version < 2 {
                continue;
            }
            let id = fields.short_or_long(version > 2)?;
            fields.u16()?;
            let item = self.by_id.entry(id).or_default();
            item.kind = fields.code()?;
            item.is_described = true;
        }
        Some(())
    }

    fn read_locations(&mut self, locations: &[u8]) -> Option<()> {
        let mut fields = Fields(locations);
        let (version, _) = fields.version_and_flags()?;
        let [first, second] = fields.array()?;
        let (offset_len, length_len) = (first >> 4, first & 15);
        let (base_len, index_len) = (second >> 4, if version > 0 { second & 15 } else { 0 });
        for _ in 0..fields.short_or_long(version > 1)? {
            let id = fields.short_or_long(version > 1)?;
            let construction = if version > 0 { fields.u16()? & 15 } else { 0 };
            fields.u16()?;
            let base = fields.number(base_len)?;
            let count = usize::from(fields.u16()?);
            if count > EXTENTS_MAX {
                return None;
            }
            let mut extents = Vec::with_capacity(count);
            for _ in 0..count {
                fields.number(index_len)?;
                extents.push((fields.number(offset_len)?, fields.number(length_len)?));
            }
            self.by_id.entry(id).or_default().location =
                Some(Location { construction, base, extents });
        }
        Some(())
    }

    fn read_properties(&mut self, properties: &'a [u8]) -> Option<()> {
        self.properties = boxes(child(properties, *b"ipco")?).map(Property::read).collect();
        for list in boxes(properties).filter(|entry| entry.kind == *b"ipma") {
            let mut fields = Fields(list.payload);
            let (version, flags) = fields.version_and_flags()?;
            for _ in 0..fields.u32()? {
                let id = fields.short_or_long(version > 0)?;
                let item = self.by_id.entry(id).or_default();
                for _ in 0..fields.u8()? {
                    let (bits, width) = match flags & 1 {
                        0 => (u16::from(fields.u8()?), 7),
                        _ => (fields.u16()?, 15),
                    };
                    // Index 0 means none.
                    if item.properties.len() >= PROPERTIES_MAX {
                        return None;
                    }
                    if let Some(index) = usize::from(bits & !(1 << width)).checked_sub(1) {
                        item.properties.push((index, bits >> width == 1));
                    }
                }
            }
        }
        Some(())
    }

    fn read_references(&mut self, references: &[u8]) -> Option<()> {
        let mut fields = Fields(references);
        let (version, _) = fields.version_and_flags()?;
        for entry in boxes(fields.0) {
            let mut fields = Fields(entry.payload);
            let from = fields.short_or_long(version > 0)?;
            let count = fields.u16()?;
            let to = (0..count).map(|_| fields.short_or_long(version > 0));
            let to = to.collect::<Option<_>>()?;
            self.references.push(Reference { kind: entry.kind, from, to });
        }
        Some(())
    }

    /// Returns the kind of an item.
    pub(crate) fn kind(&self, id: u32) -> Result<[u8; 4], DecodeError> {
        match self.by_id.get(&id) {
            Some(item) if item.is_described => Ok(item.kind),
            _ => Err(self.corrupt("it names an item that it does not describe")),
        }
    }

    /// Returns the properties of an item, each with true if it is essential.
    pub(crate) fn properties(&self, id: u32) -> impl Iterator<Item = (&Property<'a>, bool)> {
        let indexes = self.by_id.get(&id).map(|item| item.properties.as_slice());
        let indexes = indexes.unwrap_or_default().iter();
        indexes
            .filter_map(|(index, is_essential)| Some((self.properties.get(*index)?, *is_essential)))
    }

    /// Returns the items that `from` refers to.
    pub(crate) fn referred(&self, from: u32, kind: [u8; 4]) -> &[u32] {
        let mut found = self.references.iter();
        found
            .find(|reference| reference.kind == kind && reference.from == from)
            .map_or(&[], |reference| &reference.to)
    }

    /// Iterates over the pairs of an item and one that it refers to.
    pub(crate) fn pairs(&self, kind: [u8; 4]) -> impl Iterator<Item = (u32, u32)> {
        let references = self.references.iter().filter(move |reference| reference.kind == kind);
        references.flat_map(|reference| reference.to.iter().map(|to| (reference.from, *to)))
    }

    /// Returns the data of an item, all of which must be in the file.
    pub(crate) fn data(&self, id: u32) -> Result<Cow<'a, [u8]>, DecodeError> {
        let location = self.by_id.get(&id).and_then(|item| item.location.as_ref());
        let location = location.ok_or_else(|| self.corrupt("an item has no data"))?;
        let source = match location.construction {
            0 => self.file,
            1 => self.inner_data,
            _ => return Err(self.unsupported("items that are made of parts of other items")),
        };
        let part = |(offset, length): (u64, u64)| {
            let start = usize::try_from(location.base.checked_add(offset)?).ok()?;
            let rest = source.get(start..)?;
            let len = usize::try_from(length).ok()?;
            if len == 0 { Some(rest) } else { rest.get(..len) }
        };
        let cut = || DecodeError::truncated(self.format, "the data of an image ends early");
        let parts = location.extents.iter().map(|extent| part(*extent).ok_or_else(cut));
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        match parts.as_slice() {
            [] => Err(self.corrupt("an item has no data")),
            [part] => Ok(Cow::Borrowed(*part)),
            parts if parts.iter().map(|part| part.len()).sum::<usize>() > self.file.len() => {
                Err(self.corrupt("the parts of an item overlap"))
            }
            parts => Ok(Cow::Owned(parts.concat())),
        }
    }

    /// Returns the number of bytes of an item's data, as claimed.
    pub(crate) fn data_len(&self, id: u32) -> u64 {
        let location = self.by_id.get(&id).and_then(|item| item.location.as_ref());
        let file_len = self.file.len() as u64;
        let len = |(_, length): &(u64, u64)| if *length == 0 { file_len } else { *length };
        location.map_or(0, |location| location.extents.iter().map(len).fold(0, u64::saturating_add))
    }

    pub(crate) fn file_len(&self) -> u64 {
        self.file.len() as u64
    }

    pub(crate) fn corrupt(&self, detail: &str) -> DecodeError {
        DecodeError::corrupt(self.format, detail)
    }

    pub(crate) fn unsupported(&self, feature: &str) -> DecodeError {
        DecodeError::unsupported(self.format, &format!("it has {feature}"))
    }
}

fn primary_item(payload: &[u8]) -> Option<u32> {
    let mut fields = Fields(payload);
    let (version, _) = fields.version_and_flags()?;
    fields.short_or_long(version > 0)
}
