//! Eight values at a time: plain arrays, which the compiler turns into vector instructions.
//!
//! A sum has eight partial sums on every CPU, so its last bits do not depend on the width of the
//! CPU's vectors.

use pulp::Arch;

/// Values that are processed together.
pub(crate) const LANES: usize = 8;

/// Eight neighbouring values.
pub(crate) type Lanes = [f64; LANES];

/// Runs a loop that is compiled for each instruction set, in the version for this CPU.
#[inline(always)]
pub(crate) fn vectorised<T>(work: impl FnOnce() -> T) -> T {
    Arch::new().dispatch(work)
}

/// Returns the smallest multiple of [`LANES`] that is not below `length`.
pub(crate) fn padded(length: usize) -> usize {
    length.next_multiple_of(LANES)
}

/// Returns the eight values from index `at`.
#[inline(always)]
pub(crate) fn load(row: &[f64], at: usize) -> Lanes {
    row[at..at + LANES].try_into().expect("the slice has eight values")
}

/// Overwrites the eight values from index `at`.
#[inline(always)]
pub(crate) fn store(row: &mut [f64], at: usize, values: Lanes) {
    row[at..at + LANES].copy_from_slice(&values);
}

/// Returns f(0), f(1), …, f(7).
#[inline(always)]
pub(crate) fn each(mut function: impl FnMut(usize) -> f64) -> Lanes {
    let mut values = [0.0; LANES];
    for (lane, value) in values.iter_mut().enumerate() {
        *value = function(lane);
    }
    values
}
