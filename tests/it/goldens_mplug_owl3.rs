//! mPLUG-Owl3 against tensors of the reference implementation, layer by layer, for every golden
//! folder.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use dog_iqa::checkpoints::MplugOwl3Checkpoint;
use dog_iqa::models::mplug_owl3::{Attended, Greedy, KvCache, MplugOwl3, Tensors, VisionModel};

use crate::goldens::{Comparison, folders, json, tensors};

const GENERATIONS: [&str; 3] = ["mplug_owl3_240728", "mplug_owl3_241014", "mplug_owl3_241101"];
const FILES: [&str; 3] = ["config.json", "io.safetensors", "model.safetensors"];

/// Returns every golden folder of the networks, each once.
pub(crate) fn all_folders() -> Vec<std::path::PathBuf> {
    let mut all: Vec<_> = GENERATIONS.iter().flat_map(|name| folders(name, &FILES)).collect();
    all.sort();
    all.dedup();
    // `DOGIQA_GOLDENS` may name folders of other networks.
    all.retain(|folder| json(&folder.join("config.json"))["model_type"] == "mplugowl3");
    all
}

/// One golden folder, opened.
pub(crate) struct Golden {
    pub(crate) io: HashMap<String, Tensor>,
    comparison: Comparison,
    pub(crate) model: MplugOwl3,
    /// Tolerance, as a share of a tensor's largest value.
    share: f64,
    /// Names of the compared tensors.
    compared: BTreeSet<String>,
}

impl Golden {
    pub(crate) fn open(folder: &Path, part: &'static str, dtype: DType, share: f64) -> Self {
        Self {
            io: tensors(&folder.join("io.safetensors")),
            comparison: Comparison::new(folder, part),
            model: MplugOwl3Checkpoint::open(folder).unwrap().load(dtype, &Device::Cpu).unwrap(),
            share,
            compared: BTreeSet::new(),
        }
    }

    fn input(&self, name: &str) -> &Tensor {
        self.io.get(name).unwrap_or_else(|| panic!("io.safetensors lacks `{name}`"))
    }

    fn numbers(&self, name: &str) -> Vec<Vec<i64>> {
        let tensor = self.input(name);
        match tensor.rank() {
            1 => vec![tensor.to_vec1().unwrap()],
            _ => tensor.to_vec2().unwrap(),
        }
    }

    fn check(&mut self, name: &str, ours: &Tensor) {
        let golden = self.input(name).clone();
        let largest = golden.abs().unwrap().flatten_all().unwrap().max(0).unwrap();
        let tolerance = self.share * f64::from(largest.to_scalar::<f32>().unwrap());
        let ours = ours.to_dtype(DType::F32).unwrap().contiguous().unwrap();
        self.comparison.close(name, &ours, &golden, tolerance);
        self.compared.insert(name.to_owned());
    }

    fn check_if_there(&mut self, name: &str, ours: &Tensor) {
        if self.io.contains_key(name) {
            self.check(name, ours);
        } else {
            self.comparison.absent(name);
        }
    }
}

/// A batch of the file: rows of tokens, with the positions of each row's images.
pub(crate) struct Case {
    pub(crate) name: String,
    rows: Vec<Vec<u32>>,
    starts: Vec<Vec<usize>>,
    /// The images of all rows in order: `(images, tokens, hidden)`.
    embeds: Tensor,
}

impl Case {
    fn read(golden: &Golden, name: &str) -> Self {
        let rows = golden.numbers(&format!("{name}.input_ids"));
        let rows: Vec<Vec<u32>> = rows
            .into_iter()
            .map(|row| row.into_iter().map(|id| u32::try_from(id).unwrap()).collect())
            .collect();
        let mut starts = vec![Vec::new(); rows.len()];
        let embeds = golden.input("vision.image_embeds");
        let embeds = if golden.io.contains_key(&format!("{name}.image_row")) {
            let number =
                |part: &str| golden.numbers(&format!("{name}.{part}")).into_iter().next().unwrap();
            for (row, start) in number("image_row").into_iter().zip(number("image_start")) {
                starts[usize::try_from(row).unwrap()].push(usize::try_from(start).unwrap());
            }
            let indices: Vec<u32> = number("image_index")
                .into_iter()
                .map(|index| u32::try_from(index).unwrap())
                .collect();
            embeds.index_select(&Tensor::new(indices, &Device::Cpu).unwrap(), 0).unwrap()
        } else {
            embeds.narrow(0, 0, 0).unwrap()
        };
        let embeds = embeds.to_dtype(golden.model.dtype()).unwrap();
        Self { name: name.to_owned(), rows, starts, embeds }
    }

