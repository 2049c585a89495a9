//! Qwen3.5-VL against tensors of the reference implementation, stage by stage, for every golden
//! folder. A folder may lack tensors: those that are there are compared and counted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use dog_iqa::checkpoints::Qwen3_5VlCheckpoint;
use dog_iqa::models::qwen3_5_vl::{
    EncodedImage, LayerState, LevelHead, Part, Patches, Qwen3_5Vl, State, cut, probabilities, score,
};
use image::RgbImage;
use serde_json::Value;

use crate::golden_folders::{Suite, folders, goldens};
use crate::goldens::{Comparison, Place, json, largest, tensors};
use crate::goldens_qwen3_5_vl_stages::{check_image, check_layer, check_vision};

/// Tolerance of a tensor that `tolerance.json` does not name, as a share of its largest value.
const SHARE: f64 = 2e-5;
/// The same in a folder of `DOGIQA_GOLDENS`, which may lack tolerances: the largest of our folder.
const SHARE_FOREIGN: f64 = 2e-4;
/// Tolerance of a score of a half format in a folder of `DOGIQA_GOLDENS`.
const SCORE_OF_HALF: f64 = 0.05;

/// Returns every golden folder of the network.
pub(crate) fn all_folders() -> Vec<PathBuf> {
    folders(Suite::Qwen3_5Vl, &["qwen3_5_vl"])
}

/// Encoded images by their numbers in the file.
pub(crate) type Encoded = BTreeMap<usize, EncodedImage>;

/// One golden folder, opened.
pub(crate) struct Golden {
    pub(crate) io: HashMap<String, Tensor>,
    tolerances: Value,
    pub(crate) comparison: Comparison,
    pub(crate) model: Qwen3_5Vl,
    place: Place,
}

impl Golden {
    pub(crate) fn open(folder: &Path, part: &'static str, place: &Place) -> Self {
        let checkpoint = Qwen3_5VlCheckpoint::open(folder).unwrap();
        Self {
            io: tensors(&folder.join("io.safetensors")),
            tolerances: tolerances(folder),
            comparison: Comparison::at(place, folder, part),
            model: checkpoint.load(place.dtype, &place.device).unwrap(),
            place: place.clone(),
        }
    }

    pub(crate) fn numbers(&self, name: &str) -> Option<Vec<i64>> {
        let tensor = self.io.get(name)?.to_dtype(DType::I64).unwrap();
        Some(tensor.flatten_all().unwrap().to_vec1().unwrap())
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
        let ours = ours.to_dtype(DType::F32).unwrap().contiguous().unwrap();
        let is_foreign = self.comparison.is_foreign();
        let share = match self.place.share {
            Some(share) => share,
            // Rounding of a half format differs between networks far more than ours from theirs.
            None if self.place.is_half() && is_foreign => {
                if name.ends_with("score") {
                    return self.comparison.close(name, &ours, golden, SCORE_OF_HALF);
                }
                return self.comparison.measure(name, &ours, golden);
            }
            None if self.place.is_half() => share_of_half(name, self.place.dtype),
            None => {
                let default = if is_foreign { SHARE_FOREIGN } else { SHARE };
                self.tolerances[name]["tol_rel"].as_f64().unwrap_or(default)
            }
        };
        self.comparison.close(name, &ours, golden, share * largest(golden));
    }

    /// Compares integers with a tensor that the folder may lack.
    pub(crate) fn equal(&mut self, name: &str, ours: &[i64]) {
        match self.numbers(name) {
            Some(golden) => {
                self.comparison.equal(name, &ours.to_vec(), &golden);
            }
            None => self.comparison.absent(name),
        }
    }

    /// Returns the images of the file by their numbers. A folder may lack some.
    pub(crate) fn images(&self) -> BTreeMap<usize, Patches> {
        let cut_image = |(name, samples): (&String, &Tensor)| {
            let number = name.strip_prefix("image.")?.strip_suffix(".u8")?.parse().ok()?;
            let (_, height, width) = samples.dims3().unwrap();
            let bytes = samples.permute((1, 2, 0)).unwrap().flatten_all().unwrap();
            let (width, height) = (u32::try_from(width).unwrap(), u32::try_from(height).unwrap());
            let image = RgbImage::from_raw(width, height, bytes.to_vec1().unwrap()).unwrap();
            Some((number, cut(&image)))
        };
        self.io.iter().filter_map(cut_image).collect()
    }

