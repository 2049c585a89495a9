//! The size of a test run: short by default, long for `just soak`.

/// A short run, or the long one of `just soak`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunSize {
    /// References to be answered during a fault.
    pub(crate) references: usize,
    is_long: bool,
}

impl RunSize {
    /// Returns the long size with `DOGIQA_SOAK` references if that is set, else the short one.
    pub(crate) fn from_environment() -> Self {
        let long = std::env::var_os("DOGIQA_SOAK").map(|value| {
            let number = value.to_str().and_then(|text| text.parse().ok());
            number.expect("DOGIQA_SOAK is a number of references")
        });
        Self { references: long.unwrap_or(2_400), is_long: long.is_some() }
    }

    /// Returns the same size with a share of the references, for faults that limit the rate.
    pub(crate) fn divided_by(self, divisor: usize) -> Self {
        Self { references: self.references / divisor, ..self }
    }

    /// Returns the value for this size.
    pub(crate) fn pick<T>(self, short: T, long: T) -> T {
        if self.is_long { long } else { short }
    }
}
