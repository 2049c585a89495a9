//! The stages inside the vision tower and the decoder's layers, against the reference's tensors.

use candle_core::{Device, Tensor};
use dog_iqa::models::layers::{Sequences, add_residual, delta_rule};
use dog_iqa::models::qwen3_5_vl::{
    Attention, DecoderLayer, DeltaNet, Grid, LayerState, Merger, Mixer, Patches, RunTables, State,
    Taps, VisionModel, VisionTables, normalise,
};

use crate::goldens_qwen3_5_vl::{Case, Golden, integer};

/// Compares the patches of an image.
pub(crate) fn check_image(golden: &mut Golden, number: usize, image: &Patches) {
    let (rows, columns) = (integer(image.grid.rows), integer(image.grid.columns));
    golden.equal(&format!("image.{number}.grid_thw"), &[1, rows, columns]);
    // The reference repeats the image as a second frame.
    let one = normalise(&image.samples).unwrap().reshape(((), 3, 1, 256)).unwrap();
    let two = Tensor::cat(&[&one, &one], 2).unwrap().flatten_from(1).unwrap();
    golden.check(&format!("image.{number}.pixel_values"), &two);
}

/// Compares the tower on all images of the file.
pub(crate) fn check_vision(golden: &mut Golden, images: &[Patches]) {
    let model = golden.model.clone();
    let (tower, device) = (model.vision(), model.device().clone());
    let grids: Vec<Grid> = images.iter().map(|image| image.grid).collect();
    let places = grids.iter().flat_map(|grid| grid.patches());
    let places: Vec<i64> =
        places.flat_map(|(row, column)| [integer(row), integer(column)]).collect();
    golden.equal("vision.position_ids", &places);
    let taps: Vec<Taps> =
        grids.iter().map(|&grid| Taps::new(grid, tower.position_side())).collect();
    check_taps(golden, "vision.pos_indices", "vision.pos_weights", &taps);
    let samples: Vec<&Tensor> = images.iter().map(|image| &image.samples).collect();
    let patches =
        normalise(&Tensor::cat(&samples, 0).unwrap().to_device(&device).unwrap()).unwrap();
    let embedded = tower.embed_patches(&patches).unwrap();
    golden.check("vision.patch_embed", &embedded);
    let positions = tower.embed_positions(&grids).unwrap();
    golden.check("vision.pos_embed", &positions);
    let tables = tower.tables(&grids).unwrap();
    check_angles(golden, "vision.rope", tables.angles().tables());
    let dtype = model.dtype();
    let first = (embedded + positions).unwrap().to_dtype(dtype).unwrap();
    let mut states = vec![first];
    let merged = tower.run(&patches, &grids, |xs| {
        states.push(xs.clone());
        Ok(())
    });
    for (index, state) in states[1..].iter().enumerate() {
        golden.check(&format!("vision.block.{index}.out"), state);
    }
    golden.check("vision.merger.out", &merged.unwrap());
    check_blocks(golden, tower, &states, &tables);
    check_merger(golden, tower.merger(), states.last().unwrap());
}

/// Compares the stages inside each block; `states` are the inputs of the blocks.
fn check_blocks(
    golden: &mut Golden,
    tower: &VisionModel,
    states: &[Tensor],
    tables: &VisionTables,
) {
    let heads = golden.model.config().vision_config.num_heads;
    for (index, block) in tower.blocks().iter().enumerate() {
        let name = |part: &str| format!("vision.block.{index}.{part}");
        let ([norm1, norm2], [fc1, fc2]) = (block.norms(), block.mlp());
        let [qkv, proj] = block.projections();
        let normed = norm1.forward(&states[index]).unwrap();
        golden.check(&name("norm1"), &normed);
        let product = qkv.forward(&normed).unwrap();
        golden.check(&name("qkv"), &product);
        let rotated = block.rotate(product, tables).unwrap();
        let (count, width) = rotated.dims2().unwrap();
        let by_head = rotated.reshape((count, 3, heads, width / 3 / heads)).unwrap();
        golden.check(&name("q_rope"), &by_head.narrow(1, 0, 1).unwrap().squeeze(1).unwrap());
        golden.check(&name("k_rope"), &by_head.narrow(1, 1, 1).unwrap().squeeze(1).unwrap());
        let attended = block.attend(&rotated, tables).unwrap();
        golden.check(&name("attn_ctx"), &attended);
        let out = proj.forward(&attended).unwrap();
        golden.check(&name("attn_out"), &out);
        let xs = (&states[index] + out).unwrap();
        let normed = norm2.forward(&xs).unwrap();
        golden.check(&name("norm2"), &normed);
        golden.check(&name("fc1"), &fc1.forward(&normed).unwrap());
        let inner = fc1.forward_gelu_tanh(&normed).unwrap();
        golden.check(&name("mlp"), &fc2.forward(&inner).unwrap());
    }
}

