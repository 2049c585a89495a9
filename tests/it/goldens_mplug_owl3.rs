//! mPLUG-Owl3 against tensors of the reference implementation, layer by layer, for every golden
//! folder.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use candle_nn::VarBuilder;
use dog_iqa::checkpoints::MplugOwl3Checkpoint;
use dog_iqa::models::mplug_owl3::{Attended, Greedy, KvCache, MplugOwl3, Tensors, VisionModel};

use crate::golden_folders::{Suite, folders};
use crate::goldens::{Comparison, Place, largest, on_device, tensors};

const GENERATIONS: [&str; 3] = ["mplug_owl3_240728", "mplug_owl3_241014", "mplug_owl3_241101"];
/// Tolerance that the goldens' README states, as a share of a tensor's largest value.
const SHARE: f64 = 2e-5;

/// Returns every golden folder of the networks.
pub(crate) fn all_folders() -> Vec<PathBuf> {
    folders(Suite::MplugOwl3, &GENERATIONS)
}

/// One golden folder, opened.
pub(crate) struct Golden {
    /// On the CPU.
    pub(crate) io: HashMap<String, Tensor>,
    /// The tensors of numbers with a fraction, on the device of the place.
    inputs: HashMap<String, Tensor>,
    comparison: Comparison,
    pub(crate) model: MplugOwl3,
    place: Place,
}

impl Golden {
    pub(crate) fn open(folder: &Path, part: &'static str, place: &Place) -> Self {
        let Place { device, dtype, .. } = place;
        let io = tensors(&folder.join("io.safetensors"));
        Self {
            inputs: on_device(&io, device),
            io,
            comparison: Comparison::at(place, folder, part),
            model: MplugOwl3Checkpoint::open(folder).unwrap().load(*dtype, device).unwrap(),
            place: place.clone(),
        }
    }

    /// Returns the images of all cases in the order of the file, `(images, tokens, hidden)`.
    fn image_embeds(&self) -> Option<Tensor> {
        let dtype = self.model.dtype();
        if let Some(embeds) = self.inputs.get("vision.image_embeds") {
            return Some(embeds.to_dtype(dtype).unwrap());
        }
        let pixels = self.inputs.get("pixel_pool")?.to_dtype(dtype).unwrap();
        Some(self.model.encode(&pixels).unwrap())
    }

    fn numbers(&self, name: &str) -> Vec<Vec<i64>> {
        let tensor = self.io[name].to_dtype(DType::I64).unwrap();
        match tensor.rank() {
            1 => vec![tensor.to_vec1().unwrap()],
            _ => tensor.to_vec2().unwrap(),
        }
    }

    /// Compares a tensor that the folder may lack.
    fn check(&mut self, name: &str, ours: &Tensor) {
        match self.io.get(name).cloned() {
            Some(golden) => self.check_with(name, ours, &golden),
            None => self.comparison.absent(name),
        }
    }

    fn check_with(&mut self, name: &str, ours: &Tensor, golden: &Tensor) {
        let ours = ours.to_dtype(DType::F32).unwrap().contiguous().unwrap();
        if self.place.is_half() && self.place.device.is_cpu() && self.comparison.is_foreign() {
            // Rounding of a half format differs between networks far more than ours from theirs.
            return self.comparison.measure(name, &ours, golden);
        }
        let share = self.place.share.unwrap_or(SHARE);
        self.comparison.close(name, &ours, golden, share * largest(golden));
    }

