//! Qwen3.5-VL against tensors of the reference implementation, stage by stage, for every golden
//! folder. A folder may lack tensors: those that are there are compared and counted.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use dog_iqa::checkpoints::Qwen3_5VlCheckpoint;
use dog_iqa::models::qwen3_5_vl::{
    EncodedImage, LayerState, LevelHead, Part, Patches, Qwen3_5Vl, State, cut, probabilities, score,
};
use image::RgbImage;
use serde_json::Value;

use crate::goldens::{Comparison, Place, folders, json, tensors};
use crate::goldens_qwen3_5_vl_stages::{check_layer, check_vision};

const FILES: [&str; 4] = ["config.json", "io.safetensors", "model.safetensors", "tolerance.json"];
/// Tolerance of a tensor that `tolerance.json` does not name, as a share of its largest value.
const SHARE: f64 = 2e-5;

/// Returns every golden folder of the network, each once.
pub(crate) fn all_folders() -> Vec<PathBuf> {
    let mut all = folders("qwen3_5_vl", &FILES);
    all.sort();
    all.dedup();
    // `DOGIQA_GOLDENS` may name folders of other networks.
    all.retain(|folder| json(&folder.join("config.json"))["model_type"] == "qwen3_5");
    all
}

/// One golden folder, opened.
pub(crate) struct Golden {
    pub(crate) io: HashMap<String, Tensor>,
    tolerances: Value,
    pub(crate) comparison: Comparison,
    pub(crate) model: Qwen3_5Vl,
    place: Place,
    compared: BTreeSet<String>,
}

impl Golden {
    pub(crate) fn open(folder: &Path, part: &'static str, place: &Place) -> Self {
        let checkpoint = Qwen3_5VlCheckpoint::open(folder).unwrap();
        Self {
            io: tensors(&folder.join("io.safetensors")),
            tolerances: json(&folder.join("tolerance.json"))["tensors"].take(),
            comparison: Comparison::at(place, folder, part),
            model: checkpoint.load(place.dtype, &place.device).unwrap(),
            place: place.clone(),
            compared: BTreeSet::new(),
        }
    }

    pub(crate) fn numbers(&self, name: &str) -> Option<Vec<i64>> {
        Some(self.io.get(name)?.flatten_all().unwrap().to_vec1().unwrap())
    }

    /// Compares a tensor that the folder may lack.
    pub(crate) fn check(&mut self, name: &str, ours: &Tensor) {
        let Some(golden) = self.io.get(name).cloned() else {
            return self.comparison.absent(name);
        };
        self.check_with(name, ours, &golden);
    }

    /// Compares rows of tokens, `(rows, …)`, with those of a batch that is padded.
    pub(crate) fn check_rows(&mut self, name: &str, ours: &Tensor, case: &Case) {
        let Some(golden) = self.io.get(name) else {
            return self.comparison.absent(name);
        };
        let packed = case.packed(golden);
        let ours = ours.reshape(packed.dims()).unwrap();
        self.check_with(name, &ours, &packed);
    }

    /// Compares rows `(rows, heads · dim)` with a tensor `(batch, heads, tokens, dim)`.
    pub(crate) fn check_heads(&mut self, name: &str, ours: &Tensor, case: &Case) {
        let Some(golden) = self.io.get(name) else {
            return self.comparison.absent(name);
        };
        let packed = case.packed(&golden.transpose(1, 2).unwrap().contiguous().unwrap());
        let ours = ours.reshape(packed.dims()).unwrap();
        self.check_with(name, &ours, &packed);
    }

    fn check_with(&mut self, name: &str, ours: &Tensor, golden: &Tensor) {
        let largest = golden.abs().unwrap().flatten_all().unwrap().max(0).unwrap();
        let stated = self.tolerances[name]["tol_rel"].as_f64().unwrap_or(SHARE);
        let share = self.place.share.unwrap_or(stated);
        let tolerance = share * f64::from(largest.to_scalar::<f32>().unwrap());
        let ours = ours.to_dtype(DType::F32).unwrap().contiguous().unwrap();
        self.comparison.close(name, &ours, golden, tolerance);
        self.compared.insert(name.to_owned());
    }

