//! Single operations of Qwen3.5-VL at its real sizes, against the reference; and what must not
//! change a rating: other sequences of the batch, a split, the number of threads.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use dog_iqa::models::device::dry_run::{dry_run, placeholder, placeholder_weights};
use dog_iqa::models::layers::{DeltaHeads, Rotary, Sequences, delta_rule};
use dog_iqa::models::mplug_owl3::Tensors;
use dog_iqa::models::qwen3_5_vl::{
    Config, Grid, Part, Patches, Position, Qwen3_5Vl, Size, Taps, TokenTable, TokenTables,
    patch_angles, token_angles,
};

use crate::goldens::{Place, largest};
use crate::goldens_qwen3_5_vl::{
    Case, Embedded, Encoded, Golden, WHOLE, all_folders, cases_with, read, run_part,
};
use crate::goldens_qwen3_5_vl_stages::{check_angles, check_taps};

/// Divides each row by its length, and multiplies it with `scale`.
fn unit(xs: &Tensor, scale: f64) -> Tensor {
    let squares = xs.sqr().unwrap().sum_keepdim(candle_core::D::Minus1).unwrap();
    let length = (squares + 1e-6).unwrap().sqrt().unwrap();
    (xs.broadcast_div(&length).unwrap() * scale).unwrap()
}

fn check_delta(golden: &mut Golden) {
    let part = |name: &str| golden.io.get(&format!("unit.delta.{name}")).cloned();
    let inputs = ["q", "k", "v", "beta", "g", "initial_state"].map(part);
    let [Some(q), Some(k), Some(v), Some(beta), Some(g), Some(memory)] = inputs else {
        return golden.comparison.absent("unit.delta.out");
    };
    let (_, rows, key_heads, key_dim) = q.dims4().unwrap();
    let (_, _, value_heads, value_dim) = v.dims4().unwrap();
    let heads = DeltaHeads { key_heads, value_heads, key_dim, value_dim };
    let flat = |xs: &Tensor| xs.reshape((rows, ())).unwrap();
    let queries = flat(&unit(&q, (key_dim as f64).powf(-0.5)));
    let qkv = Tensor::cat(&[queries, flat(&unit(&k, 1.0)), flat(&v)], 1).unwrap();
    let gates = Tensor::cat(&[flat(&beta), flat(&g)], 1).unwrap();
    // A view with gaps takes the form in chunks, which is that of a device.
    let gaps = Tensor::cat(&[&qkv, &qkv], 1).unwrap().narrow(1, 0, heads.columns()).unwrap();
    let memories = [memory.squeeze(0).unwrap()];
    for qkv in [&qkv, &gaps] {
        let sequences = Sequences::new(vec![rows]);
        let (out, after) = delta_rule(qkv, &gates, &sequences, &memories, heads).unwrap();
        let out = out.reshape((1, rows, value_heads, value_dim)).unwrap();
        golden.check("unit.delta.out", &out);
        golden.check("unit.delta.state", &after[0].unsqueeze(0).unwrap());
    }
}

fn check_rotary(golden: &mut Golden) {
    if let Some(positions) = golden.numbers("unit.mrope.position_ids") {
        let count = positions.len() / 3;
        let at =
            |axis: usize, token: usize| u32::try_from(positions[axis * count + token]).unwrap();
        let tokens: Vec<Position> =
            (0..count).map(|token| [0, 1, 2].map(|axis| at(axis, token))).collect();
        let config = Config::of_size(Size::B0_8).text_config;
        let rotary = Rotary::partial(config.head_dim, config.rotated(), 1e7);
        let angles = token_angles(&tokens, rotary.frequencies(), [11, 11, 10]);
        let angles = rotary.of(&angles, DType::F32, &Device::Cpu).unwrap();
        let (cosines, sines) = angles.tables();
        for (part, table) in [("cos", cosines), ("sin", sines)] {
            let twice = Tensor::cat(&[table, table], 1).unwrap().unsqueeze(0).unwrap();
            golden.check(&format!("unit.mrope.{part}"), &twice);
        }
    }
    for head_dim in [64, 72] {
        let rotary = Rotary::partial(head_dim, head_dim / 2, 1e4);
        let angles = patch_angles(Grid { rows: 4, columns: 6 }, rotary.frequencies());
        let pairs = Rotary::new(head_dim, 1e4);
        let angles = pairs.of(&angles, DType::F32, &Device::Cpu).unwrap();
        check_angles(golden, &format!("unit.vision_rope{head_dim}"), angles.tables());
    }
}

