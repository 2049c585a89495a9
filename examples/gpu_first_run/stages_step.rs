//! The stages of both networks, each with the prediction of a dry run of the same shapes.

use candle_core::{DType, Device, Result, Tensor};
use dog_iqa::models::device::dry_run::{dry_run, placeholder, placeholder_weights};
use dog_iqa::models::device::peak_bytes;
use dog_iqa::models::mplug_owl3::{Prefix, Tensors, next_tokens};
use dog_iqa::models::sam2::{EncodedImages, MASKS, PointLabel, Prompts, Sam2};
use serde_json::{Value, json};

use crate::gpu_cost::Cost;
use crate::networks::{Owl, Shapes};
use crate::rows::{Rows, time};

/// The networks that stages run on: on the device, or dry.
struct Networks {
    sam2: Sam2,
    owl: Owl,
    prefix: Prefix,
    is_dry: bool,
}

/// A stage on some inputs: prepares its inputs, then returns the work to measure.
type Stage<'a> = Box<dyn Fn(&Networks) -> Result<Work> + 'a>;
type Work = Box<dyn Fn(&Networks) -> Result<()>>;

impl Networks {
    fn on(device: &Device, shapes: &Shapes) -> Result<Self> {
        let dtype = if device.is_cpu() { DType::F32 } else { DType::BF16 };
        let owl = shapes.owl(dtype, device)?;
        let prefix = owl.prefix(1)?;
        Ok(Self { sam2: shapes.sam2(dtype, device)?, owl, prefix, is_dry: false })
    }

    fn dry(shapes: &Shapes) -> Result<Self> {
        let build = || {
            let tensors = Tensors::new(placeholder_weights(DType::BF16), None);
            let owl = Owl::new(&shapes.owl, &tensors)?;
            let prefix = owl.prefix(1)?;
            let sam2 = Sam2::new(&shapes.sam2, &placeholder_weights(DType::BF16))?;
            Ok(Self { sam2, owl, prefix, is_dry: true })
        };
        dry_run(|_, _| 0.0, build).0
    }

    /// Returns an input of the device, or of the dry run.
    fn input(&self, shape: &[usize], dtype: DType) -> Result<Tensor> {
        if self.is_dry {
            return placeholder(shape, dtype);
        }
        let device = self.sam2.device();
        if dtype == DType::U8 {
            return Tensor::full(127_u8, shape, device);
        }
        (Tensor::rand(0_f32, 1.0, shape, device)? * 100.0)?.to_dtype(dtype)
    }

    fn encoded(&self, images: usize) -> Result<EncodedImages> {
        let size = self.sam2.config().image_size;
        self.sam2.encode(&self.input(&[images, 3, size, size], DType::F32)?)
    }
}

