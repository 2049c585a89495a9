//! Element-wise operations, copies and reductions.

use candle_core::{DType, Device, Result, Shape, Tensor};

use crate::models::device::dry_run::{self, Kernel, Launch};
use crate::models::ops::launch::{elementwise, launch, record_product};
use crate::models::ops::transfer::upload;

/// Operations on one tensor or two. All fail on mismatched shapes, dtypes or devices, and on an
/// error of the device.
///
/// A trait, so that they can be chained with the views of a tensor.
pub(crate) trait TensorOps: Sized {
    /// Converts to a dtype; a tensor of this dtype is returned as it is.
    fn cast(&self, dtype: DType) -> Result<Self>;
    /// Copies the values into row-major order, unless they are in it.
    fn dense(&self) -> Result<Self>;
    /// Changes the shape, and copies the values if they are not in row-major order.
    fn reshaped(&self, shape: impl Into<Shape>) -> Result<Self>;
    /// Subtracts a tensor of the same shape.
    fn minus(&self, other: &Self) -> Result<Self>;
    /// Adds a tensor of the same shape.
    fn plus(&self, other: &Self) -> Result<Self>;
    /// Takes the larger of each two values of tensors of one shape.
    fn larger(&self, other: &Self) -> Result<Self>;
    /// Multiplies with a tensor of the same shape.
    fn times(&self, other: &Self) -> Result<Self>;
    /// Adds a tensor that is repeated along the dimensions that it lacks.
    fn plus_repeated(&self, other: &Self) -> Result<Self>;
    /// Subtracts a tensor that is repeated along the dimensions that it lacks.
    fn minus_repeated(&self, other: &Self) -> Result<Self>;
    /// Multiplies with a tensor that is repeated along the dimensions that it lacks.
    fn times_repeated(&self, other: &Self) -> Result<Self>;
    /// Multiplies with a factor and adds a term.
    fn affine_of(&self, factor: f64, term: f64) -> Result<Self>;
    /// Applies a function to each value.
    fn each(&self, function: Function) -> Result<Self>;
    /// Returns 1 for each value of at most the limit, and 0 for the others and for NaN, u8.
    fn at_most(&self, limit: f32) -> Result<Self>;
    /// Selects entries of a dimension by `indices (n)` u32; an entry may be selected several times.
    fn entries(&self, indices: &Self, dim: usize) -> Result<Self>;
    /// Reduces one dimension, which becomes 1.
    fn reduced(&self, reduction: Reduction, dim: usize) -> Result<Self>;
}

/// Functions of one value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Function {
    /// GELU with the error function.
    GeluErf,
    /// GELU in the tanh approximation.
    GeluTanh,
    /// `x · sigmoid(x)`.
    Silu,
    /// `max(x, 0)`.
    Relu,
    /// `1 / (1 + exp(−x))`.
    Sigmoid,
    /// `exp(x)`.
    Exp,
    /// The natural logarithm.
    Log,
    /// `|x|`.
    Abs,
    /// `sin(x)`.
    Sin,
    /// `cos(x)`.
    Cos,
}

/// Reductions of several values to one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reduction {
    Max,
    Min,
    Sum,
}

impl TensorOps for Tensor {
    fn cast(&self, dtype: DType) -> Result<Self> {
        if self.dtype() == dtype {
            return Ok(self.clone());
        }
        let kernel = match elementwise(&[self]) {
            Kernel::Elementwise => Kernel::Cast,
            strided => strided,
        };
        launch(kernel, &[self], (self.shape().clone(), dtype), || self.to_dtype(dtype))
    }

    fn dense(&self) -> Result<Self> {
        if self.is_contiguous() {
            return Ok(self.clone());
        }
        let kernel = Kernel::Strided { rank: self.rank() };
        launch(kernel, &[self], like(self), || self.contiguous())
    }

    fn reshaped(&self, shape: impl Into<Shape>) -> Result<Self> {
        self.dense()?.reshape(shape.into())
    }

    fn minus(&self, other: &Self) -> Result<Self> {
        launch(elementwise(&[self, other]), &[self, other], like(self), || self - other)
    }

    fn plus(&self, other: &Self) -> Result<Self> {
        launch(elementwise(&[self, other]), &[self, other], like(self), || self + other)
    }

    fn larger(&self, other: &Self) -> Result<Self> {
        launch(elementwise(&[self, other]), &[self, other], like(self), || self.maximum(other))
    }

    fn times(&self, other: &Self) -> Result<Self> {
        launch(elementwise(&[self, other]), &[self, other], like(self), || self * other)
    }

    fn plus_repeated(&self, other: &Self) -> Result<Self> {
        repeated(self, other, Self::broadcast_add)
    }

    fn minus_repeated(&self, other: &Self) -> Result<Self> {
        repeated(self, other, Self::broadcast_sub)
    }

    fn times_repeated(&self, other: &Self) -> Result<Self> {
        repeated(self, other, Self::broadcast_mul)
    }

    fn affine_of(&self, factor: f64, term: f64) -> Result<Self> {
        launch(elementwise(&[self]), &[self], like(self), || self.affine(factor, term))
    }

    fn each(&self, function: Function) -> Result<Self> {
        launch(elementwise(&[self]), &[self], like(self), || match function {
            Function::GeluErf => self.gelu_erf(),
            Function::GeluTanh => self.gelu(),
            Function::Silu => self.silu(),
            Function::Relu => self.relu(),
            Function::Sigmoid => candle_nn::ops::sigmoid(self),
            Function::Exp => self.exp(),
            Function::Log => self.log(),
            Function::Abs => self.abs(),
            Function::Sin => self.sin(),
            Function::Cos => self.cos(),
        })
    }

