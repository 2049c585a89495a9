//! Carries out planned steps: sends references to the input topic, or prints them in a dry run.

use clap::ValueEnum;

use crate::cli::commands::enqueue::planned_steps::{Action, PlannedStep};
use crate::cli::commands::enqueue::reference_check::ReferenceRefusal;
use crate::cli::commands::enqueue::saved_progress::SourcePosition;
use crate::cli::terminal::print_result;
use crate::event::ImageReference;
use crate::stream::{PublishError, ReferenceWriter};

/// The field of the reference that becomes the key of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecordKey {
    Id,
    Uri,
}

impl RecordKey {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Uri => "uri",
        }
    }
}

/// The destination of references.
pub(crate) enum ReferenceSink {
    /// The input topic.
    Kafka { writer: ReferenceWriter, key: RecordKey },
    /// Standard output, as JSON lines.
    DryRun,
}

/// A step that has been carried out.
pub(crate) struct CompletedStep {
    pub(crate) position: SourcePosition,
    pub(crate) effect: Effect,
}

pub(crate) enum Effect {
    Sent,
    Refused(ReferenceRefusal),
    Skipped,
}

impl ReferenceSink {
    /// Carries out one step. A sent reference is acknowledged when this returns.
    pub(crate) async fn carry_out(&self, step: PlannedStep) -> anyhow::Result<CompletedStep> {
        let PlannedStep { position, action } = step;
        let effect = match action {
            Action::Send(reference) => self.send(&reference).await?,
            Action::Refuse(refusal) => Effect::Refused(refusal),
            Action::Skip => Effect::Skipped,
        };
        Ok(CompletedStep { position, effect })
    }

    async fn send(&self, reference: &ImageReference) -> anyhow::Result<Effect> {
        let (writer, key) = match self {
            Self::DryRun => {
                print_result(&serde_json::to_string(reference)?)?;
                return Ok(Effect::Sent);
            }
            Self::Kafka { writer, key: RecordKey::Id } => (writer, &reference.id),
            Self::Kafka { writer, key: RecordKey::Uri } => (writer, &reference.uri),
        };
        match writer.write_with_key(key, reference).await {
            Ok(()) => Ok(Effect::Sent),
            Err(error @ PublishError::TooLarge { .. }) => Ok(Effect::Refused(ReferenceRefusal {
                code: "publish.too_large",
                message: error.to_string(),
            })),
            Err(PublishError::Permanent(error)) => Err(error.into()),
        }
    }
}
