//! Layers and kernels: their error against the CPU at a small shape, and their time at a shape of
//! the networks.

use candle_core::{D, DType, Device, Result, Tensor};
use dog_iqa::models::layers::{
    HeadLayout, LayerNorm, Linear, RmsNorm, Visibility, Windows, add_bias, add_bias_gelu,
    add_bias_gelu_tanh, add_bias_residual, grouped_attention, max_pool_2x2, silu_gate,
    softmax_attention, windowed_attention,
};
use serde_json::json;

use crate::rows::{Rows, time};

/// An operation, and the shapes of its inputs.
struct Op {
    name: &'static str,
    /// Shapes of the networks, to be timed.
    shapes: &'static [&'static [usize]],
    /// Shapes to compare with the CPU.
    small: &'static [&'static [usize]],
    run: fn(&[Tensor]) -> Result<Tensor>,
}

const OPS: &[Op] = &[
    Op {
        name: "add, repeated bias",
        shapes: &[&[64, 4096, 256], &[256]],
        small: &[&[3, 40, 96], &[96]],
        run: |xs| add_bias(xs[0].copy()?, &xs[1]),
    },
    Op {
        name: "add, one map for all prompts",
        shapes: &[&[64, 4096, 256], &[1, 4096, 256]],
        small: &[&[3, 40, 96], &[1, 40, 96]],
        run: |xs| xs[0].broadcast_add(&xs[1]),
    },
    Op {
        name: "add, contiguous",
        shapes: &[&[64, 4096, 256], &[64, 4096, 256]],
        small: &[&[3, 40, 96], &[3, 40, 96]],
        run: |xs| &xs[0] + &xs[1],
    },
    Op {
        name: "layer norm",
        shapes: &[&[64, 4096, 256], &[256], &[256]],
        small: &[&[3, 40, 96], &[96], &[96]],
        run: |xs| LayerNorm::new(xs[1].clone(), xs[2].clone(), 1e-6).forward(&xs[0]),
    },
    Op {
        name: "layer norm of 64 channels",
        shapes: &[&[64, 16_384, 64], &[64], &[64]],
        small: &[&[3, 40, 64], &[64], &[64]],
        run: |xs| LayerNorm::new(xs[1].clone(), xs[2].clone(), 1e-6).forward(&xs[0]),
    },
    Op {
        name: "rms norm",
        shapes: &[&[1344, 3584], &[3584]],
        small: &[&[40, 96], &[96]],
        run: |xs| RmsNorm::new(xs[1].clone(), 1e-6).forward(&xs[0]),
    },
    Op {
        name: "bias and gelu (erf)",
        shapes: &[&[4, 65_536, 576], &[576]],
        small: &[&[3, 40, 96], &[96]],
        run: |xs| add_bias_gelu(xs[0].copy()?, &xs[1]),
    },
    Op {
        name: "bias and gelu (tanh)",
        shapes: &[&[16, 729, 4304], &[4304]],
        small: &[&[3, 40, 96], &[96]],
        run: |xs| add_bias_gelu_tanh(xs[0].copy()?, &xs[1]),
    },
    Op {
        name: "bias and residual",
        shapes: &[&[16, 729, 1152], &[1152], &[16, 729, 1152]],
        small: &[&[3, 40, 96], &[96], &[3, 40, 96]],
        run: |xs| add_bias_residual(xs[0].copy()?, &xs[1], &xs[2]),
    },
    Op {
        name: "max pool 2x2",
        shapes: &[&[4, 256, 256, 288]],
        small: &[&[2, 8, 8, 24]],
        run: |xs| max_pool_2x2(&xs[0]),
    },
    Op {
        name: "silu gate",
        shapes: &[&[1344, 37_888]],
        small: &[&[40, 96]],
        run: |xs| silu_gate(&xs[0]),
    },
    Op {
        name: "linear, 1152 to 4304",
        shapes: &[&[11_664, 1152], &[4304, 1152], &[4304]],
        small: &[&[40, 96], &[64, 96], &[64]],
        run: |xs| Linear::new(xs[1].clone(), xs[2].clone()).forward(&xs[0]),
    },
    Op {
        name: "attention, 729 keys of 72",
        shapes: &[&[16, 16, 729, 72], &[16, 16, 729, 72], &[16, 16, 729, 72]],
        small: &[&[2, 3, 49, 24], &[2, 3, 49, 24], &[2, 3, 49, 24]],
        run: |xs| softmax_attention(&xs[0], &xs[1], &xs[2]),
    },
    Op {
        name: "attention, 4096 keys of 72",
        shapes: &[&[4, 8, 4096, 72], &[4, 8, 4096, 72], &[4, 8, 4096, 72]],
        small: &[&[2, 3, 64, 24], &[2, 3, 64, 24], &[2, 3, 64, 24]],
        run: |xs| softmax_attention(&xs[0], &xs[1], &xs[2]),
    },
    Op {
        name: "windows of 16x16",
        shapes: &[&[4, 64, 64, 1728], &[1728]],
        small: &[&[1, 32, 32, 72], &[72]],
        run: |xs| {
            let windows = Windows { heads: 1, side: Some(16), pools_queries: false };
            let heads = if xs[1].dim(0)? == 1728 { 8 } else { 1 };
            windowed_attention(&xs[0], &xs[1], &Windows { heads, ..windows })
        },
    },
    Op {
        name: "windows with pooled queries",
        shapes: &[&[4, 128, 128, 1728], &[1728]],
        small: &[&[1, 16, 16, 72], &[72]],
        run: |xs| {
            let heads = if xs[1].dim(0)? == 1728 { 8 } else { 1 };
            let windows = Windows { heads, side: Some(4), pools_queries: true };
            windowed_attention(&xs[0], &xs[1], &windows)
        },
    },
    Op {
        name: "grouped attention, 857 keys",
        shapes: &[&[32, 42, 3584], &[32, 857, 1024]],
        small: &[&[2, 6, 3584], &[2, 9, 1024]],
        run: |xs| {
            let (queries, rows) = (xs[0].dim(1)?, xs[1].dim(1)?);
            let visible = (rows - queries + 1..=rows).collect();
            let heads = HeadLayout { query_heads: 28, kv_heads: 4, head_dim: 128 };
            grouped_attention(&xs[0], &[&xs[1]], &Visibility::new([(rows, visible)]), heads)
        },
    },
    Op {
        name: "softmax of rows of 8",
        shapes: &[&[64, 4096, 8, 8]],
        small: &[&[2, 40, 8, 8]],
        run: |xs| candle_nn::ops::softmax_last_dim(&xs[0]),
    },
    Op {
        name: "copy, heads forward",
        shapes: &[&[16, 729, 16, 72]],
        small: &[&[2, 9, 4, 24]],
        run: |xs| xs[0].transpose(1, 2)?.contiguous(),
    },
    Op {
        name: "copy, windows and heads",
        shapes: &[&[32, 4, 16, 4, 16, 3, 576]],
        small: &[&[2, 2, 4, 2, 4, 3, 24]],
        run: |xs| xs[0].permute([5, 0, 1, 3, 2, 4, 6])?.contiguous(),
    },
    Op {
        name: "concatenation of rows",
        shapes: &[&[32, 729, 1024], &[32, 128, 1024]],
        small: &[&[2, 9, 24], &[2, 4, 24]],
        run: |xs| Tensor::cat(&[&xs[0], &xs[1]], 1),
    },
    Op {
        name: "maximum of rows",
        shapes: &[&[32, 151_651]],
        small: &[&[3, 500]],
        run: |xs| xs[0].max_keepdim(D::Minus1),
    },
    Op {
        name: "to the cpu, 50 MB",
        shapes: &[&[192, 256, 256]],
        small: &[&[3, 16, 16]],
        run: |xs| xs[0].to_device(&Device::Cpu),
    },
];

