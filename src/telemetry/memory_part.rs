//! One line of the memory report. `pipeline`, `stream` and `cli` each count their own parts, and
//! `cli` compares the sum with the machine.

/// An upper bound of one use of memory, with the setting that bounds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPart {
    /// Name of the use, as the report shows it.
    pub what: &'static str,
    /// Setting to lower.
    pub setting: &'static str,
    /// Maximum bytes.
    pub bytes: u64,
}