/// Compares the taps of every grid that the file has, by the names of the tensors.
fn check_grids(golden: &mut Golden) {
    let grids = golden.io.keys().filter_map(|name| {
        let (rows, columns) =
            name.strip_prefix("unit.pos48.")?.strip_suffix(".indices")?.split_once('x')?;
        Some(Grid { rows: rows.parse().ok()?, columns: columns.parse().ok()? })
    });
    for grid in grids.collect::<Vec<_>>() {
        let name = |part: &str| format!("unit.pos48.{}x{}.{part}", grid.rows, grid.columns);
        check_taps(golden, &name("indices"), &name("weights"), &[Taps::new(grid, 48)]);
    }
}

#[test]
fn single_operations_at_real_sizes_follow_the_reference() {
    for folder in all_folders() {
        let mut golden = Golden::open(&folder, "operations", &Place::cpu());
        check_delta(&mut golden);
        check_rotary(&mut golden);
        check_grids(&mut golden);
        golden.comparison.finish_if_any(14);
    }
}

/// Opens a folder in a dtype, and encodes its images.
fn open_in(folder: &Path, dtype: DType) -> (Golden, Encoded) {
    let place = Place { dtype, ..Place::cpu() };
    let golden = Golden::open(folder, "batches", &place);
    let images = golden.encode(&golden.images());
    (golden, images)
}