    /// Compares integers with a tensor that the folder may lack.
    pub(crate) fn equal(&mut self, name: &str, ours: &[i64]) {
        match self.numbers(name) {
            Some(golden) => {
                self.comparison.equal(name, &ours.to_vec(), &golden);
                self.compared.insert(name.to_owned());
            }
            None => self.comparison.absent(name),
        }
    }

    /// Returns the images of the file, each once.
    pub(crate) fn images(&self) -> Vec<Patches> {
        let images = (0..).map_while(|index| self.io.get(&format!("image.{index}.u8")));
        images
            .map(|samples| {
                let (_, height, width) = samples.dims3().unwrap();
                let bytes = samples.permute((1, 2, 0)).unwrap().flatten_all().unwrap();
                let (width, height) =
                    (u32::try_from(width).unwrap(), u32::try_from(height).unwrap());
                cut(&RgbImage::from_raw(width, height, bytes.to_vec1().unwrap()).unwrap())
            })
            .collect()
    }
}

/// A piece of a sequence.
#[derive(Debug, Clone)]
enum Piece {
    Text(Vec<u32>),
    /// The index of an image.
    Image(usize),
}

/// A batch of the file.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// The tokens of each sequence, without padding.
    tokens: Vec<Vec<u32>>,
    /// The images of each sequence.
    images: Vec<Vec<usize>>,
    /// For each place of the padded batch, true if it has a token.
    mask: Vec<bool>,
}

impl Case {
    fn read(golden: &Golden, name: &str) -> Self {
        let ids = &golden.io[&format!("{name}.input_ids")];
        let (batch, length) = ids.dims2().unwrap();
        let ids: Vec<i64> = ids.flatten_all().unwrap().to_vec1().unwrap();
        let mask = golden.numbers(&format!("{name}.attention_mask"));
        let mask = mask.unwrap_or_else(|| vec![1; ids.len()]);
        let mask: Vec<bool> = mask.into_iter().map(|bit| bit == 1).collect();
        let tokens = ids.chunks(length).zip(mask.chunks(length)).map(|(ids, mask)| {
            let real = ids.iter().zip(mask).filter(|(_, is_token)| **is_token);
            real.map(|(id, _)| u32::try_from(*id).unwrap()).collect()
        });
        // The right-padded batch is the left-padded one.
        let source = if name == "pair_right" { "pair" } else { name };
        let indices = golden.numbers(&format!("{source}.image_index")).unwrap_or_default();
        let rows = golden.numbers(&format!("{source}.image_row"));
        let rows = rows.unwrap_or_else(|| vec![0; indices.len()]);
        let mut images = vec![Vec::new(); batch];
        for (row, index) in rows.into_iter().zip(indices) {
            images[usize::try_from(row).unwrap()].push(usize::try_from(index).unwrap());
        }
        Self { name: name.to_owned(), tokens: tokens.collect(), images, mask }
    }

    /// Selects the tokens of a padded tensor `(batch, tokens, …)`.
    fn packed(&self, padded: &Tensor) -> Tensor {
        let real = (0_u32..).zip(&self.mask).filter(|(_, is_token)| **is_token);
        let real: Vec<u32> = real.map(|(index, _)| index).collect();
        let flat = padded.flatten(0, 1).unwrap();
        flat.index_select(&Tensor::new(real, &Device::Cpu).unwrap(), 0).unwrap()
    }

    /// Splits the tokens of one sequence from `first` to `end` at its images.
    fn pieces(
        &self,
        sequence: usize,
        (first, end): (usize, usize),
        image_token: u32,
    ) -> Vec<Piece> {
        let tokens = &self.tokens[sequence];
        let mut images = self.images[sequence].iter();
        let (mut pieces, mut index) = (Vec::new(), 0);
        for run in tokens.chunk_by(|one, other| (*one == image_token) == (*other == image_token)) {
            let is_image = run[0] == image_token;
            let image = is_image.then(|| *images.next().unwrap());
            let (from, to) = (index.max(first), (index + run.len()).min(end));
            if from < to {
                pieces.push(match image {
                    Some(image) => {
                        assert_eq!(to - from, run.len(), "an image is not split");
                        Piece::Image(image)
                    }
                    None => Piece::Text(tokens[from..to].to_vec()),
                });
            }
            index += run.len();
        }
        pieces
    }

    pub(crate) fn sequences(&self) -> usize {
        self.tokens.len()
    }
}

