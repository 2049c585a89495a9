//! Turns the items of a source into steps: each reference is checked, limited in number and rate.

use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use tokio::time::{Instant, sleep_until};

use crate::cli::commands::enqueue::reference_check::{ReferenceCheck, ReferenceRefusal};
use crate::cli::commands::enqueue::reference_source::{ItemContent, SourceItem, SourceItems};
use crate::cli::commands::enqueue::saved_progress::SourcePosition;
use crate::cli::time_and_rate::Rate;
use crate::event::ImageReference;

/// Maximum time that a rate limit catches up after a pause.
const CATCH_UP_MAX: Duration = Duration::from_millis(100);

/// One item of the source and the action to take for it.
pub(crate) struct PlannedStep {
    pub(crate) position: SourcePosition,
    pub(crate) action: Action,
}

pub(crate) enum Action {
    Send(Box<ImageReference>),
    Refuse(ReferenceRefusal),
    Skip,
}

impl PlannedStep {
    fn new(item: SourceItem, check: &ReferenceCheck) -> Self {
        let action = match item.content {
            ItemContent::Empty => Action::Skip,
            ItemContent::Invalid(refusal) => Action::Refuse(refusal),
            ItemContent::Reference(reference) => match check.complete(*reference) {
                Ok(reference) => Action::Send(Box::new(reference)),
                Err(refusal) => Action::Refuse(refusal),
            },
        };
        Self { position: item.position, action }
    }

    fn is_send(&self) -> bool {
        matches!(self.action, Action::Send(_))
    }
}

/// Checks the items in order and ends after `sends_max` references to send.
pub(crate) fn plan_steps(
    items: SourceItems,
    check: ReferenceCheck,
    sends_max: u64,
) -> impl Stream<Item = anyhow::Result<PlannedStep>> {
    let steps = items.map(move |item| item.map(|item| PlannedStep::new(item, &check)));
    // The stream ends with the last reference to send. `take_while` would wait for one more item.
    stream::unfold((steps.boxed(), sends_max), |(mut steps, remaining)| async move {
        if remaining == 0 {
            return None;
        }
        let step = steps.next().await?;
        let sends = u64::from(step.as_ref().is_ok_and(PlannedStep::is_send));
        Some((step, (steps, remaining - sends)))
    })
}

/// Delays references to send according to the rate. Other steps pass without delay.
pub(crate) fn limit_rate(
    steps: impl Stream<Item = anyhow::Result<PlannedStep>>,
    rate: Option<Rate>,
) -> impl Stream<Item = anyhow::Result<PlannedStep>> {
    let mut next_send = Instant::now();
    steps.then(move |step| {
        let is_send = step.as_ref().is_ok_and(PlannedStep::is_send);
        let send_at = rate.filter(|_| is_send).map(|rate| {
            let earliest = Instant::now().checked_sub(CATCH_UP_MAX).unwrap_or(next_send);
            let send_at = next_send.max(earliest);
            next_send = send_at + rate.interval;
            send_at
        });
        async move {
            if let Some(send_at) = send_at {
                sleep_until(send_at).await;
            }
            step
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::method::Policies;
    use crate::storage::{Settings, Stores};

    fn check() -> ReferenceCheck {
        ReferenceCheck {
            policy: None,
            metadata: BTreeMap::new(),
            policies: Policies::default(),
            stores: Stores::new(&Settings::default()).unwrap(),
            is_unchecked: true,
        }
    }

    fn item(number: u64, content: ItemContent) -> SourceItem {
        SourceItem { position: SourcePosition::Line(number), content }
    }

    fn reference(uri: &str) -> ItemContent {
        ItemContent::Reference(Box::new(ImageReference::new(uri)))
    }

    #[tokio::test]
    async fn a_limit_counts_references_to_send_and_keeps_the_order() {
        let items = (1..=5).map(|number| {
            let content = if number == 2 { ItemContent::Empty } else { reference("s3://b/k") };
            Ok(item(number, content))
        });
        let steps = plan_steps(stream::iter(items).boxed(), check(), 3);
        let positions = steps.map(|step| step.unwrap().position).collect::<Vec<_>>().await;
        assert_eq!(positions, [1, 2, 3, 4].map(SourcePosition::Line));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_delays_references_to_send_and_nothing_else() {
        let items = (0..30).map(|number| {
            let content = if number % 3 == 0 { reference("s3://b/k") } else { ItemContent::Empty };
            Ok(item(number, content))
        });
        let steps = plan_steps(stream::iter(items).boxed(), check(), u64::MAX);
        let started = Instant::now();
        let count = limit_rate(steps, Some("2/s".parse().unwrap())).count().await;
        assert_eq!(count, 30);
        let seconds = started.elapsed().as_secs_f64();
        assert!((4.4..4.6).contains(&seconds), "ten references at 2/s took {seconds} s");
    }
}
