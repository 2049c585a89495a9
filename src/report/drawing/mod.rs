//! Draws on pixels: outlines of masks, and text on plates.
//!
//! Imports `method` for masks, and no other module of this crate.

mod lettering;
mod plate;
mod stencil;

pub(crate) use lettering::Lettering;
pub(crate) use plate::{Plate, fill};
pub(crate) use stencil::Stencil;