    /// Compares some rows of a tensor, starting at `first`, if both are there.
    fn check_rows(&mut self, name: &str, ours: Option<&Tensor>, first: usize) {
        let (Some(ours), Some(all)) = (ours, self.io.get(name)) else {
            return self.comparison.absent(name);
        };
        let golden = all.narrow(0, first, ours.dim(0).unwrap()).unwrap();
        self.check_with(name, ours, &golden);
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
    /// Reads a case, if its images are in the file.
    fn read(golden: &Golden, name: &str) -> Option<Self> {
        let rows = golden.numbers(&format!("{name}.input_ids"));
        let rows: Vec<Vec<u32>> = rows
            .into_iter()
            .map(|row| row.into_iter().map(|id| u32::try_from(id).unwrap()).collect())
            .collect();
        let parts = ["image_row", "image_start", "image_index"];
        let parts = parts.map(|part| format!("{name}.{part}"));
        let has = |part: &String| golden.io.contains_key(part);
        let mut starts = vec![Vec::new(); rows.len()];
        let embeds = if parts.iter().all(has) {
            let [image_row, image_start, image_index] =
                parts.map(|part| golden.numbers(&part).remove(0));
            for (row, start) in image_row.into_iter().zip(image_start) {
                starts[usize::try_from(row).unwrap()].push(usize::try_from(start).unwrap());
            }
            let indices: Vec<u32> =
                image_index.into_iter().map(|index| u32::try_from(index).unwrap()).collect();
            // Converted before rows are selected: a GPU cannot convert a tensor without values.
            let embeds = golden.image_embeds()?;
            embeds.index_select(&Tensor::new(indices, embeds.device()).unwrap(), 0).unwrap()
        } else if parts.iter().any(has) {
            return None;
        } else {
            let Place { device, .. } = &golden.place;
            let hidden = golden.model.decoder().embed(&[&rows[0][..1]]).unwrap().dim(2).unwrap();
            Tensor::zeros((0, 1, hidden), golden.model.dtype(), device).unwrap()
        };
        Some(Self { name: name.to_owned(), rows, starts, embeds })
    }

    /// Returns the last token of each row after the final norm, `(rows, hidden)`, and what each
    /// batch continues from.
    pub(crate) fn hidden(&self, model: &MplugOwl3) -> (Vec<(KvCache, Tensor)>, Tensor) {
        let run = |mut batch: Batch| {
            let last = model.decoder().run_to_end(batch.xs, 0, &mut batch.cache).unwrap();
            (batch.cache, last)
        };
        let ends: Vec<(KvCache, Tensor)> = self.batches(model).into_iter().map(run).collect();
        let hidden = joined(ends.iter().map(|(_, hidden)| hidden));
        (ends, hidden)
    }

    /// Batches of consecutive rows whose images are at the same positions.
    fn batches(&self, model: &MplugOwl3) -> Vec<Batch> {
        let decoder = model.decoder();
        let embeds = self.embeds.to_dtype(model.dtype()).unwrap();
        let (mut row, mut image) = (0, 0);
        let mut batches = Vec::new();
        for starts in self.starts.chunk_by(|one, other| one == other) {
            let (rows, images) = (starts.len(), starts.len() * starts[0].len());
            let mut cache = decoder.empty_cache(rows);
            let embeds = embeds.narrow(0, image, images).unwrap();
            decoder.cache_image_kv(&embeds, &mut cache, &starts[0]).unwrap();
            let ids: Vec<&[u32]> = self.rows[row..row + rows].iter().map(Vec::as_slice).collect();
            batches.push(Batch { cache, xs: decoder.embed(&ids).unwrap() });
            (row, image) = (row + rows, image + images);
        }
        batches
    }
}

/// Rows that the decoder runs together.
struct Batch {
    cache: KvCache,
    /// `(rows, tokens, hidden)`.
    xs: Tensor,
}

fn joined<'a>(parts: impl Iterator<Item = &'a Tensor>) -> Tensor {
    Tensor::cat(&parts.collect::<Vec<_>>(), 0).unwrap()
}

/// Returns the names of the cases of the file, sorted.
fn case_names(golden: &Golden) -> Vec<String> {
    let names = golden.io.keys().filter_map(|name| name.strip_suffix(".input_ids"));
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort_unstable();
    assert!(!names.is_empty(), "there are cases");
    names
}

/// Reads the cases whose images are in the file.
pub(crate) fn cases(golden: &Golden) -> Vec<Case> {
    case_names(golden).iter().filter_map(|name| Case::read(golden, name)).collect()
}

