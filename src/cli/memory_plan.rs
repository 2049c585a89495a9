//! Compares the upper bound of the worker's memory with the memory of the machine.

use bytesize::ByteSize;

use crate::cache::AnswerCache;
use crate::config::Settings;
use crate::engine::machine_memory;
use crate::pipeline::Journey;
use crate::telemetry::MemoryPart;

/// Code, thread stacks, TLS state and memory that the allocator retains.
const PROCESS: MemoryPart =
    MemoryPart { what: "the process", setting: "nothing bounds it", bytes: 128 << 20 };

/// The upper bound of each part of the worker, and the machine's memory if it is known.
pub(crate) struct MemoryPlan {
    parts: Vec<MemoryPart>,
    machine: Option<u64>,
}

impl MemoryPlan {
    /// Returns the plan of a process with these parts besides the pipeline and the cache.
    pub(crate) fn new(
        journey: &Journey,
        settings: &Settings,
        parts: impl IntoIterator<Item = MemoryPart>,
    ) -> Self {
        let cache = AnswerCache::memory(&settings.cache);
        let parts = journey.memory().into_iter().chain(parts).chain(cache).chain([PROCESS]);
        let parts = parts.collect();
        Self { parts, machine: machine_memory() }
    }

    /// Returns the sum of all parts, in bytes.
    pub(crate) fn total(&self) -> u64 {
        self.parts.iter().fold(0, |total, part| total.saturating_add(part.bytes))
    }

    /// Returns total and parts in one line.
    pub(crate) fn describe(&self) -> String {
        let show = |part: &MemoryPart| format!("{} {}", part.what, ByteSize(part.bytes));
        let parts: Vec<_> = self.parts.iter().map(show).collect();
        format!("at most {} of memory: {}", ByteSize(self.total()), parts.join(", "))
    }

    /// # Errors
    /// Fails if the total exceeds the machine's memory. The message names the setting that bounds
    /// the largest part.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let Some(machine) = self.machine.filter(|machine| *machine < self.total()) else {
            return Ok(());
        };
        let largest = self.parts.iter().max_by_key(|part| part.bytes);
        let setting = largest.map_or("", |part| part.setting);
        anyhow::bail!(
            "the worker may take {}, and this machine has {}; lower {setting}, which bounds the \
             largest part",
            self.describe(),
            ByteSize(machine)
        )
    }

    pub(crate) fn log(&self) {
        tracing::info!(bytes = self.total(), machine = self.machine, "{}", self.describe());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(machine: u64) -> MemoryPlan {
        let part = |what, setting, bytes| MemoryPart { what, setting, bytes };
        let parts = vec![part("pictures", "a.b", 600), part("records", "c.d", 300)];
        MemoryPlan { parts, machine: Some(machine) }
    }

    #[test]
    fn a_plan_beyond_the_machine_is_refused_and_names_the_setting_to_lower() {
        plan(900).check().unwrap();
        let error = plan(899).check().unwrap_err().to_string();
        for part in ["900 B", "899 B", "pictures 600 B", "records 300 B", "lower a.b"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        MemoryPlan { machine: None, ..plan(0) }.check().unwrap();
    }
}