/// Opens each folder, and encodes its images.
fn opened() -> Vec<(Golden, Encoded)> {
    all_folders().iter().map(|folder| open_in(folder, DType::F32)).collect()
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
    values.to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

/// Reads one sequence after the other.
fn alone(golden: &Golden, case: &Case, images: &Encoded) -> Vec<Tensor> {
    (0..case.sequences()).map(|sequence| read(golden, case, &[sequence], images)).collect()
}

/// Reads every sequence of the cases in one batch, forwards and backwards. Returns the results in
/// the batch, each with that of the sequence alone.
fn batched(golden: &Golden, images: &Encoded, cases: &[Case]) -> Vec<(Tensor, Tensor)> {
    let mut pairs = Vec::new();
    let alone: Vec<Tensor> = cases.iter().flat_map(|case| alone(golden, case, images)).collect();
    let sequences: Vec<(&Case, usize)> = cases
        .iter()
        .flat_map(|case| (0..case.sequences()).map(move |sequence| (case, sequence)))
        .collect();
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    assert!(order.len() > 2 || golden.comparison.is_foreign(), "a batch has several sequences");
    for _ in 0..2 {
        let embedded: Vec<Embedded<'_>> = order
            .iter()
            .map(|&index| {
                let (case, sequence) = sequences[index];
                Embedded::new(golden, case, &[sequence], WHOLE, images)
            })
            .collect();
        let parts: Vec<Vec<Part<'_>>> =
            embedded.iter().flat_map(|embedded| embedded.parts()).collect();
        let mut states = vec![golden.model.decoder().empty_state(); parts.len()];
        let together = golden.model.read(&parts, &mut states).unwrap();
        for (row, &index) in order.iter().enumerate() {
            pairs.push((together.narrow(0, row, 1).unwrap(), alone[index].clone()));
        }
        order.reverse();
    }
    pairs
}

#[test]
fn a_batch_of_n_has_the_bits_of_n_batches_of_one_in_any_order() {
    for (golden, images) in opened() {
        let cases = cases_with(&golden, &images);
        if cases.is_empty() {
            continue;
        }
        for (index, (ours, alone)) in batched(&golden, &images, &cases).iter().enumerate() {
            assert!(bits(ours) == bits(alone), "result {index} has other bits");
        }
    }
}

/// In a half format, a product sums in an order that depends on its number of rows. The rest is
/// equal, so the error is a few roundings.
#[test]
fn a_batch_of_n_is_n_batches_of_one_up_to_rounding_in_half_formats() {
    let folder = &all_folders()[0];
    for (dtype, share_max) in [(DType::BF16, 0.008), (DType::F16, 0.001)] {
        let (golden, images) = open_in(folder, dtype);
        let mut cases = cases_with(&golden, &images);
        cases.retain(|case| ["one", "two", "pair"].contains(&case.name.as_str()));
        let pairs = batched(&golden, &images, &cases);
        let shares: Vec<f64> = pairs
            .iter()
            .map(|(ours, alone)| largest(&(ours - alone).unwrap()) / largest(alone))
            .collect();
        println!("{dtype:?}: {shares:?}");
        assert!(shares.iter().all(|share| *share <= share_max), "{dtype:?}: {shares:?}");
    }
}

#[test]
fn an_image_has_the_same_tokens_in_any_batch() {
    for (golden, images) in opened() {
        let patches = golden.images();
        for (number, image) in &patches {
            let alone = golden.model.encode(std::slice::from_ref(image)).unwrap();
            assert!(bits(&alone[0].tokens) == bits(&images[number].tokens), "image {number}");
        }
        let backwards: Vec<Patches> = patches.values().rev().cloned().collect();
        let backwards = golden.model.encode(&backwards).unwrap();
        for (one, other) in backwards.iter().rev().zip(images.values()) {
            assert!(bits(&one.tokens) == bits(&other.tokens));
        }
    }
}

/// Two questions about one image share what comes before them.
#[test]
fn questions_that_share_an_image_have_the_ratings_of_whole_prompts() {
    for (golden, images) in opened() {
        let token = golden.model.config().image_token_id;
        let splits = cases_with(&golden, &images).into_iter().filter_map(|case| {
            let behind = *case.image_ends(0, token).last()?;
            // The shorter question needs a token.
            (behind + 2 <= case.length(0)).then_some((case, behind))
        });
        let Some((case, behind)) = splits.min_by_key(|(case, _)| case.name != "one") else {
            assert!(golden.comparison.is_foreign(), "a prompt with an image");
            continue;
        };
        let whole = read(&golden, &case, &[0], &images);
        let mut prefix = vec![golden.model.decoder().empty_state()];
        run_part(&golden, &case, (0, behind), &images, &mut prefix);
        let rest = Embedded::new(&golden, &case, &[0], (behind, usize::MAX), &images);
        let shorter = (behind, case.length(0) - 1);
        let other = Embedded::new(&golden, &case, &[0], shorter, &images);
        let parts = [other.parts(), rest.parts(), rest.parts()].concat();
        let mut states = vec![prefix[0].clone(); 3];
        let hidden = golden.model.read(&parts, &mut states).unwrap();
        let [second, third] = [1, 2].map(|row| hidden.narrow(0, row, 1).unwrap());
        assert!(bits(&second) == bits(&third), "equal questions, equal answers");
        let apart = (second - &whole).unwrap().abs().unwrap().flatten_all().unwrap();
        let largest = whole.abs().unwrap().flatten_all().unwrap().max(0).unwrap();
        let (apart, largest) = (
            apart.max(0).unwrap().to_scalar::<f32>().unwrap(),
            largest.to_scalar::<f32>().unwrap(),
        );
        assert!(apart <= 4e-5 * largest, "{apart} of {largest}");
        assert_ne!(states[0].tokens(), states[1].tokens());
        assert_eq!(states[1].tokens(), states[2].tokens());
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for (golden, images) in opened() {
        for case in cases_with(&golden, &images) {
            let expected = bits(&read(&golden, &case, &[0], &images));
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let ours = pool.install(|| bits(&read(&golden, &case, &[0], &images)));
                assert!(ours == expected, "{}: other bits with {threads} threads", case.name);
            }
        }
    }
}

#[test]
fn a_sequence_without_a_token_is_an_error() {
    for (golden, _) in opened() {
        let mut states = vec![golden.model.decoder().empty_state()];
        let error = golden.model.read(&[Vec::new()], &mut states).unwrap_err();
        assert!(error.to_string().contains("no token"), "{error}");
    }
}

/// Every operation of the published networks takes part in a dry run.
#[test]
fn the_published_networks_run_dry() {
    for size in Size::ALL {
        let config = Config::of_size(size);
        let (hidden, vocabulary) = (config.text_config.hidden_size, config.text_config.vocab_size);
        let run = || -> candle_core::Result<()> {
            let table = TokenTable::of_tensor(placeholder((vocabulary, hidden), DType::BF16)?);
            let tables = TokenTables { embedding: table.clone(), head: table };
            let tensors = Tensors::new(placeholder_weights(DType::BF16), None);
            let model = Qwen3_5Vl::new(&config, &tensors, tables)?;
            let grid = Grid { rows: 24, columns: 32 };
            let patches = Patches { samples: placeholder((grid.len(), 768), DType::U8)?, grid };
            let images = model.encode(&[patches.clone(), patches])?;
            let text = model.decoder().embed(&[1, 2, 3])?;
            let parts = |image| vec![Part::Text(&text), Part::Image(image), Part::Text(&text)];
            let mut states = vec![model.decoder().empty_state(); 2];
            let hidden_states = model.read(&[parts(&images[0]), parts(&images[1])], &mut states)?;
            assert_eq!(hidden_states.dims(), [2, hidden]);
            Ok(())
        };
        let (result, launches) = dry_run(|_, _| 0.0, run);
        result.unwrap();
        assert!(launches.len() > 100, "{} launches", launches.len());
    }
}
