//! The published 1B and 2B networks at their real shapes, with random weights: the number of
//! parameters, shards with the real names, and a photo from pixels to levels.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Device, Shape};
use dog_iqa::checkpoints::MplugOwl3Checkpoint;
use dog_iqa::engine::{MplugOwl3Scorer, Scorer};
use dog_iqa::imaging::{Crop, CropSource};
use dog_iqa::method::{Standard, StandardSettings};
use dog_iqa::models::mplug_owl3::{Config, MplugOwl3, RatingSettings, Release, Tensors};
use image::{Rgb, RgbImage};

use crate::qwen2::tokenizer_json;
use crate::random_checkpoint::write_sharded;
use crate::random_tensor::random;
use crate::random_weights::network;

/// Returns the tensors of checkpoints that the network does not use: the last vision layer and
/// those that follow it.
fn unused(config: &Config) -> BTreeMap<String, Shape> {
    let (width, inner) = (config.vision_config.hidden_size, config.vision_config.intermediate_size);
    let layer = format!("encoder.layers.{}", config.vision_config.num_hidden_layers - 1);
    let mut shapes: BTreeMap<String, Shape> = BTreeMap::new();
    let mut add = |name: String, shape: &[usize]| {
        shapes.insert(format!("vision_model.{name}"), shape.into());
    };
    for norm in [
        format!("{layer}.layer_norm1"),
        format!("{layer}.layer_norm2"),
        "post_layernorm".to_owned(),
        "head.layernorm".to_owned(),
    ] {
        add(format!("{norm}.weight"), &[width]);
        add(format!("{norm}.bias"), &[width]);
    }
    for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
        add(format!("{layer}.self_attn.{part}.weight"), &[width, width]);
        add(format!("{layer}.self_attn.{part}.bias"), &[width]);
    }
    for mlp in [format!("{layer}.mlp"), "head.mlp".to_owned()] {
        add(format!("{mlp}.fc1.weight"), &[inner, width]);
        add(format!("{mlp}.fc1.bias"), &[inner]);
        add(format!("{mlp}.fc2.weight"), &[width, inner]);
        add(format!("{mlp}.fc2.bias"), &[width]);
    }
    add("head.probe".to_owned(), &[1, 1, width]);
    add("head.attention.in_proj_weight".to_owned(), &[3 * width, width]);
    add("head.attention.in_proj_bias".to_owned(), &[3 * width]);
    add("head.attention.out_proj.weight".to_owned(), &[width, width]);
    add("head.attention.out_proj.bias".to_owned(), &[width]);
    shapes
}

fn check(release: Release, millions: f64) {
    let config = Config::of_release(release);
    let build = |vb| MplugOwl3::new(&config, release.generation(), &Tensors::new(vb, None));
    let (model, mut shapes) = network(build);
    drop(model);
    shapes.extend(unused(&config));
    let parameters: usize = shapes.values().map(Shape::elem_count).sum();
    assert!((parameters as f64 / 1e6 - millions).abs() < 0.5, "{parameters} parameters");

    let folder = tempfile::tempdir().unwrap();
    write_sharded(folder.path(), shapes.keys(), 3, |name| {
        random(name, &shapes[name]).unwrap().to_dtype(DType::BF16).unwrap()
    });
    let json = serde_json::to_string(&config).unwrap();
    std::fs::write(folder.path().join("config.json"), json).unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer_json()).unwrap();
    assert_eq!(MplugOwl3Checkpoint::open(folder.path()).unwrap().release(), Some(release));

    let standard = Standard::from_settings(&StandardSettings::default()).unwrap();
    let scorer = MplugOwl3Scorer::open(
        folder.path(),
        &standard,
        RatingSettings::default(),
        DType::F32,
        &Device::Cpu,
    )
    .unwrap();
    assert_eq!(scorer.info().name, format!("mplug-owl3-{}", release.name()));
    assert_eq!(scorer.info().weights.len(), 3, "one digest for each shard");
    let photo = RgbImage::from_fn(320, 200, |x, y| {
        Rgb([x, y, x * y / 97].map(|value| value.to_le_bytes()[0]))
    });
    let crop = Crop { source: CropSource::Whole, pixels: Arc::new(photo), picture: None };
    let rating = scorer.rate(&[scorer.prepare(&crop).unwrap()]).unwrap().remove(0);
    assert_eq!(rating.levels(), 7);
    assert!((1.0..=7.0).contains(&rating.expected()), "{rating:?}");
}

#[test]
fn mplug_owl3_1b_is_built_written_in_shards_opened_and_run() {
    check(Release::B1V241014, 924.0);
}

#[test]
fn mplug_owl3_2b_is_built_written_in_shards_opened_and_run() {
    check(Release::B2V241014, 1977.0);
}
