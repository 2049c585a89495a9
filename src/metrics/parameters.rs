//! The parameters of a metric, and the measurement with them.

use image::RgbImage;

use crate::metrics::biqi::{BiqiParameters, biqi};
use crate::metrics::bliinds2::{Bliinds2Parameters, bliinds2};
use crate::metrics::brisque::{BrisqueParameters, brisque};
use crate::metrics::error::{ParametersError, Undefined};
use crate::metrics::metric::Metric;
use crate::metrics::niqe::{NiqeParameters, niqe};
use crate::metrics::piqe::piqe;
use crate::metrics::plane::{grey, red};

/// A metric with its parameters, ready to measure.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameters {
    /// Those of NIQE.
    Niqe(Box<NiqeParameters>),
    /// Those of BRISQUE.
    Brisque(Box<BrisqueParameters>),
    /// Those of BIQI.
    Biqi(Box<BiqiParameters>),
    /// Those of BLIINDS-II.
    Bliinds2(Box<Bliinds2Parameters>),
    /// PIQE needs none.
    Piqe,
}

impl Parameters {
    /// Reads the files of a metric; `files` has the name and the bytes of each of
    /// [`Metric::parameter_files`], in any order.
    ///
    /// # Errors
    /// Fails if a file is missing, damaged, too large or for another metric.
    pub fn parse<'a>(metric: Metric, files: &[(&str, &'a [u8])]) -> Result<Self, ParametersError> {
        let file = |wanted: &'static str| -> Result<&'a [u8], ParametersError> {
            let found = files.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, bytes)| *bytes).ok_or(ParametersError::Missing { file: wanted })
        };
        Ok(match metric {
            Metric::Niqe => {
                Self::Niqe(Box::new(NiqeParameters::parse(file("modelparameters.mat")?)?))
            }
            Metric::Brisque => {
                let (model, range) = (file("allmodel")?, file("allrange")?);
                Self::Brisque(Box::new(BrisqueParameters::parse(model, range)?))
            }
            Metric::Biqi => Self::Biqi(Box::new(BiqiParameters::parse(file)?)),
            Metric::Bliinds2 => {
                let bytes = file("parameters_from_training.mat")?;
                Self::Bliinds2(Box::new(Bliinds2Parameters::parse(bytes)?))
            }
            Metric::Piqe => Self::Piqe,
        })
    }

    /// Returns the metric.
    pub fn metric(&self) -> Metric {
        match self {
            Self::Niqe(_) => Metric::Niqe,
            Self::Brisque(_) => Metric::Brisque,
            Self::Biqi(_) => Metric::Biqi,
            Self::Bliinds2(_) => Metric::Bliinds2,
            Self::Piqe => Metric::Piqe,
        }
    }
}

/// Returns the value of an image: 8-bit sRGB pixels, as [`crate::imaging`] decodes them.
///
/// The value is finite, and the same on every CPU and with any number of threads. A grey image has
/// three equal channels. Uses one thread, and up to [`Metric::bytes_per_pixel`] of memory.
///
/// # Errors
/// Fails with the reason if the metric is not defined for the image.
pub fn measure(image: &RgbImage, parameters: &Parameters) -> Result<f64, Undefined> {
    let (width, height) = image.dimensions();
    let side_min = parameters.metric().side_min();
    if width.min(height) < side_min {
        return Err(Undefined::TooSmall { width, height, side_min });
    }
    let value = match parameters {
        Parameters::Niqe(parameters) => niqe(&grey(image), parameters)?,
        Parameters::Brisque(parameters) => brisque(&grey(image), parameters)?,
        Parameters::Biqi(parameters) => biqi(&grey(image), parameters)?,
        Parameters::Bliinds2(parameters) => bliinds2(&red(image), parameters),
        Parameters::Piqe => piqe(&grey(image)).score,
    };
    if value.is_finite() { Ok(value) } else { Err(Undefined::NotFinite) }
}
