//! How much of a test: a short form for every day, or the long one of `just soak`.

/// The short form, or the long one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunSize {
    /// References to be answered through a fault.
    pub(crate) references: usize,
    is_long: bool,
}

impl RunSize {
    /// The short form, or the long one with as many references as `DOGIQA_SOAK` says.
    pub(crate) fn from_environment() -> Self {
        let long = std::env::var_os("DOGIQA_SOAK").map(|wish| {
            let number = wish.to_str().and_then(|text| text.parse().ok());
            number.expect("DOGIQA_SOAK is a number of references")
        });
        Self { references: long.unwrap_or(2_400), is_long: long.is_some() }
    }

    /// One or the other.
    pub(crate) fn pick<T>(self, short: T, long: T) -> T {
        if self.is_long { long } else { short }
    }
}