    pub(crate) fn encode(&self, images: &BTreeMap<usize, Patches>) -> Encoded {
        let all: Vec<Patches> = images.values().cloned().collect();
        images.keys().copied().zip(self.model.encode(&all).unwrap()).collect()
    }

    /// Returns the number of images that the tensors of the file name.
    fn images_named(&self) -> usize {
        let of_name = |name: &String| name.strip_prefix("image.")?.split('.').next()?.parse().ok();
        let named = self.io.keys().filter_map(of_name);
        let indices = self.io.keys().filter(|name| name.ends_with(".image_index"));
        let indices = indices.flat_map(|name| self.numbers(name).unwrap());
        let indices = indices.map(|index| usize::try_from(index).unwrap());
        named.chain(indices).max().map_or(0, |last: usize| last + 1)
    }
}

/// Returns the tolerance of a half format in the repository's folder: about one and a half times
/// our error, as a share of the tensor's largest value. The goldens' README has none. The text of
/// 150 tokens is the least exact by far.
fn share_of_half(name: &str, dtype: DType) -> f64 {
    let has = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    let residual = [".out", "norm", "mixer_out", "logits", "level_probs", ".recurrent", ".k"];
    let (bf16, f16) = match name {
        _ if name.starts_with("vision.") || has(&[".embeds", ".cos", ".sin"]) => (0.02, 0.002),
        _ if name.starts_with("text.") && has(&[".out", "norm", ".logits"]) => (0.42, 0.02),
        _ if has(&residual) => (0.24, 0.045),
        _ => (0.12, 0.03),
    };
    if dtype == DType::BF16 { bf16 } else { f16 }
}

/// Reads the tolerances of a folder. Without a file there are none.
fn tolerances(folder: &Path) -> Value {
    let path = folder.join("tolerance.json");
    if path.exists() { json(&path)["tensors"].take() } else { Value::Null }
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
        let ids: Vec<i64> = golden.numbers(&format!("{name}.input_ids")).unwrap();
        let mask = golden.numbers(&format!("{name}.attention_mask"));
        let mask = mask.unwrap_or_else(|| vec![1; ids.len()]);
        let mask: Vec<bool> = mask.into_iter().map(|bit| bit == 1).collect();
        let tokens = ids.chunks(length).zip(mask.chunks(length)).map(|(ids, mask)| {
            let real = ids.iter().zip(mask).filter(|(_, is_token)| **is_token);
            real.map(|(id, _)| u32::try_from(*id).unwrap()).collect()
        });
        // A right-padded batch is the left-padded one.
        let source = name.trim_end_matches("_right");
        let numbers = |part: &str| {
            let own = golden.numbers(&format!("{name}.{part}"));
            own.or_else(|| golden.numbers(&format!("{source}.{part}")))
        };
        let indices = numbers("image_index").unwrap_or_default();
        let rows = numbers("image_row").unwrap_or_else(|| vec![0; indices.len()]);
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

    /// Returns the ends of the runs of image tokens of a sequence.
    pub(crate) fn image_ends(&self, sequence: usize, image_token: u32) -> Vec<usize> {
        let tokens = &self.tokens[sequence];
        let is_end = |index: &usize| {
            tokens[index - 1] == image_token && tokens.get(*index) != Some(&image_token)
        };
        (1..=tokens.len()).filter(is_end).collect()
    }

    /// Returns the number of tokens of a sequence.
    pub(crate) fn length(&self, sequence: usize) -> usize {
        self.tokens[sequence].len()
    }

    /// True if every image of the case is in the file.
    fn has_its_images(&self, images: &Encoded, image_token: u32) -> bool {
        (0..self.sequences()).all(|sequence| {
            let indices = &self.images[sequence];
            self.image_ends(sequence, image_token).len() == indices.len()
                && indices.iter().all(|index| images.contains_key(index))
        })
    }

    /// True if a split behind `tokens` tokens does not cut an image.
    fn can_split(&self, tokens: usize, image_token: u32) -> bool {
        let row = &self.tokens[0];
        let is_image = |index: usize| row.get(index) == Some(&image_token);
        (1..row.len()).contains(&tokens) && !(is_image(tokens - 1) && is_image(tokens))
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

/// Returns the cases whose images are in the file.
pub(crate) fn cases_with(golden: &Golden, images: &Encoded) -> Vec<Case> {
    let token = golden.model.config().image_token_id;
    cases(golden).into_iter().filter(|case| case.has_its_images(images, token)).collect()
}

/// Sequences whose parts are embedded.
pub(crate) struct Embedded<'a> {
    /// For each sequence and piece, its embedded text, or the index of its image.
    pieces: Vec<Vec<(Option<Tensor>, usize)>>,
    images: &'a Encoded,
}

impl<'a> Embedded<'a> {
    /// Embeds the tokens `first..end` of some sequences of a case.
    pub(crate) fn new(
        golden: &Golden,
        case: &Case,
        sequences: &[usize],
        range: (usize, usize),
        images: &'a Encoded,
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
                    Some(image) => Part::Image(&self.images[&image]),
                    None => Part::Text(piece.0.as_ref().unwrap()),
                });
                parts.collect()
            })
            .collect()
    }
}

