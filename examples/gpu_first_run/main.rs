//! Measures the networks at their published shapes on one device, with random weights: operations,
//! stages, and the whole engine. `gpu/first_run.sh` runs it step by step on a bare machine.
//!
//! ```text
//! gpu_first_run STEP --rows FILE [--device cuda:0] [--small] [--runs N]
//!   ops             layers and kernels: the error against the CPU, and the time
//!   stages          each stage of the networks, and the prediction of a dry run
//!   kernels STAGE   one stage N times (20), for a profiler
//!   engine          images per second, batch sizes, load of the lanes
//! ```
//! Every measurement is a line of JSON, appended to the file. A measurement that fails is a line
//! with its error.

#![expect(clippy::print_stdout, reason = "a program for the command line")]
#![expect(
    clippy::unwrap_used,
    reason = "a measurement ends where it fails, and the others are made"
)]

mod engine_step;
#[path = "../../tests/support/gpu_cost.rs"]
mod gpu_cost;
#[path = "../../benches/support/lane_load.rs"]
mod lane_load;
mod networks;
mod ops_step;
mod rows;
mod stages_step;

use std::error::Error;
use std::path::PathBuf;

use dog_iqa::models::device::DeviceId;

use networks::Shapes;
use rows::Rows;

/// The command line.
struct Arguments {
    step: String,
    stage: Option<String>,
    device: DeviceId,
    rows: PathBuf,
    is_small: bool,
    /// Runs of the step `kernels`, enough that building the networks does not dominate.
    runs: usize,
}

impl Arguments {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let mut words = std::env::args().skip(1);
        let step = words.next().ok_or("usage: gpu_first_run STEP --rows FILE")?;
        let mut parsed = Self {
            step,
            stage: None,
            device: DeviceId::Cuda(0),
            rows: PathBuf::from("rows.jsonl"),
            is_small: false,
            runs: 20,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--device" => parsed.device = value()?.parse()?,
                "--rows" => parsed.rows = value()?.into(),
                "--small" => parsed.is_small = true,
                "--runs" => parsed.runs = value()?.parse()?,
                _ => parsed.stage = Some(word),
            }
        }
        Ok(parsed)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse()?;
    let mut rows = Rows::open(&arguments.rows, &arguments.step, arguments.is_small)?;
    let device = arguments.device.open()?;
    let shapes = if arguments.is_small { Shapes::small() } else { Shapes::production() };
    match arguments.step.as_str() {
        "ops" => ops_step::run(&device, arguments.is_small, &mut rows),
        "stages" => stages_step::run(&device, &shapes, &mut rows),
        "kernels" => {
            let stage = arguments.stage.ok_or("kernels needs the name of a stage")?;
            stages_step::run_one(&device, &shapes, &stage, arguments.runs)?;
        }
        "engine" => engine_step::run(arguments.device, &device, &shapes, &mut rows)?,
        other => return Err(format!("`{other}` is no step").into()),
    }
    Ok(())
}
