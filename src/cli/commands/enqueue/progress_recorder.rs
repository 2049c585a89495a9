//! Records completed steps on the terminal and in the state file.

use std::path::PathBuf;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::time::Instant;

use crate::cli::command_outcome::CommandOutcome;
use crate::cli::commands::enqueue::reference_check::ReferenceRefusal;
use crate::cli::commands::enqueue::reference_sink::{CompletedStep, Effect};
use crate::cli::commands::enqueue::saved_progress::SavedProgress;
use crate::cli::terminal::{print_status, sent_records_spinner};

/// Maximum number of completed steps that are not in the state file. After a crash these are
/// repeated, together with the references in flight.
const UNSAVED_MAX: u64 = 500;
/// Maximum time between two writes of the state file while steps complete.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) struct ProgressRecorder {
    progress: SavedProgress,
    state_file: Option<PathBuf>,
    unsaved: u64,
    saved_at: Instant,
    pub(crate) spinner: ProgressBar,
}

impl ProgressRecorder {
    /// Writes the state file for the first time, so that a file that cannot be written is an error
    /// before anything is sent.
    pub(crate) fn new(
        progress: SavedProgress,
        state_file: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let spinner = sent_records_spinner()?;
        spinner.set_position(progress.counts.sent);
        spinner.reset_eta();
        let mut recorder =
            Self { progress, state_file, unsaved: 0, saved_at: Instant::now(), spinner };
        recorder.save()?;
        Ok(recorder)
    }

    /// Records that a step and all steps before it are completed.
    pub(crate) fn record(&mut self, step: CompletedStep) -> anyhow::Result<()> {
        let CompletedStep { position, effect } = step;
        let counts = &mut self.progress.counts;
        match effect {
            Effect::Sent => {
                counts.sent += 1;
                self.spinner.inc(1);
            }
            Effect::Skipped => counts.skipped += 1,
            Effect::Refused(ReferenceRefusal { code, message }) => {
                counts.refused += 1;
                self.spinner.suspend(|| print_status(&format!("{position}: {message} [{code}]")));
            }
        }
        self.progress.after = Some(position);
        self.unsaved += 1;
        if self.unsaved >= UNSAVED_MAX || self.saved_at.elapsed() >= SAVE_INTERVAL {
            self.save()?;
        }
        Ok(())
    }

    /// Writes the state file, if there is one.
    pub(crate) fn save(&mut self) -> anyhow::Result<()> {
        self.unsaved = 0;
        self.saved_at = Instant::now();
        self.state_file.as_deref().map_or(Ok(()), |file| self.progress.save(file))
    }

    /// Saves the progress and prints the summary. `is_early` is true if a signal ended the run
    /// early.
    pub(crate) fn finish(mut self, is_early: bool) -> anyhow::Result<CommandOutcome> {
        self.save()?;
        self.spinner.finish_and_clear();
        let counts = self.progress.counts;
        print_status(&format!(
            "{} sent, {} skipped, {} refused",
            counts.sent, counts.skipped, counts.refused
        ));
        if is_early {
            print_status("stopped before the end; the same command with its --state continues");
        }
        Ok(CommandOutcome::negative_if(is_early || counts.refused > 0))
    }
}