pub(crate) const WHOLE: (usize, usize) = (0, usize::MAX);

fn check_case(golden: &mut Golden, case: &Case, images: &Encoded) {
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

/// For each sequence, the logits of the levels, best first, and their probabilities, worst first.
type Rated = (Vec<Vec<f64>>, Vec<[f64; 5]>);

/// Computes the logits of the levels and their probabilities, as a rating does.
fn level_shares(golden: &Golden, case: &Case, images: &Encoded) -> Option<Rated> {
    let all: Vec<usize> = (0..case.sequences()).collect();
    let hidden = read(golden, case, &all, images);
    let ids = golden.numbers("level_ids")?;
    let ids: Vec<u32> = ids.into_iter().map(|id| u32::try_from(id).unwrap()).collect();
    let head = LevelHead::new(golden.model.decoder(), &ids).unwrap();
    let logits = head.logits(&hidden).unwrap();
    let shares = logits.iter().map(|logits| {
        // The file's levels are best first.
        let worst_first: Vec<f64> = logits.iter().rev().copied().collect();
        probabilities(&worst_first.try_into().unwrap()).unwrap()
    });
    let shares = shares.collect();
    Some((logits, shares))
}

/// Compares the logits of the levels, their probabilities and the score.
fn check_levels(golden: &mut Golden, case: &Case, images: &Encoded) {
    let Some((logits, shares)) = level_shares(golden, case, images) else {
        return golden.comparison.absent("level_ids");
    };
    let scores: Vec<f64> = shares.iter().map(score).collect();
    let best_first: Vec<f64> =
        shares.iter().flat_map(|shares| shares.iter().rev().copied().collect::<Vec<_>>()).collect();
    let count = case.sequences();
    let tensor =
        |values: Vec<f64>, shape: &[usize]| Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
    golden.check(&format!("{}.level_logits", case.name), &tensor(logits.concat(), &[count, 5]));
    golden.check(&format!("{}.level_probs", case.name), &tensor(best_first, &[count, 5]));
    golden.check(&format!("{}.score", case.name), &tensor(scores, &[count]));
}

/// Reads some sequences of a case, and returns their last tokens after the last norm.
pub(crate) fn read(golden: &Golden, case: &Case, sequences: &[usize], images: &Encoded) -> Tensor {
    let embedded = Embedded::new(golden, case, sequences, WHOLE, images);
    let mut states = vec![golden.model.decoder().empty_state(); sequences.len()];
    golden.model.read(&embedded.parts(), &mut states).unwrap()
}

/// Compares the states after the first tokens of `one`, and what continues from them.
fn check_prefixes(golden: &mut Golden, images: &Encoded) {
    let case = cases_with(golden, images).into_iter().find(|case| case.name == "one");
    let Some(case) = case else { return golden.comparison.absent("one.input_ids") };
    let token = golden.model.config().image_token_id;
    let prefixes: BTreeSet<usize> = golden
        .io
        .keys()
        .filter_map(|name| name.strip_prefix("prefix")?.split('.').next()?.parse().ok())
        .collect();
    for tokens in prefixes {
        if !case.can_split(tokens, token) {
            golden.comparison.absent(&format!("prefix{tokens} of this prompt"));
            continue;
        }
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
    let Some(steps) = golden.io.get("steps.logits") else {
        return golden.comparison.absent("steps.logits");
    };
    let length = case.length(0);
    let first = length - steps.dim(1).unwrap();
    let mut states = vec![golden.model.decoder().empty_state()];
    run_part(golden, &case, (0, first), images, &mut states);
    let steps: Vec<Tensor> = (first..length)
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
    images: &Encoded,
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
                        let first = inputs.dim(2).unwrap() - 3;
                        let last = inputs.narrow(2, first, 3).unwrap().contiguous().unwrap();
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
    let is_complete = images.keys().copied().eq(0..golden.images_named());
    if is_complete && !images.is_empty() {
        check_vision(golden, &images.values().cloned().collect::<Vec<_>>());
    } else {
        // The tower's tensors are those of all images, one after the other.
        golden.comparison.absent("an image, for the tower's tensors");
    }
    for (number, image) in &images {
        check_image(golden, *number, image);
    }
    let images = golden.encode(&images);
    let (all, complete) = (cases(golden), cases_with(golden, &images));
    for case in all.iter().filter(|case| complete.iter().all(|other| other.name != case.name)) {
        golden.comparison.absent(&format!("an image of `{}`", case.name));
    }
    for case in complete {
        check_case(golden, &case, &images);
        check_levels(golden, &case, &images);
    }
    check_prefixes(golden, &images);
    golden.comparison.require_one(&["logits", ".score", ".level_probs"]);
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

/// Compares the network in single precision with one golden folder, and looks for tensors that
/// were not compared.
pub(crate) fn compare_all(folder: &Path, at_least: usize) {
    let mut golden = Golden::open(folder, "network", &Place::cpu());
    check_network(&mut golden);
    golden.comparison.leave_none(&golden.io, is_compared_elsewhere);
    golden.comparison.finish(at_least);
}

#[test]
fn every_stage_follows_the_reference() {
    for folder in all_folders() {
        compare_all(&folder, 230);
    }
}

/// The heads of 72 of the larger networks, tied tables in bf16, three value heads to a key head,
/// and the odd names of the shards of Qwen3.5 on the Hub.
#[test]
fn a_network_of_another_shape_in_shards_follows_the_reference() {
    compare_all(&goldens().join("qwen3_5_vl_shards"), 32);
}

/// Half formats run the unfused operations, as a GPU does. In folders of `DOGIQA_GOLDENS` only the
/// scores have a bound.
#[test]
fn half_formats_follow_the_reference_within_their_precision() {
    for folder in all_folders() {
        for (part, dtype) in [("f16", DType::F16), ("bf16", DType::BF16)] {
            compare(&folder, part, &Place::cpu_half(dtype));
        }
    }
}

/// Scores of the reference in bf16, from the README of the goldens.
const SCORES_IN_BF16: [(&str, f64); 4] =
    [("one", 0.4395), ("long", 0.4961), ("two", 0.6953), ("text", 0.4668)];

#[test]
fn scores_in_bf16_are_those_of_the_reference_in_bf16() {
    let folder = &all_folders()[0];
    let mut golden = Golden::open(folder, "scores in bf16", &Place::cpu_half(DType::BF16));
    let images = golden.encode(&golden.images());
    let cases = cases_with(&golden, &images);
    for (name, expected) in SCORES_IN_BF16 {
        let case = cases.iter().find(|case| case.name == name).unwrap();
        let ours = score(&level_shares(&golden, case, &images).unwrap().1[0]);
        golden.comparison.close_by(name, (ours - expected).abs(), 0.04);
    }
    golden.comparison.finish(4);
}