/// Reads the cases of the file.
pub(crate) fn cases(golden: &Golden) -> Vec<Case> {
    let names = golden.io.keys().filter_map(|name| name.strip_suffix(".input_ids"));
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    assert!(!names.is_empty(), "there are cases");
    names.into_iter().map(|name| Case::read(golden, name)).collect()
}

/// Sequences whose parts are embedded.
pub(crate) struct Embedded<'a> {
    /// For each sequence and piece, its embedded text, or the index of its image.
    pieces: Vec<Vec<(Option<Tensor>, usize)>>,
    images: &'a [EncodedImage],
}

impl<'a> Embedded<'a> {
    /// Embeds the tokens `first..end` of some sequences of a case.
    pub(crate) fn new(
        golden: &Golden,
        case: &Case,
        sequences: &[usize],
        range: (usize, usize),
        images: &'a [EncodedImage],
    ) -> Self {
        let token = golden.model.config().image_token_id;
        let embed = |piece| match piece {
            Piece::Text(ids) => (Some(golden.model.decoder().embed(&ids).unwrap()), 0),
            Piece::Image(index) => (None, index),
        };
        let of_sequence = |&sequence: &usize| {
            case.pieces(sequence, range, token).into_iter().map(embed).collect()
        };
        Self { pieces: sequences.iter().map(of_sequence).collect(), images }
    }

    pub(crate) fn parts(&self) -> Vec<Vec<Part<'_>>> {
        let part = |(text, image): &'_ (Option<Tensor>, usize)| match text {
            Some(_) => None,
            None => Some(*image),
        };
        self.pieces
            .iter()
            .map(|pieces| {
                let parts = pieces.iter().map(|piece| match part(piece) {
                    Some(image) => Part::Image(&self.images[image]),
                    None => Part::Text(piece.0.as_ref().unwrap()),
                });
                parts.collect()
            })
            .collect()
    }
}

pub(crate) const WHOLE: (usize, usize) = (0, usize::MAX);

fn check_case(golden: &mut Golden, case: &Case, images: &[EncodedImage]) {
    let model = golden.model.clone();
    let decoder = model.decoder();
    let all: Vec<usize> = (0..case.sequences()).collect();
    let embedded = Embedded::new(golden, case, &all, WHOLE, images);
    let mut states = vec![decoder.empty_state(); all.len()];
    let inputs = model.inputs(&embedded.parts(), &states).unwrap();
    golden.check_rows(&format!("{}.embeds", case.name), &inputs.rows, case);
    check_positions(golden, case, &inputs.positions, &inputs.next);
    let tables = decoder.tables(&inputs.positions, &states).unwrap();
    for (part, table) in [("cos", tables.angles().tables().0), ("sin", tables.angles().tables().1)]
    {
        let twice = Tensor::cat(&[table, table], 1).unwrap();
        golden.check_rows(&format!("{}.rope.{part}", case.name), &twice, case);
    }
    let mut rows = vec![inputs.rows.clone()];
    let before = states.clone();
    let last = decoder.run(inputs.rows.clone(), &tables, &mut states, |xs| {
        rows.push(xs.clone());
        Ok(())
    });
    for (index, layer) in decoder.layers().iter().enumerate() {
        check_layer(golden, case, (layer, index), &rows[index], (&tables, &before));
        let name = format!("{}.layer.{index}.out", case.name);
        golden.check_rows(&name, &rows[index + 1], case);
    }
    let normed = decoder.norm().forward(&last.unwrap()).unwrap();
    golden.check_rows(&format!("{}.final_norm", case.name), &normed, case);
    let logits = logits(golden, &normed);
    golden.check_rows(&format!("{}.logits", case.name), &logits, case);
}

/// Returns the logits of the whole vocabulary.
fn logits(golden: &Golden, normed: &Tensor) -> Tensor {
    let count = u32::try_from(golden.model.config().text_config.vocab_size).unwrap();
    let vocabulary: Vec<u32> = (0..count).collect();
    let head = LevelHead::new(golden.model.decoder(), &vocabulary).unwrap();
    let logits = head.logits(normed).unwrap();
    let (rows, flat) = (logits.len(), logits.concat());
    Tensor::from_vec(flat, (rows, count as usize), &Device::Cpu).unwrap()
}

