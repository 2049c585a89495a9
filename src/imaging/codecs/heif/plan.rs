//! The coded pictures of which an image is made, found and checked before anything is decoded.
//!
//! Source: ISO/IEC 23008-12, section 6.6.

use std::collections::BTreeMap;

use crate::imaging::codecs::heif::boxes::Fields;
use crate::imaging::codecs::heif::code_points::CodePoints;
use crate::imaging::codecs::heif::coded::{Coded, Coding};
use crate::imaging::codecs::heif::items::Items;
use crate::imaging::codecs::heif::properties::Property;
use crate::imaging::codecs::heif::view::{DEPTH_MAX, View};
use crate::imaging::error::DecodeError;
use crate::imaging::format::ImageFormat;

/// Pixels that the tiles of a grid may have beyond four times those of the image.
const SPARE_PIXELS: u64 = 1 << 20;

/// Maximum length of the data of all tiles or layers, as a multiple of the file's: they may share
/// data.
const DATA_TIMES_MAX: u64 = 16;

/// Smallest side of a tile in a grid of many. Each tile costs time even without pixels.
const TILE_SIDE_MIN: u32 = 64;

/// Number of tiles up to which they may be smaller.
const SMALL_TILES_MAX: usize = 256;

/// Maximum number of images over each other.
const LAYERS_MAX: usize = 256;

/// Names of auxiliary images that are alpha.
const ALPHA: [&[u8]; 3] = [
    b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha",
    b"urn:mpeg:hevc:2015:auxid:1",
    b"urn:mpeg:avc:2015:auxid:1",
];

/// Properties that do not change pixels, or only in ways that no viewer follows.
const HARMLESS: [&[u8; 4]; 12] = [
    b"pixi", b"pasp", b"colr", b"clli", b"mdcv", b"cclv", b"amve", b"rloc", b"a1lx", b"subs",
    b"udes", b"altt",
];

/// An image and the way to make it.
pub(crate) struct Picture<'a> {
    pub(crate) source: Source<'a>,
    /// Width of the source in pixels.
    pub(crate) width: u32,
    /// Height of the source in pixels.
    pub(crate) height: u32,
    pub(crate) view: View,
    pub(crate) icc: Option<&'a [u8]>,
    pub(crate) colour: Option<CodePoints>,
    pub(crate) alpha: Option<Alpha<'a>>,
}

/// The transparency of an image.
pub(crate) struct Alpha<'a> {
    pub(crate) picture: Box<Picture<'a>>,
    /// True if the colours are already multiplied by it.
    pub(crate) is_multiplied: bool,
}

/// The origin of pixels.
pub(crate) enum Source<'a> {
    Coded(Coded<'a>),
    Grid(Grid<'a>),
    Overlay(Overlay<'a>),
}

/// Tiles of equal size, row by row.
pub(crate) struct Grid<'a> {
    pub(crate) columns: usize,
    pub(crate) tiles: Vec<Coded<'a>>,
}

/// Images over each other, the first at the bottom.
pub(crate) struct Overlay<'a> {
    /// Red, green, blue and alpha of the pixels without an image.
    pub(crate) fill: [u16; 4],
    pub(crate) layers: Vec<Layer<'a>>,
}

/// An image of an overlay, and the position of its left upper corner.
pub(crate) struct Layer<'a> {
    pub(crate) picture: Picture<'a>,
    pub(crate) x: i32,
    pub(crate) y: i32,
}

impl<'a> Picture<'a> {
    /// Plans the primary image.
    pub(crate) fn primary(items: &Items<'a>, format: ImageFormat) -> Result<Self, DecodeError> {
        let planner = Planner { items, format };
        planner.picture(items.primary, 0)
    }

    /// Returns the first coded picture.
    pub(crate) fn first(&self) -> Option<&Coded<'a>> {
        match &self.source {
            Source::Coded(coded) => Some(coded),
            Source::Grid(grid) => grid.tiles.first(),
            Source::Overlay(overlay) => overlay.layers.first()?.picture.first(),
        }
    }
}

struct Planner<'i, 'a> {
    items: &'i Items<'a>,
    format: ImageFormat,
}

