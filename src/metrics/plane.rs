//! Planes of samples, and the grey and red planes of a picture.

use image::RgbImage;

/// One sample for each pixel: rows from the top, without padding.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plane<T> {
    width: usize,
    samples: Vec<T>,
}

impl<T: Copy> Plane<T> {
    /// Creates a plane from whole rows of `width` samples. Neither may be empty.
    pub(crate) fn new(width: usize, samples: Vec<T>) -> Self {
        debug_assert!(!samples.is_empty() && samples.len().is_multiple_of(width));
        Self { width, samples }
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn height(&self) -> usize {
        self.samples.len() / self.width
    }

    pub(crate) fn samples(&self) -> &[T] {
        &self.samples
    }

    pub(crate) fn row(&self, index: usize) -> &[T] {
        &self.samples[index * self.width..][..self.width]
    }

    /// Returns the top left part. It must not be larger than the plane.
    pub(crate) fn cropped(&self, width: usize, height: usize) -> Self {
        let rows = self.samples.chunks_exact(self.width).take(height);
        Self::new(width, rows.flat_map(|row| &row[..width]).copied().collect())
    }
}

/// Returns the rounded luma. A grey picture keeps its values.
///
/// The weights and the rounding are those of MATLAB, with which the authors trained.
pub(crate) fn grey(rgb: &RgbImage) -> Plane<u8> {
    let weighted = |weight: f64| std::array::from_fn(|value| weight * value as f64);
    let reds: [f64; 256] = weighted(0.298_936_021_293_775);
    let greens: [f64; 256] = weighted(0.587_043_074_451_121);
    let blues: [f64; 256] = weighted(0.114_020_904_255_103);
    let luma = |pixel: &[u8]| {
        let [red, green, blue] = [pixel[0], pixel[1], pixel[2]].map(usize::from);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the weights sum to one, so the value is 0.5 to 255.5"
        )]
        let rounded = (reds[red] + greens[green] + blues[blue] + 0.5) as u8;
        rounded
    };
    Plane::new(rgb.width() as usize, rgb.as_raw().chunks_exact(3).map(luma).collect())
}

/// Returns the red samples.
pub(crate) fn red(rgb: &RgbImage) -> Plane<u8> {
    let samples = rgb.as_raw().chunks_exact(3).map(|pixel| pixel[0]).collect();
    Plane::new(rgb.width() as usize, samples)
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn a_grey_picture_keeps_all_its_values() {
        let rgb = RgbImage::from_fn(256, 1, |x, _| Rgb([u8::try_from(x).unwrap(); 3]));
        let values: Vec<u8> = (0..=255).collect();
        assert_eq!(grey(&rgb), Plane::new(256, values.clone()));
        assert_eq!(red(&rgb), Plane::new(256, values));
    }

    #[test]
    fn a_cropped_plane_is_the_top_left_part() {
        let plane = Plane::new(3, vec![1, 2, 3, 4, 5, 6]);
        assert_eq!(plane.cropped(2, 1), Plane::new(2, vec![1, 2]));
    }
}