    fn at_most(&self, limit: f32) -> Result<Self> {
        // The limit is repeated, so the operation is a strided one.
        let limit = upload(vec![limit], 1, self.device())?.cast(self.dtype())?;
        let limit = limit.broadcast_as(self.shape())?;
        let result = (self.shape().clone(), DType::U8);
        launch(elementwise(&[self, &limit]), &[self, &limit], result, || self.le(&limit))
    }

    fn entries(&self, indices: &Self, dim: usize) -> Result<Self> {
        let mut shape = self.dims().to_vec();
        shape[dim] = indices.elem_count();
        let result = (Shape::from(shape), self.dtype());
        // Only the selected entries are read: as much as is written.
        let read = self.narrow(dim, 0, indices.elem_count().min(self.dim(dim)?))?;
        launch(Kernel::Gather, &[&read, indices], result, || self.index_select(indices, dim))
    }

    fn reduced(&self, reduction: Reduction, dim: usize) -> Result<Self> {
        let mut shape = self.dims().to_vec();
        shape[dim] = 1;
        launch(Kernel::Reduction, &[self], (shape.into(), self.dtype()), || match reduction {
            Reduction::Max => self.max_keepdim(dim),
            Reduction::Sum => self.sum_keepdim(dim),
            Reduction::Min => self.min_keepdim(dim),
        })
    }
}

fn like(tensor: &Tensor) -> (Shape, DType) {
    (tensor.shape().clone(), tensor.dtype())
}

fn repeated(
    a: &Tensor,
    b: &Tensor,
    compute: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let shape =
        a.shape().broadcast_shape_binary_op(b.shape(), "an operation on repeated values")?;
    let (wide, narrow) = (a.broadcast_as(&shape)?, b.broadcast_as(&shape)?);
    let kernel = elementwise(&[&wide, &narrow]);
    launch(kernel, &[&wide, &narrow], (shape, a.dtype()), || compute(a, b))
}

/// Concatenates tensors along a dimension; one launch for each.
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub(crate) fn cat(parts: &[&Tensor], dim: usize) -> Result<Tensor> {
    let [first, _, ..] = parts else {
        return Tensor::cat(parts, dim);
    };
    let mut shape = first.dims().to_vec();
    shape[dim] = 0;
    for part in parts {
        shape[dim] += part.dim(dim)?;
    }
    // A part with gaps inside its rows would make the result a view.
    let parts = parts
        .iter()
        .map(|part| if has_dense_rows(part, dim) { Ok((*part).clone()) } else { part.dense() })
        .collect::<Result<Vec<_>>>()?;
    if !dry_run::is_dry_run() {
        return Tensor::cat(&parts, dim);
    }
    for part in &parts {
        let elements = part.elem_count() as u64;
        let bytes = 2 * elements * part.dtype().size_in_bytes() as u64;
        dry_run::record(Launch { kernel: Kernel::CopyRows, elements, bytes });
    }
    dry_run::placeholder(shape, first.dtype())
}

/// Returns true if the library copies the part row by row: the dimensions from `dim` on have no
/// gap, and those before it have one stride between them.
fn has_dense_rows(part: &Tensor, dim: usize) -> bool {
    if part.is_contiguous() {
        return true;
    }
    let inner = part.dims()[dim..].iter().zip(&part.stride()[dim..]).rev();
    let mut expected = 1;
    for (&size, &stride) in inner {
        if stride != expected {
            return false;
        }
        expected *= size;
    }
    // The dimensions before have one stride between them.
    let outer: Vec<_> = part.dims()[..dim].iter().zip(&part.stride()[..dim]).collect();
    outer.windows(2).all(|pair| *pair[0].1 == pair[1].0 * pair[1].1)
}

/// Stacks tensors of one shape along a new dimension; one launch for each.
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub(crate) fn stack(parts: &[Tensor], dim: usize) -> Result<Tensor> {
    let parts = parts.iter().map(|part| part.unsqueeze(dim)).collect::<Result<Vec<_>>>()?;
    cat(&parts.iter().collect::<Vec<_>>(), dim)
}

/// Creates a tensor of zeros.
///
/// # Errors
/// Fails on an error of the device.
pub(crate) fn zeros(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    let shape = shape.into();
    launch(Kernel::Fill, &[], (shape.clone(), dtype), || Tensor::zeros(shape, dtype, device))
}

/// Creates a tensor of ones.
///
/// # Errors
/// Fails on an error of the device.
pub(crate) fn ones(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    let shape = shape.into();
    launch(Kernel::Fill, &[], (shape.clone(), dtype), || Tensor::ones(shape, dtype, device))
}

/// Convolves `images (batch, in, height, width)` with `weight (out, in, side, side)`: on a GPU
/// three launches, which gather the patches, multiply and rearrange.
///
/// # Errors
/// Fails on mismatched shapes, dtypes or devices.
pub(crate) fn conv2d(
    images: &Tensor,
    weight: &Tensor,
    padding: usize,
    stride: usize,
) -> Result<Tensor> {
    let (batch, _, height, width) = images.dims4()?;
    let (out, channels, side, _) = weight.dims4()?;
    let along = |size: usize| (size + 2 * padding - side) / stride + 1;
    let (rows, columns) = (along(height), along(width));
    let dtype = images.dtype();
    let patch = channels * side * side;
    let patches = (Shape::from((batch, rows * columns, patch)), dtype);
    let result = Shape::from((batch, out, rows, columns));
    let gathered = launch(Kernel::Strided { rank: 6 }, &[images], patches, || {
        images.conv2d(weight, padding, stride, 1, 1)
    })?;
    record_product([batch * rows * columns, out, patch], 1, dtype);
    launch(Kernel::Strided { rank: 4 }, &[&gathered], (result, dtype), || Ok(gathered.clone()))
}