fn check_vision(golden: &mut Golden, folder: &Path) {
    let dtype = golden.model.dtype();
    let Some(pixels) = golden.inputs.get("pixel_pool") else {
        return golden.comparison.absent("pixel_pool");
    };
    let pixels = pixels.to_dtype(dtype).unwrap();
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
    let checkpoint = MplugOwl3Checkpoint::open(folder).unwrap();
    let (weights, device) = (checkpoint.weights(), &golden.place.device);
    let names = weights.shapes().keys().filter(|name| name.starts_with("vision_model."));
    let tower = names.map(|name| (name.clone(), weights.load(name, dtype, device).unwrap()));
    let vb = VarBuilder::from_tensors(tower.collect(), dtype, device);
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

/// Compares the parts of a hyper layer's attention that are in the file. `attended` has a result
/// for each batch of rows; a batch without an image has no parts.
fn check_attention(golden: &mut Golden, case: &Case, layer: usize, attended: &[Attended]) {
    let name = |part: &str| format!("{}.layer.{layer}.{part}", case.name);
    let outputs = joined(attended.iter().map(|attended| &attended.output));
    golden.check(&name("attn_ctx"), &outputs);
    let mut row = 0;
    for attended in attended {
        let rows = attended.output.dim(0).unwrap();
        golden.check_rows(&name("self_ctx"), attended.text.as_ref(), row);
        // A constant gate is not one of rows.
        match &attended.gate {
            Some(gate) if gate.rank() == 1 => golden.check(&name("gate"), gate),
            gate => golden.check_rows(&name("gate"), gate.as_ref(), row),
        }
        if let Some(images) = &attended.images {
            check_images_attended(golden, case, layer, (row, images));
        }
        row += rows;
    }
}

/// Compares the attention to images of some rows, starting at `first`.
fn check_images_attended(
    golden: &mut Golden,
    case: &Case,
    layer: usize,
    (first, images): (usize, &Tensor),
) {
    for (index, starts) in case.starts[first..first + images.dim(0).unwrap()].iter().enumerate() {
        let part = format!("{}.layer.{layer}.cross_ctx.{}", case.name, first + index);
        if golden.io.contains_key(&part) && !starts.is_empty() {
            let start = starts[0] + golden.model.generation().image_offset();
            let visible = images.get(index).unwrap();
            let len = visible.dim(0).unwrap() - start;
            golden.check(&part, &visible.narrow(0, start, len).unwrap());
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
    golden.check(&name("image_normed"), &normed);
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
    golden.check(&name("v_kv"), &as_stored);
    let mut first = 0;
    for (row, starts) in case.starts.iter().enumerate() {
        let part = name(&format!("image_k_rope.{row}"));
        if golden.io.contains_key(&part) {
            let mut cache = model.decoder().empty_cache(1);
            let embeds = case.embeds.narrow(0, first, starts.len()).unwrap();
            model.decoder().cache_image_kv(&embeds, &mut cache, starts).unwrap();
            let rows = cache.image_rows(layer).unwrap().squeeze(0).unwrap();
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
    let mut batches = case.batches(&model);
    golden.check(&format!("{}.embed", case.name), &joined(batches.iter().map(|batch| &batch.xs)));
    for (index, layer) in decoder.layers().iter().enumerate() {
        if layer.attention().is_hyper() {
            check_images(golden, case, index);
        }
        let mut all_attended = Vec::new();
        for Batch { cache, xs } in &mut batches {
            let count = xs.dim(1).unwrap();
            let tables = decoder.tables(index, cache, count, count).unwrap();
            let attended = layer.attend(xs, &tables, cache).unwrap();
            *xs = layer.finish(&attended.output, xs).unwrap();
            all_attended.push(attended);
        }
        check_attention(golden, case, index, &all_attended);
        let out = joined(batches.iter().map(|batch| &batch.xs));
        golden.check(&format!("{}.layer.{index}.out", case.name), &out);
    }
    let xs = joined(batches.iter().map(|batch| &batch.xs));
    let normed = decoder.norm().forward(&xs).unwrap();
    golden.check(&format!("{}.final_norm", case.name), &normed);
    let logits = decoder.logits(&normed).unwrap();
    golden.check(&format!("{}.logits", case.name), &logits);
}

fn check_decoding(golden: &mut Golden, case: &Case) {
    let [tokens, logits] = ["tokens", "logits"].map(|part| format!("{}.decode.{part}", case.name));
    let steps = [&tokens, &logits].into_iter().find_map(|name| golden.io.get(name)?.dim(1).ok());
    let Some(steps) = steps else { return golden.comparison.absent(&tokens) };
    let expected = golden.io.contains_key(&tokens).then(|| golden.numbers(&tokens));
    let model = golden.model.clone();
    let decoder = model.decoder();
    let (ends, _) = case.hidden(&model);
    let mut batches: Vec<(usize, Greedy<'_>)> = ends
        .into_iter()
        .map(|(cache, hidden)| (cache.sequences(), Greedy::new(decoder, cache, hidden)))
        .collect();
    let mut of_steps = Vec::new();
    for step in 0..steps {
        let of_batches: Vec<Tensor> =
            batches.iter().map(|(_, greedy)| greedy.logits().unwrap()).collect();
        of_steps.push(joined(of_batches.iter()));
        let chosen = batches.iter().map(|(_, greedy)| greedy.likeliest(usize::MAX).unwrap());
        let chosen: Vec<u32> = chosen.flatten().collect();
        if let Some(expected) = &expected {
            let golden_step: Vec<u32> =
                expected.iter().map(|row| u32::try_from(row[step]).unwrap()).collect();
            golden.comparison.equal(&format!("{tokens}, step {step}"), &chosen, &golden_step);
        }
        let mut rest = &chosen[..];
        for (rows, greedy) in &mut batches {
            let (tokens, after) = rest.split_at(*rows);
            greedy.feed(tokens).unwrap();
            rest = after;
        }
    }
    match expected {
        Some(_) => golden.comparison.note(&tokens),
        None => golden.comparison.absent(&tokens),
    }
    golden.check(&logits, &Tensor::stack(&of_steps, 1).unwrap());
}

/// Compares every stage before the tokens are chosen.
fn check_network(golden: &mut Golden, folder: &Path) {
    check_vision(golden, folder);
    for name in case_names(golden) {
        match Case::read(golden, &name) {
            Some(case) => check_case(golden, &case),
            None => golden.comparison.absent(&format!("an image of `{name}`")),
        }
    }
    golden.comparison.require_one(&["logits"]);
}

/// Compares the network in a place with one golden folder.
pub(crate) fn compare(folder: &Path, part: &'static str, place: &Place) {
    let mut golden = Golden::open(folder, part, place);
    check_network(&mut golden, folder);
    golden.comparison.finish(55);
}

#[test]
fn every_layer_follows_the_reference() {
    let generations = all_folders().into_iter().map(|folder| compare_all(&folder));
    let generations: BTreeSet<&str> = generations.collect();
    assert_eq!(generations.len(), 3, "a generation has no golden folder");
}

/// Compares the network in single precision and its decoding with one golden folder, and looks for
/// tensors that were not compared. Returns the name of the generation.
pub(crate) fn compare_all(folder: &Path) -> &'static str {
    let mut golden = Golden::open(folder, "network", &Place::cpu());
    check_network(&mut golden, folder);
    for case in cases(&golden) {
        check_decoding(&mut golden, &case);
    }
    let inputs =
        ["pixel_pool", "input_ids", "image_index", "image_row", "image_start", "media_offset"];
    let is_input = |name: &str| inputs.contains(&name.rsplit('.').next().unwrap());
    golden.comparison.leave_none(&golden.io, is_input);
    let generation = golden.model.generation().name();
    golden.comparison.finish(80);
    generation
}

/// Half formats run the unfused operations, as a GPU does. The goldens' READMEs have no tolerance
/// for them. These are three times the error in the repository's folders, as shares of each
/// tensor's largest value. A wrong operation changes logits by more, as the READMEs list. Only the
/// smallest such changes need `f32` to be detected.
#[test]
fn half_formats_follow_the_reference_within_their_precision() {
    for folder in all_folders() {
        for (part, dtype, share) in [("bf16", DType::BF16, 0.25), ("f16", DType::F16, 0.05)] {
            compare(&folder, part, &Place::cpu_in(dtype, share));
        }
    }
}