/// Returns an index or a number of rows as the files store it.
pub(crate) fn integer(value: usize) -> i64 {
    i64::try_from(value).unwrap()
}

fn check_positions(golden: &mut Golden, case: &Case, positions: &[Vec<[u32; 3]>], next: &[u32]) {
    let all = positions.concat();
    let mut ours = Vec::new();
    for axis in 0..3 {
        let mut rest = all.iter();
        let place = |is_token: &bool| {
            if *is_token { i64::from(rest.next().unwrap()[axis]) } else { 0 }
        };
        ours.extend(case.mask.iter().map(place).collect::<Vec<_>>());
    }
    golden.equal(&format!("{}.position_ids", case.name), &ours);
    let deltas = next.iter().zip(positions);
    let deltas: Vec<i64> =
        deltas.map(|(next, positions)| i64::from(*next) - integer(positions.len())).collect();
    golden.equal(&format!("{}.rope_delta", case.name), &deltas);
}

/// Compares the logits of the levels, their probabilities and the score, as a rating computes them.
fn check_levels(golden: &mut Golden, case: &Case, images: &[EncodedImage]) {
    let all: Vec<usize> = (0..case.sequences()).collect();
    let hidden = read(golden, case, &all, images);
    let Some(ids) = golden.numbers("level_ids") else {
        return golden.comparison.absent("level_ids");
    };
    let ids: Vec<u32> = ids.into_iter().map(|id| u32::try_from(id).unwrap()).collect();
    let head = LevelHead::new(golden.model.decoder(), &ids).unwrap();
    let logits = head.logits(&hidden).unwrap();
    let shares = logits.iter().map(|logits| {
        // The file's levels are best first.
        let worst_first: Vec<f64> = logits.iter().rev().copied().collect();
        probabilities(&worst_first.try_into().unwrap()).unwrap()
    });
    let shares: Vec<[f64; 5]> = shares.collect();
    let scores: Vec<f64> = shares.iter().map(score).collect();
    let best_first: Vec<f64> =
        shares.iter().flat_map(|shares| shares.iter().rev().copied().collect::<Vec<_>>()).collect();
    let count = all.len();
    let tensor =
        |values: Vec<f64>, shape: &[usize]| Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
    golden.check(&format!("{}.level_logits", case.name), &tensor(logits.concat(), &[count, 5]));
    golden.check(&format!("{}.level_probs", case.name), &tensor(best_first, &[count, 5]));
    golden.check(&format!("{}.score", case.name), &tensor(scores, &[count]));
}

/// Reads some sequences of a case, and returns their last tokens after the last norm.
pub(crate) fn read(
    golden: &Golden,
    case: &Case,
    sequences: &[usize],
    images: &[EncodedImage],
) -> Tensor {
    let embedded = Embedded::new(golden, case, sequences, WHOLE, images);
    let mut states = vec![golden.model.decoder().empty_state(); sequences.len()];
    golden.model.read(&embedded.parts(), &mut states).unwrap()
}

/// Compares the states after the first tokens of `one`, and what continues from them.
fn check_prefixes(golden: &mut Golden, images: &[EncodedImage]) {
    let Some(case) = cases(golden).into_iter().find(|case| case.name == "one") else { return };
    let prefixes: BTreeSet<usize> = golden
        .io
        .keys()
        .filter_map(|name| name.strip_prefix("prefix")?.split('.').next()?.parse().ok())
        .collect();
    for tokens in prefixes {
        let mut states = vec![golden.model.decoder().empty_state()];
        run_part(golden, &case, (0, tokens), images, &mut states);
        check_state(golden, tokens, &states[0]);
        let rows = run_part(golden, &case, (tokens, usize::MAX), images, &mut states);
        let normed = golden.model.decoder().norm().forward(&rows).unwrap();
        let logits = logits(golden, &normed).unsqueeze(0).unwrap();
        let rows = rows.unsqueeze(0).unwrap();
        golden.check(&format!("prefix{tokens}.suffix.layer_last.out"), &rows);
        golden.check(&format!("prefix{tokens}.suffix.logits"), &logits);
    }
    let length = case.tokens[0].len();
    let mut states = vec![golden.model.decoder().empty_state()];
    run_part(golden, &case, (0, length - 3), images, &mut states);
    let steps: Vec<Tensor> = (length - 3..length)
        .map(|step| run_part(golden, &case, (step, step + 1), images, &mut states))
        .collect();
    let normed = golden.model.decoder().norm().forward(&Tensor::cat(&steps, 0).unwrap()).unwrap();
    let logits = logits(golden, &normed).unsqueeze(0).unwrap();
    golden.check("steps.logits", &logits);
}

