//! A second engine that scores a share of the images after their answers, to compare the two.
//!
//! Each image is fetched again and passes a pipeline of its own. No answer waits for it: without
//! room for another image, the shadow leaves it out. Its failures are counted and nothing else.

use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use rdkafka::message::OwnedHeaders;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, TryAcquireError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::event::{ImageReference, Source, cloudevent_headers};
use crate::pipeline::{Journey, child_trace};
use crate::telemetry::{MemoryPart, metrics};

use crate::stream::error::StreamError;
use crate::stream::output::output_record::{Outgoing, PublishError};
use crate::stream::output::publisher::Publisher;
use crate::stream::record::headers;
use crate::stream::settings::Settings;

/// Longest key of a record that is copied. With a longer one, the id of the reference is the key.
const KEY_BYTES_MAX: usize = 16 << 10;
/// Maximum memory of an image's reference, key and event. The values of `metadata` use most of it.
const IMAGE_BYTES: u64 = 512 << 10;

/// A second engine, and the images that it scores.
#[derive(Debug, Clone)]
pub struct Shadow {
    /// The pipeline with the second engine. It has limits of its own.
    pub journey: Journey,
    /// Share of the images, from 0 to 1.
    pub share: f64,
    /// Maximum number of images that wait for the engine or are scored by it.
    pub images_max: NonZeroUsize,
}

impl Shadow {
    /// Returns the maximum memory of models, images and events.
    pub fn memory(&self, settings: &Settings) -> [MemoryPart; 3] {
        let part = |what, setting, bytes| MemoryPart { what, setting, bytes };
        let all: u64 = self.journey.memory().iter().map(|part| part.bytes).sum();
        let models = self.journey.engine().memory();
        let events = (self.images_max.get() as u64).saturating_mul(IMAGE_BYTES);
        let producer = settings.producer_queue_kbytes().saturating_mul(1024);
        [
            part("shadow models", "engine.shadow.dog_iqa", models),
            part("shadow pictures", "imaging.pixels_max", all.saturating_sub(models)),
            part("shadow events", "engine.shadow.images", events.saturating_add(producer)),
        ]
    }
}

/// A running shadow. Its tasks end with `stop`.
pub(crate) struct ShadowTasks {
    shadow: Shadow,
    topic: String,
    publisher: Publisher,
    /// A permit for each image. Closed once the engine is lost.
    room: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// An answered image.
pub(crate) struct AnsweredImage<'a> {
    pub(crate) reference: &'a ImageReference,
    pub(crate) source: Source,
    /// The key of the event.
    pub(crate) key: &'a [u8],
}

/// The reason why there is no second event.
struct ShadowFailure {
    code: &'static str,
    message: String,
}

impl ShadowTasks {
    /// # Errors
    /// Fails if no topic is configured.
    pub(crate) fn new(
        shadow: Shadow,
        settings: &Settings,
        publisher: Publisher,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, StreamError> {
        let Some(topic) = settings.shadow_topic.clone() else {
            return Err(StreamError::Configuration(
                "there is a shadow and no topic for its events; set kafka.shadow_topic".to_owned(),
            ));
        };
        let room = Arc::new(Semaphore::new(shadow.images_max.get()));
        Ok(Self { shadow, topic, publisher, room, tasks, stop })
    }

    /// Scores the image in a task if it belongs to the share and there is room. Never waits.
    pub(crate) fn offer(self: &Arc<Self>, image: AnsweredImage<'_>) {
        let AnsweredImage { reference, source, key } = image;
        if !is_in_share(&reference.id, self.shadow.share) {
            return;
        }
        let permit = match Arc::clone(&self.room).try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::NoPermits) => return metrics::shadow_dropped("full"),
            Err(TryAcquireError::Closed) => return metrics::shadow_dropped("engine_lost"),
        };
        let key = if key.len() <= KEY_BYTES_MAX { key } else { reference.id.as_bytes() };
        let (shadow, reference, key) = (Arc::clone(self), reference.clone(), key.to_vec());
        self.tasks.spawn(async move {
            let scored = AssertUnwindSafe(shadow.score(reference, source, &key)).catch_unwind();
            // Nobody waits for a shadow, so a stop takes precedence.
            let scored = tokio::select! {
                biased;
                () = shadow.stop.cancelled() => return metrics::shadow_dropped("stopped"),
                scored = scored => scored,
            };
            match scored {
                Ok(Ok(score)) => metrics::shadow_scored(score),
                Ok(Err(failure)) => metrics::shadow_failed(failure.code, &failure.message),
                Err(_) => metrics::shadow_failed("pipeline.panicked", "the pipeline panicked"),
            }
            drop(permit);
        });
    }

    async fn score(
        &self,
        reference: ImageReference,
        source: Source,
        key: &[u8],
    ) -> Result<f64, ShadowFailure> {
        let trace = child_trace(reference.trace.as_ref());
        let event = match self.shadow.journey.assess(reference, Some(source)).await {
            Ok(event) => event.of_shadow(),
            Err(failure) => {
                if failure.fatal {
                    self.room.close();
                }
                return Err(ShadowFailure { code: failure.code, message: failure.message });
            }
        };
        let mut names = cloudevent_headers::headers_for(&event, Some(&trace));
        names.push((cloudevent_headers::SHADOW_HEADER.to_owned(), "true".to_owned()));
        let payload = serde_json::to_vec(&event).expect("an event is plain data");
        let outgoing = Outgoing {
            topic: &self.topic,
            key: Some(key),
            payload: &payload,
            headers: headers::append(OwnedHeaders::new(), &names),
        };
        match self.publisher.publish(outgoing).await {
            Ok(()) => Ok(event.score),
            Err(error) => {
                let code = match &error {
                    PublishError::TooLarge { .. } => "publish.too_large",
                    PublishError::Permanent(_) => "publish.refused",
                };
                Err(ShadowFailure { code, message: error.to_string() })
            }
        }
    }
}

/// Returns true for this share of all ids. The same id has the same answer in every worker.
fn is_in_share(id: &str, share: f64) -> bool {
    let digest: [u8; 32] = Sha256::digest(id.as_bytes()).into();
    let (first, _) = digest.split_first_chunk().expect("a digest has more than 8 bytes");
    // 53 bits are exact in an f64.
    let position = (u64::from_be_bytes(*first) >> 11) as f64 / (1_u64 << 53) as f64;
    position < share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_stable_and_a_larger_one_contains_it() {
        let ids: Vec<String> = (0..10_000).map(|number| format!("upload-{number}")).collect();
        let chosen = |share| ids.iter().filter(|id| is_in_share(id, share)).collect::<Vec<_>>();
        assert_eq!(chosen(0.0).len(), 0);
        assert_eq!(chosen(1.0).len(), ids.len());
        let (tenth, half) = (chosen(0.1), chosen(0.5));
        // Five standard deviations of a fair draw.
        assert!((850..=1150).contains(&tenth.len()), "{}", tenth.len());
        assert!((4750..=5250).contains(&half.len()), "{}", half.len());
        assert!(tenth.iter().all(|id| half.contains(id)));
        // A known id: the choice must not change between versions.
        assert_eq!(half[..3], ["upload-3", "upload-6", "upload-7"]);
    }
}
