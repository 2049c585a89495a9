//! Finds the crops of a batch that share their pixels, so that they are encoded once.

use std::sync::Weak;

use image::RgbImage;

/// The distinct pictures of a batch.
pub(crate) struct DistinctPictures<'a, T> {
    /// The first input of each picture, in the order of the batch.
    pub(crate) pictures: Vec<&'a T>,
    /// Index in `pictures` of each input's picture.
    picture_of: Vec<usize>,
}

impl<'a, T> DistinctPictures<'a, T> {
    /// Groups the inputs of a batch by the identity of their pixels.
    pub(crate) fn of(batch: &'a [T], pixels: impl Fn(&T) -> &Weak<RgbImage>) -> Self {
        let mut pictures: Vec<&T> = Vec::new();
        let picture_of = batch
            .iter()
            .map(|input| {
                let is_same = |known: &&T| pixels(known).ptr_eq(pixels(input));
                pictures.iter().position(is_same).unwrap_or_else(|| {
                    pictures.push(input);
                    pictures.len() - 1
                })
            })
            .collect();
        Self { pictures, picture_of }
    }

    /// Returns the value of each input's picture, in the order of the batch. `of_pictures` has a
    /// value for each picture.
    pub(crate) fn per_input<U: Clone>(&self, of_pictures: &[U]) -> Vec<U> {
        self.picture_of.iter().map(|&picture| of_pictures[picture].clone()).collect()
    }
}
