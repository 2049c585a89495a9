//! A model on the thread of its device, for commands that ask one model.

use anyhow::bail;
use tokio::sync::watch;

use crate::engine::Devices;
use crate::engine::lane::{Lane, LaneDevice, LaneSpec, OpenedModel, RunBatch};
use crate::models::device::Place;

/// The device of a command, which uses one.
pub(super) fn one_place(devices: &Devices) -> anyhow::Result<Place> {
    match &devices.ids()[..] {
        [place] => Ok(*place),
        _ => bail!("--device: this command runs on one device; name one"),
    }
}

/// Opens a model on a thread of its own; gives the lane to it, and what is to be known of it.
pub(super) async fn on_device<I: Send + 'static, O: Send + 'static, M: Send + 'static>(
    name: &'static str,
    open: impl FnOnce() -> anyhow::Result<(RunBatch<I, O>, M)> + Send + 'static,
) -> anyhow::Result<(Lane<I, O>, M)> {
    let spawn = move || {
        let (health, _) = watch::channel(true);
        let spec = LaneSpec { name, queue: 1, cost: |_: &I| 1, health };
        let device = LaneDevice::new(name, move || {
            let (run, returned) = open()?;
            Ok(OpenedModel { run, batch_cost: 1, returned })
        });
        let (lane, mut models) = Lane::spawn::<M, anyhow::Error>(spec, vec![device])?;
        anyhow::Ok((lane, models.swap_remove(0)))
    };
    tokio::task::spawn_blocking(spawn).await?
}