    /// Returns the caches, and the last token of each row after the final norm: `(rows, hidden)`.
    pub(crate) fn hidden(&self, model: &MplugOwl3) -> (Vec<KvCache>, Tensor) {
        let mut caches = self.caches(model);
        let hidden = model.decoder().run_to_end(self.tokens(model), 0, &mut caches).unwrap();
        (caches, hidden)
    }

    fn caches(&self, model: &MplugOwl3) -> Vec<KvCache> {
        let mut caches = vec![model.decoder().empty_cache(); self.rows.len()];
        let starts: Vec<&[usize]> = self.starts.iter().map(Vec::as_slice).collect();
        let embeds = self.embeds.to_dtype(model.dtype()).unwrap();
        model.decoder().cache_image_kv(&embeds, &mut caches, &starts).unwrap();
        caches
    }

    fn tokens(&self, model: &MplugOwl3) -> Tensor {
        model.decoder().embed(&self.rows.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap()
    }
}

/// Reads the cases of the file.
pub(crate) fn cases(golden: &Golden) -> Vec<Case> {
    let mut names: Vec<&str> =
        golden.io.keys().filter_map(|name| name.strip_suffix(".input_ids")).collect();
    names.sort_unstable();
    assert!(!names.is_empty(), "there are cases");
    names.into_iter().map(|name| Case::read(golden, name)).collect()
}

fn check_vision(golden: &mut Golden, folder: &Path) {
    let dtype = golden.model.dtype();
    let pixels = golden.input("pixel_pool").to_dtype(dtype).unwrap();
    let mut states = Vec::new();
    golden
        .model
        .vision()
        .run(&pixels, |tokens| {
            states.push(tokens.clone());
            Ok(())
        })
        .unwrap();
    // The network skips the last layer, but the file has its output.
    let config = &golden.model.config().vision_config;
    let weights = tensors(&folder.join("model.safetensors"));
    let vb = VarBuilder::from_tensors(weights, dtype, &Device::Cpu);
    let tower = Tensors::new(vb.pp("vision_model"), None);
    let whole = VisionModel::new(config, config.num_hidden_layers, &tower).unwrap();
    states.push(whole.forward(&pixels).unwrap());
    assert_eq!(states.len(), config.num_hidden_layers + 1);
    for (index, state) in states.iter().enumerate() {
        golden.check(&format!("vision.hidden_states.{index}"), state);
    }
    let embeds = golden.model.encode(&pixels).unwrap();
    golden.check("vision.image_embeds", &embeds);
}

/// Compares the parts of a hyper layer's attention that are in the file.
fn check_attention(golden: &mut Golden, case: &Case, layer: usize, attended: &Attended) {
    let name = |part: &str| format!("{}.layer.{layer}.{part}", case.name);
    golden.check_if_there(&name("attn_ctx"), &attended.output);
    if let Some(text) = &attended.text {
        golden.check_if_there(&name("self_ctx"), text);
    }
    if let Some(gate) = &attended.gate {
        golden.check_if_there(&name("gate"), gate);
    }
    let Some(images) = &attended.images else {
        return;
    };
    for (row, starts) in case.starts.iter().enumerate() {
        let part = name(&format!("cross_ctx.{row}"));
        if golden.io.contains_key(&part) {
            let first = starts[0] + golden.model.generation().image_offset();
            let visible = images.get(row).unwrap();
            golden
                .check(&part, &visible.narrow(0, first, visible.dim(0).unwrap() - first).unwrap());
        } else {
            golden.comparison.absent(&part);
        }
    }
}

/// Compares a hyper layer's inputs from images: the norm, the projection, the rotated keys.
fn check_images(golden: &mut Golden, case: &Case, layer: usize) {
    let name = |part: &str| format!("{}.layer.{layer}.{part}", case.name);
    let model = golden.model.clone();
    let block = &model.decoder().layers()[layer];
    if case.embeds.dim(0).unwrap() == 0 {
        return;
    }
    let normed = block.input_norm().forward(&case.embeds).unwrap();
    golden.check_if_there(&name("image_normed"), &normed);
    let rows = block.attention().image_rows(&normed).unwrap();
    let (images, tokens, width) = rows.dims3().unwrap();
    let heads = block.attention().heads();
    // In the file each head's key is followed by its value.
    let as_stored = rows
        .reshape((images, tokens, 2, heads.kv_heads, heads.head_dim))
        .unwrap()
        .transpose(2, 3)
        .unwrap()
        .reshape((images, tokens, width))
        .unwrap();
    golden.check_if_there(&name("v_kv"), &as_stored);
    let mut first = 0;
    for (row, starts) in case.starts.iter().enumerate() {
        let part = name(&format!("image_k_rope.{row}"));
        if golden.io.contains_key(&part) {
            let mut cache = [model.decoder().empty_cache()];
            let embeds = case.embeds.narrow(0, first, starts.len()).unwrap();
            model.decoder().cache_image_kv(&embeds, &mut cache, &[starts]).unwrap();
            let rows = cache[0].image_rows(layer).unwrap();
            let keys = rows.narrow(1, 0, heads.kv_heads * heads.head_dim).unwrap();
            let keys =
                keys.reshape((starts.len() * tokens, heads.kv_heads, heads.head_dim)).unwrap();
            golden.check(&part, &keys.transpose(0, 1).unwrap());
        } else {
            golden.comparison.absent(&part);
        }
        first += starts.len();
    }
}

fn check_case(golden: &mut Golden, case: &Case) {
    let model = golden.model.clone();
    let decoder = model.decoder();
    let mut caches = case.caches(&model);
    let mut xs = case.tokens(&model);
    golden.check(&format!("{}.embed", case.name), &xs);
    let count = xs.dim(1).unwrap();
    let angles = decoder.angles(0, &caches, count).unwrap();
    for (index, layer) in decoder.layers().iter().enumerate() {
        if layer.attention().is_hyper() {
            check_images(golden, case, index);
        }
        let attended = layer.attend(&xs, &angles, &mut caches, count).unwrap();
        check_attention(golden, case, index, &attended);
        xs = layer.finish(&attended.output, &xs).unwrap();
        golden.check(&format!("{}.layer.{index}.out", case.name), &xs);
    }
    let normed = decoder.norm().forward(&xs).unwrap();
    golden.check(&format!("{}.final_norm", case.name), &normed);
    let logits = decoder.logits(&normed).unwrap();
    golden.check(&format!("{}.logits", case.name), &logits);
}

fn check_decoding(golden: &mut Golden, case: &Case) {
    let tokens = format!("{}.decode.tokens", case.name);
    if !golden.io.contains_key(&tokens) {
        golden.comparison.absent(&tokens);
        return;
    }
    let expected = golden.numbers(&tokens);
    let model = golden.model.clone();
    let decoder = model.decoder();
    let (caches, hidden) = case.hidden(&model);
    let mut greedy = Greedy::new(decoder, caches, hidden);
    let mut logits = Vec::new();
    for step in 0..expected[0].len() {
        logits.push(greedy.logits().unwrap());
        let chosen = greedy.likeliest(usize::MAX).unwrap();
        let golden_step: Vec<u32> =
            expected.iter().map(|row| u32::try_from(row[step]).unwrap()).collect();
        golden.comparison.equal(&format!("{tokens}, step {step}"), &chosen, &golden_step);
        greedy.feed(&chosen).unwrap();
    }
    golden.compared.insert(tokens);
    golden.check(&format!("{}.decode.logits", case.name), &Tensor::stack(&logits, 1).unwrap());
}

#[test]
fn every_layer_follows_the_reference() {
    let mut generations = BTreeSet::new();
    for folder in all_folders() {
        // The tolerance that the goldens' README states.
        let mut golden = Golden::open(&folder, "network", DType::F32, 2e-5);
        check_vision(&mut golden, &folder);
        for case in cases(&golden) {
            check_case(&mut golden, &case);
            check_decoding(&mut golden, &case);
        }
        let inputs =
            ["pixel_pool", "input_ids", "image_index", "image_row", "image_start", "media_offset"];
        let is_input = |name: &str| inputs.contains(&name.rsplit('.').next().unwrap());
        let left: Vec<&String> = golden
            .io
            .keys()
            .filter(|name| !is_input(name) && !golden.compared.contains(*name))
            .collect();
        assert!(left.is_empty(), "{}: not compared: {left:?}", folder.display());
        generations.insert(golden.model.generation().name());
        golden.comparison.finish(80);
    }
    assert_eq!(generations.len(), 3, "a generation has no golden folder");
}

/// Half formats run the unfused operations, as a GPU does. The goldens' READMEs have no tolerance
/// for them. These are three times the error in the repository's folders, as shares of each
/// tensor's largest value. A wrong operation changes logits by more, as the READMEs list. Only the
/// smallest such changes need `f32` to be detected.
#[test]
fn half_formats_follow_the_reference_within_their_precision() {
    for folder in all_folders() {
        for (part, dtype, share) in [("bf16", DType::BF16, 0.25), ("f16", DType::F16, 0.05)] {
            let mut golden = Golden::open(&folder, part, dtype, share);
            check_vision(&mut golden, &folder);
            for case in cases(&golden) {
                check_case(&mut golden, &case);
            }
            golden.comparison.finish(55);
        }
    }
}