fn check_merger(golden: &mut Golden, merger: &Merger, last: &Tensor) {
    let normed = merger.norm().forward(last).unwrap();
    golden.check("vision.merger.norm", &normed);
    let (count, width) = normed.dims2().unwrap();
    let merged = normed.reshape((count / 4, 4 * width)).unwrap();
    let inner = merger.fc1().forward(&merged).unwrap();
    golden.check("vision.merger.fc1", &inner);
}

/// Compares taps with a table of indices and one of weights, `(patches, 4)` each.
pub(crate) fn check_taps(golden: &mut Golden, indices: &str, weights: &str, taps: &[Taps]) {
    let (mut ours, mut shares) = (Vec::new(), Vec::new());
    for taps in taps {
        for patch in 0..taps.indices[0].len() {
            ours.extend((0..4).map(|tap| i64::from(taps.indices[tap][patch])));
            shares.extend((0..4).map(|tap| taps.weights[tap][patch]));
        }
    }
    golden.equal(indices, &ours);
    let count = shares.len() / 4;
    golden.check(weights, &Tensor::from_vec(shares, (count, 4), &Device::Cpu).unwrap());
}

/// Compares cosines and sines, `(rows, pairs)`, which the reference writes twice, side by side.
pub(crate) fn check_angles(golden: &mut Golden, name: &str, (cosines, sines): (&Tensor, &Tensor)) {
    for (part, table) in [("cos", cosines), ("sin", sines)] {
        golden.check(&format!("{name}.{part}"), &Tensor::cat(&[table, table], 1).unwrap());
    }
}

/// Compares the stages of a linear mixer.
fn check_linear(
    golden: &mut Golden,
    case: &Case,
    (mixer, normed): (&DeltaNet, &Tensor),
    (sequences, states): (&Sequences, &[State]),
    layer: usize,
) {
    let name = |part: &str| format!("{}.layer.{layer}.{part}", case.name);
    let heads = mixer.heads();
    let (key_width, value_width) = (heads.key_heads * heads.key_dim, heads.value_width());
    let parts = states.iter().map(|state| match state.layer(layer) {
        LayerState::Linear { history, memory } => (history.clone(), memory.clone()),
        LayerState::Full(_) => panic!("a linear layer"),
    });
    let (histories, memories): (Vec<Tensor>, Vec<Tensor>) = parts.unzip();
    let projected = mixer.project(normed).unwrap();
    let mut first = 0;
    for (part, width) in [
        ("in_qkv", heads.columns()),
        ("in_z", value_width),
        ("in_b", heads.value_heads),
        ("in_a", heads.value_heads),
    ] {
        let columns = projected.narrow(1, first, width).unwrap().contiguous().unwrap();
        golden.check_rows(&name(part), &columns, case);
        first += width;
    }
    let convolved = mixer.convolve(&projected, sequences, &histories).unwrap();
    golden.check_rows(&name("conv"), &convolved, case);
    let qkv = mixer.unit_heads(&convolved).unwrap();
    let mut first = 0;
    for (part, width) in [("q", key_width), ("k", key_width), ("v", value_width)] {
        let columns = qkv.narrow(1, first, width).unwrap().contiguous().unwrap();
        golden.check_rows(&name(part), &columns, case);
        first += width;
    }
    let gates = mixer.gates(&projected).unwrap();
    for (index, part) in ["beta", "g"].into_iter().enumerate() {
        let columns = gates.narrow(1, index * heads.value_heads, heads.value_heads).unwrap();
        golden.check_rows(&name(part), &columns.contiguous().unwrap(), case);
    }
    let scan = |qkv: &Tensor| delta_rule(qkv, &gates, sequences, &memories, heads).unwrap();
    // A view with gaps takes the form in chunks, which is that of a device.
    let gaps = Tensor::cat(&[&qkv, &qkv], 1).unwrap().narrow(1, 0, heads.columns()).unwrap();
    let (recurrent, after) = scan(&qkv);
    let (chunked, chunked_after) = scan(&gaps);
    golden.check_rows(&name("delta_recurrent"), &recurrent, case);
    golden.check_rows(&name("delta_chunk"), &chunked, case);
    golden.check_rows(&name("delta_chunk"), &recurrent, case);
    golden.check(&name("state"), &Tensor::stack(&after, 0).unwrap());
    golden.check(&name("state"), &Tensor::stack(&chunked_after, 0).unwrap());
    let gated = mixer.gated(&recurrent, &projected).unwrap();
    golden.check_rows(&name("gated_norm"), &gated, case);
}

