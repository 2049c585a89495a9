//! The tables of one run of the decoder over the next tokens: created once, used by every layer.

use crate::models::layers::{Angles, Visibility};
use crate::models::mplug_owl3::kv_cache::KvCache;

/// The rotary angles of the next tokens, and the rows that each query sees. A query is one of the
/// last tokens.
#[derive(Debug)]
pub struct RunTables {
    angles: Angles,
    text: Visibility,
    images: Visibility,
    both: Visibility,
}

impl RunTables {
    /// Creates the tables of the last tokens of a text that then has `len_after` of them; the last
    /// `queries` attend. An image is visible `image_offset` tokens after its placeholder's start.
    pub(crate) fn new(
        angles: Angles,
        len_after: usize,
        queries: usize,
        cache: &KvCache,
        image_offset: usize,
    ) -> Self {
        // A token attends to all tokens before it, and to itself.
        let text = (len_after, (len_after - queries + 1..=len_after).collect::<Vec<_>>());
        // It attends to the images at or before its position.
        let (starts, tokens) = (cache.image_starts(), cache.image_tokens());
        let visible_at = |position: usize| {
            starts.iter().filter(|start| **start + image_offset <= position).count() * tokens
        };
        let visible = (len_after - queries..len_after).map(visible_at).collect::<Vec<_>>();
        let images = (starts.len() * tokens, visible);
        Self {
            angles,
            text: Visibility::new([text.clone()]),
            images: Visibility::new([images.clone()]),
            both: Visibility::new([images, text]),
        }
    }

    /// Returns the angles of the next tokens.
    pub fn angles(&self) -> &Angles {
        &self.angles
    }

    /// Returns the number of tokens that attend, the last ones.
    pub fn queries(&self) -> usize {
        self.text.queries()
    }

    /// Returns the text that each query sees.
    pub fn text(&self) -> &Visibility {
        &self.text
    }

    /// Returns the images that each query sees.
    pub fn images(&self) -> &Visibility {
        &self.images
    }

    /// Returns the images, then the text that each query sees.
    pub fn both(&self) -> &Visibility {
        &self.both
    }
}