/// Runs all layers on the tokens `first..end` of the first sequence, and updates its state.
pub(crate) fn run_part(
    golden: &Golden,
    case: &Case,
    range: (usize, usize),
    images: &[EncodedImage],
    states: &mut [State],
) -> Tensor {
    let embedded = Embedded::new(golden, case, &[0], range, images);
    golden.model.read_all(&embedded.parts(), states).unwrap()
}

fn check_state(golden: &mut Golden, tokens: usize, state: &State) {
    let model = golden.model.clone();
    for layer in 0..model.decoder().layers().len() {
        let name = |part: &str| format!("prefix{tokens}.state.{layer}.{part}");
        match state.layer(layer) {
            LayerState::Linear { history, memory } => {
                golden.check(&name("recurrent"), &memory.unsqueeze(0).unwrap());
                // The file has the last four inputs; only three matter.
                let golden_inputs = golden.io.get(&name("conv")).cloned();
                match golden_inputs {
                    Some(inputs) => {
                        let last = inputs.narrow(2, 1, 3).unwrap().contiguous().unwrap();
                        let ours = history.t().unwrap().unsqueeze(0).unwrap();
                        golden.check_with(&name("conv"), &ours, &last);
                    }
                    None => golden.comparison.absent(&name("conv")),
                }
            }
            LayerState::Full(rows) => {
                let rows = rows.as_ref().unwrap();
                let heads = model.config().text_config.heads();
                let shape = (1, tokens, 2, heads.kv_heads, heads.head_dim);
                let by_head = rows.reshape(shape).unwrap().permute((2, 0, 3, 1, 4)).unwrap();
                golden.check(&name("k"), &by_head.get(0).unwrap());
                golden.check(&name("v"), &by_head.get(1).unwrap());
            }
        }
    }
}

/// Compares everything but the single operations.
fn check_network(golden: &mut Golden) {
    let images = golden.images();
    if !images.is_empty() {
        check_vision(golden, &images);
    }
    let images = golden.model.encode(&images).unwrap();
    for case in cases(golden) {
        check_case(golden, &case, &images);
        check_levels(golden, &case, &images);
    }
    check_prefixes(golden, &images);
}

/// Compares the network in a place with one golden folder.
pub(crate) fn compare(folder: &Path, part: &'static str, place: &Place) {
    let mut golden = Golden::open(folder, part, place);
    check_network(&mut golden);
    golden.comparison.finish(200);
}

/// Returns true for a tensor that is an input, or whose operation
/// `goldens_qwen3_5_vl_operations` compares.
fn is_compared_elsewhere(name: &str) -> bool {
    let inputs = ["input_ids", "attention_mask", "image_index", "image_row", "u8"];
    name.starts_with("unit.")
        || name.starts_with("level_")
        || inputs.contains(&name.rsplit('.').next().unwrap())
}

#[test]
fn every_stage_follows_the_reference() {
    for folder in all_folders() {
        let mut golden = Golden::open(&folder, "network", &Place::cpu());
        check_network(&mut golden);
        let left: Vec<&String> = golden
            .io
            .keys()
            .filter(|name| !is_compared_elsewhere(name) && !golden.compared.contains(*name))
            .collect();
        assert!(left.is_empty(), "{}: not compared: {left:?}", folder.display());
        let logits = golden.compared.iter().filter(|name| name.ends_with("logits")).count();
        assert!(logits > 0, "{}: no logits", folder.display());
        golden.comparison.finish(230);
    }
}

/// Half formats run the unfused operations, as a GPU does. The goldens' README has no tolerance for
/// them. These are about one and a half times the error in the repository's folder, as shares of
/// each tensor's largest value; that of the text of 150 tokens is the largest by far.
#[test]
fn half_formats_follow_the_reference_within_their_precision() {
    for folder in all_folders() {
        for (part, dtype, share) in [("f16", DType::F16, 0.08), ("bf16", DType::BF16, 0.4)] {
            compare(&folder, part, &Place::cpu_in(dtype, share));
        }
    }
}
