//! Runs a single model on a thread of its device, for commands that need no complete engine.

use anyhow::bail;
use tokio::sync::watch;

use crate::engine::Devices;
use crate::engine::lane::{Lane, LaneDevice, LaneSpec, OpenedModel, RunBatch};
use crate::models::device::DeviceId;

/// Returns the device named by `--device`.
///
/// # Errors
/// Fails if the option names several devices.
pub(crate) fn single_device(devices: &Devices) -> anyhow::Result<DeviceId> {
    match &devices.ids()[..] {
        [device] => Ok(*device),
        _ => bail!("--device: this command runs on one device; name one"),
    }
}

/// Opens a model on its own thread. Returns the lane to it and what `open` returned about it.
pub(crate) async fn spawn_model_lane<I: Send + 'static, O: Send + 'static, M: Send + 'static>(
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
