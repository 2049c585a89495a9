//! The metrics by name, with their properties.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A hand-crafted metric of a whole image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// NIQE: Mittal, Soundararajan and Bovik, IEEE Signal Processing Letters 20(3), 2013.
    Niqe,
    /// BRISQUE: Mittal, Moorthy and Bovik, IEEE Transactions on Image Processing 21(12), 2012.
    Brisque,
    /// BIQI: Moorthy and Bovik, IEEE Signal Processing Letters 17(5), 2010.
    Biqi,
    /// BLIINDS-II: Saad, Bovik and Charrier, IEEE Transactions on Image Processing 21(8), 2012.
    Bliinds2,
    /// PIQE: Venkatanath et al., National Conference on Communications, 2015; MATLAB's reading.
    Piqe,
}

/// The direction of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Lower values are better.
    Lower,
    /// Higher values are better.
    Higher,
}

impl Metric {
    /// All metrics.
    pub const ALL: [Self; 5] = [Self::Niqe, Self::Brisque, Self::Biqi, Self::Bliinds2, Self::Piqe];

    /// Returns the name in settings and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Niqe => "niqe",
            Self::Brisque => "brisque",
            Self::Biqi => "biqi",
            Self::Bliinds2 => "bliinds2",
            Self::Piqe => "piqe",
        }
    }

    /// Returns the version of this implementation. It changes whenever the value of an image may
    /// change.
    pub fn version(self) -> u32 {
        match self {
            Self::Niqe | Self::Brisque | Self::Biqi | Self::Bliinds2 | Self::Piqe => 1,
        }
    }

    /// Returns the direction. All current metrics measure distortion.
    pub fn better(self) -> Better {
        Better::Lower
    }

    /// Returns the usual range. Values of [`Metric::is_clamped`] metrics never leave it.
    pub fn range(self) -> (f64, f64) {
        match self {
            Self::Niqe => (0.0, f64::INFINITY),
            Self::Brisque | Self::Biqi | Self::Piqe => (0.0, 100.0),
            Self::Bliinds2 => (0.0, 99.0),
        }
    }

    /// Returns true if no value is outside the range.
    pub fn is_clamped(self) -> bool {
        matches!(self, Self::Niqe | Self::Bliinds2 | Self::Piqe)
    }

    /// Returns the smallest width and height in pixels. NIQE also needs two blocks of that size.
    pub fn side_min(self) -> u32 {
        if self == Self::Niqe { 96 } else { 16 }
    }

    /// Returns the names of the authors' parameter files.
    pub fn parameter_files(self) -> &'static [&'static str] {
        match self {
            Self::Niqe => &["modelparameters.mat"],
            Self::Brisque => &["allmodel", "allrange"],
            Self::Biqi => &[
                "model_89",
                "model_89_blur",
                "model_89_ff",
                "model_89_jp2k",
                "model_89_wn",
                "range2",
                "range2_blur",
                "range2_ff",
                "range2_jp2k",
                "range2_wn",
            ],
            Self::Bliinds2 => &["parameters_from_training.mat"],
            Self::Piqe => &[],
        }
    }

    /// Returns the most memory of a measurement, in bytes per pixel, rounded up.
    pub fn bytes_per_pixel(self) -> u64 {
        match self {
            Self::Niqe | Self::Brisque => 4,
            Self::Biqi => 14,
            Self::Bliinds2 => 8,
            Self::Piqe => 3,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|metric| metric.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("`{name}` is no metric; choose from {names}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_has_one_name_in_settings_and_events() {
        for metric in Metric::ALL {
            assert_eq!(serde_json::to_value(metric).unwrap(), metric.name());
            assert_eq!(metric.name().parse(), Ok(metric));
        }
        assert!("vmaf".parse::<Metric>().unwrap_err().contains("niqe, brisque"));
    }
}
