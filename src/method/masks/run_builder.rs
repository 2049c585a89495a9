//! Builds run lengths in canonical form.

/// Run lengths under construction. Adjacent equal values merge, so the result is canonical.
///
/// Sums stay below 2³² because a frame has at most 2³⁰ pixels.
pub(crate) struct RunBuilder {
    /// Alternating run lengths, zeros first.
    pub(crate) counts: Vec<u32>,
    /// Number of pixels covered so far.
    pub(crate) end: u32,
}

impl RunBuilder {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0], end: 0 }
    }

    /// Appends `length` pixels of one value.
    pub(crate) fn push(&mut self, is_set: bool, length: u32) {
        if length == 0 {
            return;
        }
        self.end += length;
        let last_is_set = self.counts.len().is_multiple_of(2);
        match self.counts.last_mut() {
            Some(last) if is_set == last_is_set => *last += length,
            _ => self.counts.push(length),
        }
    }

    /// Appends zeros up to `position`, then `length` ones.
    pub(crate) fn push_at(&mut self, position: u32, length: u32) {
        self.push(false, position - self.end);
        self.push(true, length);
    }
}