/// Compares the stages of a full mixer.
fn check_full(
    golden: &mut Golden,
    case: &Case,
    (mixer, normed): (&Attention, &Tensor),
    (tables, states): (&RunTables, &[State]),
    layer: usize,
) {
    let name = |part: &str| format!("{}.layer.{layer}.{part}", case.name);
    let heads = mixer.heads();
    let (width, kv_width) = (heads.query_heads * heads.head_dim, heads.kv_heads * heads.head_dim);
    let rows = mixer.project(normed).unwrap();
    let part = |rows: &Tensor, first: usize, width: usize| {
        rows.narrow(1, first, width).unwrap().contiguous().unwrap()
    };
    golden.check_rows(&name("q_norm"), &part(&rows, 0, width), case);
    golden.check_rows(&name("k_norm"), &part(&rows, width, kv_width), case);
    golden.check_rows(&name("v"), &part(&rows, width + kv_width, kv_width), case);
    golden.check_rows(&name("gate"), &part(&rows, width + 2 * kv_width, width), case);
    let rows = mixer.rotate(rows, tables).unwrap();
    golden.check_heads(&name("q_rope"), &part(&rows, 0, width), case);
    golden.check_heads(&name("k_rope"), &part(&rows, width, kv_width), case);
    let mut states = states.to_vec();
    mixer.append(&rows, tables, &mut states).unwrap();
    let queries = tables.sequences().ranges();
    let queries = queries.map(|range| rows.narrow(0, range.start, range.len()));
    let attended = mixer.attend(queries, tables.visibility(), &states).unwrap();
    golden.check_rows(&name("attn"), &attended, case);
    golden.check_rows(&name("gated"), &mixer.gate(attended, &rows).unwrap(), case);
}

/// Compares the stages of a layer, whose input is `xs`.
pub(crate) fn check_layer(
    golden: &mut Golden,
    case: &Case,
    (layer, index): (&DecoderLayer, usize),
    xs: &Tensor,
    (tables, states): (&RunTables, &[State]),
) {
    let name = |part: &str| format!("{}.layer.{index}.{part}", case.name);
    let normed = layer.input_norm().forward(xs).unwrap();
    golden.check_rows(&name("input_norm"), &normed, case);
    match layer.mixer() {
        Mixer::Linear(mixer) => {
            let places = (tables.sequences(), states);
            check_linear(golden, case, (mixer, &normed), places, index);
        }
        Mixer::Full(mixer) => {
            check_full(golden, case, (mixer, &normed), (tables, states), index);
        }
    }
    let mixed = layer.mix(xs, tables, &mut states.to_vec()).unwrap();
    golden.check_rows(&name("mixer_out"), &mixed, case);
    let xs = add_residual(mixed, xs).unwrap();
    let normed = layer.post_norm().forward(&xs).unwrap();
    golden.check_rows(&name("post_norm"), &normed, case);
    golden.check_rows(&name("mlp"), &layer.mlp(&normed).unwrap(), case);
}