/// Measures every operation in every dtype.
pub(crate) fn run(device: &Device, is_small: bool, rows: &mut Rows) {
    for (dtype, tolerance) in [(DType::F32, 1e-4), (DType::BF16, 6e-2), (DType::F16, 8e-3)] {
        for op in OPS {
            let shape = if is_small { op.small } else { op.shapes };
            let name = format!("{} {:?}", op.name, shape[0]);
            rows.measure(&name, || {
                let error = error(op, device, dtype)?;
                let inputs = inputs(shape, dtype, device)?;
                let timing = time(device, 7, || (op.run)(&inputs))?;
                let elements: usize = shape[0].iter().product();
                Ok(json!({
                    "dtype": dtype.as_str(), "max_error": error, "tolerance": tolerance,
                    "ms": timing.ms, "enqueue_ms": timing.enqueue_ms,
                    "value": elements as f64 / timing.ms / 1e6, "unit": "G elements/s",
                }))
            });
        }
    }
}

/// Returns the largest difference from the result of the CPU in f32 on the same rounded inputs, as
/// a share of the largest value.
fn error(op: &Op, device: &Device, dtype: DType) -> Result<f64> {
    let inputs = inputs(op.small, dtype, &Device::Cpu)?;
    let exact: Vec<Tensor> =
        inputs.iter().map(|input| input.to_dtype(DType::F32)).collect::<Result<_>>()?;
    let expected = (op.run)(&exact)?.flatten_all()?;
    let on_device: Vec<Tensor> =
        inputs.iter().map(|input| input.to_device(device)).collect::<Result<_>>()?;
    let found = (op.run)(&on_device)?;
    device.synchronize()?;
    let found = found.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?;
    let largest = expected.abs()?.max(0)?.to_scalar::<f32>()?;
    let apart = (found - expected)?.abs()?.max(0)?.to_scalar::<f32>()?;
    Ok(f64::from(apart / largest.max(1e-6)))
}

fn inputs(shapes: &[&[usize]], dtype: DType, device: &Device) -> Result<Vec<Tensor>> {
    // The values are equal on every device, and differ between the inputs.
    let one = |(index, shape): (usize, &&[usize])| {
        let count: usize = shape.iter().product();
        let drawn = count.min(1 << 20);
        let mut random = fastrand::Rng::with_seed((count + 7919 * index) as u64);
        let values: Vec<f32> = (0..drawn).map(|_| 2.0 * random.f32() - 1.0).collect();
        let block = Tensor::from_vec(values, drawn, device)?.to_dtype(dtype)?;
        let repeats = count.div_ceil(drawn);
        let repeated = block.unsqueeze(0)?.broadcast_as((repeats, drawn))?.contiguous()?;
        repeated.flatten_all()?.narrow(0, 0, count)?.contiguous()?.reshape(*shape)
    };
    shapes.iter().enumerate().map(one).collect()
}
