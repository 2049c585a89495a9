//! Requests come before the backlog in the pipeline, and the backlog is not starved.

use std::num::NonZeroUsize;

use dog_iqa::event::ImageReference;
use dog_iqa::pipeline::{self, Journey, Priority};
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::stream::Scene;

/// Returns the order in which images are finished that arrive in this order, while all of them wait
/// for the only slot of each stage.
async fn order(arrivals: &[Priority]) -> Vec<Priority> {
    let scene = Scene::new(1).await;
    let mut settings = pipeline::Settings::default();
    for stage in
        [&mut settings.fetch, &mut settings.decode, &mut settings.segment, &mut settings.score]
    {
        stage.images = NonZeroUsize::MIN;
    }
    let journey = scene.journey_with(settings).await;
    let mut first = Box::pin(assess(&journey, "gated/a.png", Priority::Backlog));
    assert!(futures::poll!(&mut first).is_pending());
    scene.gates.until_inside(1).await;
    let waiting = FuturesUnordered::new();
    for &priority in arrivals {
        let mut image = Box::pin(assess(&journey, "a.png", priority));
        // One poll is enough to reach the queue of the first stage.
        assert!(futures::poll!(&mut image).is_pending());
        waiting.push(image);
    }
    scene.gates.open();
    first.await;
    waiting.collect().await
}

async fn assess(journey: &Journey, object: &str, priority: Priority) -> Priority {
    let reference = ImageReference::new(format!("s3://photos/{object}"));
    journey.with_priority(priority).assess(reference, None).await.unwrap();
    priority
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_overtake_the_backlog() {
    use Priority::{Backlog, Request};
    let order = order(&[Backlog, Backlog, Backlog, Request, Request]).await;
    assert_eq!(order, [Request, Request, Backlog, Backlog, Backlog]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backlog_gets_every_fifth_turn_of_each_stage() {
    use Priority::{Backlog, Request};
    let arrivals = [[Backlog; 2].as_slice(), &[Request; 12]].concat();
    let order = order(&arrivals).await;
    let of_backlog: Vec<_> =
        order.iter().enumerate().filter(|(_, it)| **it == Backlog).map(|(at, _)| at).collect();
    // In the first stage they are the fifth and the tenth. Later stages may move them a little,
    // because few images wait there.
    assert!(of_backlog[0] >= 3 && of_backlog[1] <= 11, "{order:?}");
}