/// Returns every stage by its name, for every number of inputs.
fn stages(shapes: &Shapes) -> Vec<(String, Stage<'_>)> {
    let mut stages: Vec<(String, Stage<'_>)> = Vec::new();
    for &count in &shapes.images {
        let plural = if count == 1 { "" } else { "s" };
        stages.push((
            format!("encoder, {count} image{plural}"),
            Box::new(move |networks| {
                let size = networks.sam2.config().image_size;
                let images = networks.input(&[count, 3, size, size], DType::F32)?;
                Ok(Box::new(move |networks| networks.sam2.encode(&images).map(drop)))
            }),
        ));
    }
    for &count in &shapes.points {
        for part in ["transformer", "masks", "decoder"] {
            stages.push((
                format!("{part}, {count} points"),
                Box::new(move |networks| decoder_stage(networks, part, count)),
            ));
        }
    }
    for &count in &shapes.views {
        stages.push((
            format!("siglip, {count} views"),
            Box::new(move |networks| {
                let size = networks.owl.model.config().vision_config.image_size;
                let views = networks.input(&[count, 3, size, size], networks.owl.model.dtype())?;
                Ok(Box::new(move |networks| networks.owl.model.vision().forward(&views).map(drop)))
            }),
        ));
        stages.push((
            format!("views, {count} views"),
            Box::new(move |networks| {
                let size = networks.owl.model.config().vision_config.image_size;
                let views = networks.input(&[count, 3, size, size], DType::U8)?;
                Ok(Box::new(move |networks| networks.owl.model.encode(&views).map(drop)))
            }),
        ));
    }
    for &count in &shapes.crops {
        for part in ["show", "text", "levels"] {
            stages.push((
                format!("{part}, {count} crops"),
                Box::new(move |networks| text_stage(networks, part, count)),
            ));
        }
    }
    stages
}

fn decoder_stage(networks: &Networks, part: &'static str, count: usize) -> Result<Work> {
    let encoded = networks.encoded(1)?;
    let points = networks.input(&[count, 1, 2], DType::F32)?;
    let labels = vec![PointLabel::Foreground; count];
    let image_of = vec![0; count];
    let decode = move |networks: &Networks| {
        let prompts =
            Prompts { image_of: &image_of, points: &points, labels: &labels, masks: None };
        networks.sam2.decode(&encoded, &prompts, |_| {}).map(|decoded| (decoded, encoded.clone()))
    };
    let draw = |networks: &Networks, (decoded, encoded): &(_, EncodedImages), count: usize| {
        let decoder = networks.sam2.mask_decoder();
        decoder.masks(decoded, &encoded.fine, &vec![0; count], 1..MASKS).map(drop)
    };
    Ok(match part {
        "transformer" => Box::new(move |networks| decode(networks).map(drop)),
        "masks" => {
            let decoded = decode(networks)?;
            Box::new(move |networks| draw(networks, &decoded, count))
        }
        _ => Box::new(move |networks| draw(networks, &decode(networks)?, count)),
    })
}

fn text_stage(networks: &Networks, part: &'static str, count: usize) -> Result<Work> {
    let config = networks.owl.model.config();
    let tokens = config.vision_config.tokens();
    let dtype = networks.owl.model.dtype();
    let embeds = networks.input(&[count, tokens, config.hidden_size], dtype)?;
    Ok(match part {
        // The keys and values of the images alone.
        "show" => Box::new(move |networks| {
            let decoder = networks.owl.model.decoder();
            let mut cache = decoder.empty_cache(count);
            decoder.cache_image_kv(&embeds, &mut cache, &[86])
        }),
        "levels" => {
            let hidden = networks.input(&[count, config.hidden_size], dtype)?;
            Box::new(move |networks| {
                let Owl { model, head } = &networks.owl;
                drop(head.logits(&hidden)?);
                next_tokens(model.decoder(), &hidden, head.tokens()).map(drop)
            })
        }
        _ => {
            Box::new(move |networks| networks.prefix.resume(&networks.owl.model, &embeds).map(drop))
        }
    })
}

/// Predicts a stage by a dry run.
fn predicted(dry: &Networks, stage: &Stage<'_>) -> Result<Cost> {
    let (work, _) = dry_run(|_, _| 0.0, || stage(dry));
    let work = work?;
    let (done, launches) = dry_run(|_, _| 0.0, || work(dry));
    done?;
    Ok(Cost::of(&launches))
}

/// Measures every stage.
pub(crate) fn run(device: &Device, shapes: &Shapes, rows: &mut Rows) {
    let dry = Networks::dry(shapes).unwrap();
    let networks = Networks::on(device, shapes).unwrap();
    for (name, stage) in stages(shapes) {
        rows.measure(&name, || {
            let cost = predicted(&dry, &stage)?;
            let work = stage(&networks)?;
            let timing = time(device, shapes.runs, || work(&networks))?;
            let (done, bytes) = peak_bytes(device, || work(&networks))?;
            done?;
            Ok(row(&cost, timing.ms, timing.enqueue_ms, bytes))
        });
    }
}

fn row(cost: &Cost, ms: f64, enqueue_ms: f64, bytes: u64) -> Value {
    json!({
        "ms": ms, "enqueue_ms": enqueue_ms, "predicted_ms": cost.ms[0],
        "launches": cost.launches, "gb": cost.gigabytes, "tflop": cost.tera_operations,
        "memory_mib": bytes >> 20,
    })
}

/// Runs the first stage whose name begins with `prefix` several times.
pub(crate) fn run_one(device: &Device, shapes: &Shapes, prefix: &str, runs: usize) -> Result<()> {
    let networks = Networks::on(device, shapes)?;
    let all = stages(shapes);
    let Some((name, stage)) = all.iter().find(|(name, _)| name.starts_with(prefix)) else {
        candle_core::bail!("no stage begins with `{prefix}`");
    };
    let work = stage(&networks)?;
    for _ in 0..runs {
        work(&networks)?;
    }
    device.synchronize()?;
    println!("{name}: {runs} runs");
    Ok(())
}