impl<'a> Planner<'_, 'a> {
    fn picture(&self, id: u32, depth: u32) -> Result<Picture<'a>, DecodeError> {
        let view = View::of(self.items, id, depth)?;
        self.check_properties(id)?;
        if self.items.kind(id)? == *b"iden" {
            let source = self.items.referred(id, *b"dimg")[0];
            let picture = self.picture(source, depth + 1)?;
            return Ok(Picture { view, ..picture });
        }
        let (width, height) = self.size(id)?;
        // A derived image has the colours of its first source if it does not state others.
        let first = self.items.referred(id, *b"dimg").first().copied();
        let colour = self.colour(id).or_else(|| self.colour(first?));
        let icc = self.icc(id).or_else(|| self.icc(first?));
        let source = match &self.items.kind(id)? {
            b"grid" => Source::Grid(self.grid(id, width, height)?),
            b"iovl" => Source::Overlay(self.overlay(id, width, height, depth)?),
            _ => Source::Coded(self.coded(id)?),
        };
        let mut picture = Picture { source, width, height, view, icc, colour, alpha: None };
        picture.alpha = self.alpha(id, &picture, depth)?;
        Ok(picture)
    }

    fn size(&self, id: u32) -> Result<(u32, u32), DecodeError> {
        let size = self.items.properties(id).find_map(|(property, _)| match property {
            Property::Size(width, height) => Some((*width, *height)),
            _ => None,
        });
        let (width, height) =
            size.ok_or_else(|| self.items.corrupt("an image does not state its size"))?;
        if width == 0 || height == 0 || width > i32::MAX as u32 || height > i32::MAX as u32 {
            return Err(self.items.corrupt("an image claims to have no pixels or too many"));
        }
        Ok((width, height))
    }

    fn check_properties(&self, id: u32) -> Result<(), DecodeError> {
        for (property, is_essential) in self.items.properties(id) {
            match property {
                Property::Broken => return Err(self.items.corrupt("a property is too short")),
                Property::Layer(layer) if *layer != u16::MAX => {
                    return Err(self.items.unsupported("an image that is a layer of another"));
                }
                Property::Other(kind) if is_essential && !HARMLESS.contains(&kind) => {
                    let name = String::from_utf8_lossy(kind);
                    return Err(self.items.unsupported(&format!("the property `{name}`")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns the item's own profile.
    fn icc(&self, id: u32) -> Option<&'a [u8]> {
        self.items.properties(id).find_map(|(property, _)| match property {
            Property::Icc(icc) => Some(*icc),
            _ => None,
        })
    }

    /// Returns the item's own code points.
    fn colour(&self, id: u32) -> Option<CodePoints> {
        self.items.properties(id).find_map(|(property, _)| match property {
            Property::CodePoints(colour) => Some(*colour),
            _ => None,
        })
    }

    fn coded(&self, id: u32) -> Result<Coded<'a>, DecodeError> {
        let coding = self.coding(id)?;
        self.check_properties(id)?;
        let configuration =
            self.items.properties(id).find_map(|(property, _)| match (property, coding) {
                #[cfg(feature = "heic")]
                (Property::Hevc(bytes), Coding::Hevc) => Some(*bytes),
                #[cfg(feature = "avif")]
                (Property::Av1(bytes), Coding::Av1) => Some(*bytes),
                _ => None,
            });
        let missing = || self.items.corrupt("an image has no configuration of its decoder");
        let operating_point = self.items.properties(id).find_map(|(property, _)| match property {
            Property::OperatingPoint(point) => Some(*point),
            _ => None,
        });
        let (width, height) = self.size(id)?;
        Ok(Coded {
            format: self.format,
            coding,
            configuration: configuration.ok_or_else(missing)?,
            data: self.items.data(id)?,
            width,
            height,
            operating_point: operating_point.unwrap_or(0),
            colour: self.colour(id),
        })
    }

    fn coding(&self, id: u32) -> Result<Coding, DecodeError> {
        let kind = self.items.kind(id)?;
        Err(self.items.unsupported(match &kind {
            #[cfg(feature = "heic")]
            b"hvc1" | b"hev1" => return Ok(Coding::Hevc),
            #[cfg(feature = "avif")]
            b"av01" => return Ok(Coding::Av1),
            #[cfg(not(feature = "heic"))]
            b"hvc1" | b"hev1" => "a HEVC picture, for which this build has no decoder",
            #[cfg(not(feature = "avif"))]
            b"av01" => "an AV1 picture, for which this build has no decoder",
            b"lhv1" => "a HEVC picture with several layers",
            b"avc1" => "an AVC (H.264) picture",
            b"vvc1" | b"vvcN" => "a VVC (H.266) picture",
            b"evc1" | b"evbi" => "an EVC picture",
            b"jpeg" => "a JPEG picture in its container",
            b"j2k1" => "a JPEG 2000 picture in its container",
            b"unci" => "an uncompressed picture in its container",
            b"mski" => "a mask instead of a picture",
            b"tmap" => "a tone-mapped picture as its primary one",
            b"tili" => "a tiled picture (`tili`)",
            b"Exif" | b"mime" | b"uri " => {
                return Err(self.items.corrupt("its primary item is not an image"));
            }
            other => {
                let name = String::from_utf8_lossy(other);
                return Err(self.items.unsupported(&format!("a picture of the kind `{name}`")));
            }
        }))
    }

    /// Reads a grid. All tiles have the size of the first, and are no larger than needed.
    fn grid(&self, id: u32, width: u32, height: u32) -> Result<Grid<'a>, DecodeError> {
        let damaged = || self.items.corrupt("its grid of tiles is damaged");
        let data = self.items.data(id)?;
        let mut fields = Fields(&data);
        let mut layout = || {
            let [_, flags, rows, columns] = fields.array()?;
            let size =
                (fields.short_or_long(flags & 1 == 1)?, fields.short_or_long(flags & 1 == 1)?);
            Some((usize::from(rows) + 1, usize::from(columns) + 1, size))
        };
        let (rows, columns, size) = layout().ok_or_else(damaged)?;
        let ids = self.items.referred(id, *b"dimg");
        if size != (width, height) || ids.len() != rows * columns {
            return Err(damaged());
        }
        self.check_data(ids)?;
        let (tile_width, tile_height) = self.size(ids[0])?;
        let tile_pixels = u64::from(tile_width) * u64::from(tile_height);
        let pixels = u64::from(width) * u64::from(height);
        let is_needed = |side: u32, tile: u32, count: usize| {
            let (side, tile) = (u64::from(side), u64::from(tile));
            tile * (count as u64 - 1) < side && side <= tile * count as u64
        };
        if !is_needed(width, tile_width, columns)
            || !is_needed(height, tile_height, rows)
            || (ids.len() > SMALL_TILES_MAX && tile_width.min(tile_height) < TILE_SIDE_MIN)
            || tile_pixels.saturating_mul(ids.len() as u64) > 4 * pixels + SPARE_PIXELS
        {
            return Err(self.items.corrupt("the tiles of its grid do not fit its size"));
        }
        let tiles = ids.iter().map(|tile| {
            if self.size(*tile)? != (tile_width, tile_height) {
                return Err(damaged());
            }
            self.coded(*tile)
        });
        Ok(Grid { columns, tiles: tiles.collect::<Result<_, _>>()? })
    }

    /// Refuses images whose data and configurations are much longer together than the file: they
    /// share them, and each is read again.
    fn check_data(&self, ids: &[u32]) -> Result<(), DecodeError> {
        let lens = ids.iter().map(|id| {
            let configurations = self.items.properties(*id).map(|(property, _)| match property {
                Property::Hevc(bytes) | Property::Av1(bytes) => bytes.len() as u64,
                _ => 0,
            });
            self.items.data_len(*id).saturating_add(configurations.sum())
        });
        let len = lens.fold(0_u64, u64::saturating_add);
        if len > self.items.file_len().saturating_mul(DATA_TIMES_MAX) {
            return Err(self.items.corrupt("the parts of its image overlap"));
        }
        Ok(())
    }

    /// Reads an overlay. Its layers have no more than four times its pixels together.
    fn overlay(
        &self,
        id: u32,
        width: u32,
        height: u32,
        depth: u32,
    ) -> Result<Overlay<'a>, DecodeError> {
        let damaged = || self.items.corrupt("its list of images over each other is damaged");
        if depth >= DEPTH_MAX {
            return Err(self.items.unsupported("images in images in images"));
        }
        let data = self.items.data(id)?;
        let mut fields = Fields(&data);
        let mut head = || {
            let [_, flags] = fields.array()?;
            let is_wide = flags & 1 == 1;
            let fill = [fields.u16()?, fields.u16()?, fields.u16()?, fields.u16()?];
            let size = (fields.short_or_long(is_wide)?, fields.short_or_long(is_wide)?);
            Some((is_wide, fill, size))
        };
        let (is_wide, fill, size) = head().ok_or_else(damaged)?;
        if size != (width, height) {
            return Err(damaged());
        }
        let ids = self.items.referred(id, *b"dimg");
        if ids.len() > LAYERS_MAX {
            return Err(self.items.unsupported("very many images over each other"));
        }
        self.check_data(ids)?;
        let mut pixels_left = 4 * u64::from(width) * u64::from(height) + SPARE_PIXELS;
        let mut layers = Vec::new();
        for layer in ids {
            let (width, height) = self.size(*layer)?;
            pixels_left = pixels_left
                .checked_sub(u64::from(width) * u64::from(height))
                .ok_or_else(|| self.items.unsupported("images that are much larger than itself"))?;
            let position = fields.short_or_long(is_wide).zip(fields.short_or_long(is_wide));
            let (x, y) = position.ok_or_else(damaged)?;
            let signed = |value: u32| {
                if is_wide {
                    value.cast_signed()
                } else {
                    i32::from(u16::try_from(value).unwrap_or(u16::MAX).cast_signed())
                }
            };
            let picture = self.picture(*layer, depth + 1)?;
            layers.push(Layer { picture, x: signed(x), y: signed(y) });
        }
        if layers.is_empty() { Err(damaged()) } else { Ok(Overlay { fill, layers }) }
    }

    /// Finds the alpha of an image: an auxiliary image, or one for each tile of a grid.
    fn alpha(
        &self,
        id: u32,
        picture: &Picture<'a>,
        depth: u32,
    ) -> Result<Option<Alpha<'a>>, DecodeError> {
        let is_multiplied = |alpha| {
            self.items.pairs(*b"prem").any(|pair| pair == (id, alpha) || pair == (alpha, id))
        };
        if let Some(alpha) = self.alpha_item(id) {
            if depth >= DEPTH_MAX || self.alpha_item(alpha).is_some() {
                return Err(self.items.corrupt("its alpha has alpha itself"));
            }
            let picture = Box::new(self.picture(alpha, depth + 1)?);
            return Ok(Some(Alpha { picture, is_multiplied: is_multiplied(alpha) }));
        }
        let Source::Grid(grid) = &picture.source else {
            return Ok(None);
        };
        let tiles = self.items.referred(id, *b"dimg");
        let found: BTreeMap<u32, u32> =
            self.items.pairs(*b"auxl").map(|(from, of)| (of, from)).collect();
        let alpha_of = |tile| found.get(tile).copied().filter(|alpha| self.is_alpha(*alpha));
        if tiles.first().is_none_or(|first| alpha_of(first).is_none()) {
            return Ok(None);
        }
        let missing = || self.items.corrupt("only some of its tiles have alpha");
        let alphas = tiles.iter().map(|tile| {
            let alpha = alpha_of(tile).ok_or_else(missing)?;
            if self.size(alpha)? != self.size(*tile)? {
                return Err(self.items.unsupported("tiles with alpha of another size"));
            }
            self.coded(alpha)
        });
        let tiles = alphas.collect::<Result<_, _>>()?;
        let Picture { width, height, view, .. } = *picture;
        let source = Source::Grid(Grid { columns: grid.columns, tiles });
        let picture =
            Box::new(Picture { source, width, height, view, icc: None, colour: None, alpha: None });
        Ok(Some(Alpha { picture, is_multiplied: false }))
    }

    fn alpha_item(&self, id: u32) -> Option<u32> {
        let mut auxiliary = self.items.pairs(*b"auxl").filter(|(_, of)| *of == id);
        auxiliary.find_map(|(from, _)| self.is_alpha(from).then_some(from))
    }

    fn is_alpha(&self, id: u32) -> bool {
        self.items.properties(id).any(
            |(property, _)| matches!(property, Property::Auxiliary(name) if ALPHA.contains(name)),
        )
    }
}
