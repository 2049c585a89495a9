//! Dry runs: a network runs on shapes alone, and every launch that it would make on a GPU is
//! recorded. Nothing is computed, and no value is stored.
//!
//! A run belongs to its thread. Only operations of `models::ops` take part; any other one that
//! reads values fails, because a placeholder has none.

use std::cell::RefCell;

use candle_core::{
    CpuStorage, CustomOp1, DType, Device, Error, Layout, Result, Shape, Storage, Tensor, bail,
};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

/// One kernel on a GPU, or one copy between a GPU and its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// The kernel.
    pub kernel: Kernel,
    /// Elements that it writes.
    pub elements: u64,
    /// Bytes that it reads and writes, each once.
    pub bytes: u64,
}

/// The kernels of the tensor library, by the kind of work that sets their speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kernel {
    /// A product of matrices: `batch` times `(rows, inner)` with `(inner, columns)`.
    Product {
        /// Rows of the result.
        rows: u64,
        /// Columns of the result.
        columns: u64,
        /// Terms of each sum.
        inner: u64,
        /// Number of products.
        batch: u64,
        /// Bytes of an element.
        width: u64,
        /// True if all leading dimensions are multiples of 8, which the fast kernels need.
        is_aligned: bool,
    },
    /// A conversion between dtypes.
    Cast,
    /// An element-wise operation on contiguous tensors.
    Elementwise,
    /// An element-wise operation or a copy with strides: an index is computed for each element.
    Strided {
        /// Dimensions of the tensors.
        rank: usize,
    },
    /// A copy of whole rows, as in a concatenation.
    CopyRows,
    /// Rows selected by their indices.
    Gather,
    /// A softmax over rows.
    Softmax {
        /// Number of rows; each has a block of threads.
        rows: u64,
    },
    /// A norm over rows.
    Norm {
        /// Number of rows; each has a block of threads.
        rows: u64,
    },
    /// A reduction, with one block of threads for each result.
    Reduction,
    /// A constant.
    Fill,
    /// A copy from the host.
    Upload,
    /// A copy to the host.
    Download,
}

/// The values that copies to the host have in a dry run, by shape and index.
type HostValue = Box<dyn Fn(&[usize], usize) -> f32>;

struct Recorder {
    launches: Vec<Launch>,
    host_value: HostValue,
}

thread_local! {
    static RECORDER: RefCell<Option<Recorder>> = const { RefCell::new(None) };
}

/// Runs `pass` dry. Returns its result and its launches, in order. A value that it copies to the
/// host is `host_value` of the tensor's shape and the value's index.
///
/// # Panics
/// Panics inside another dry run.
pub fn dry_run<T>(
    host_value: impl Fn(&[usize], usize) -> f32 + 'static,
    pass: impl FnOnce() -> T,
) -> (T, Vec<Launch>) {
    /// Ends the dry run, also if `pass` panics.
    struct End;

    impl Drop for End {
        fn drop(&mut self) {
            RECORDER.with_borrow_mut(Option::take);
        }
    }

    assert!(!is_dry_run(), "a dry run inside a dry run");
    let recorder = Recorder { launches: Vec::new(), host_value: Box::new(host_value) };
    RECORDER.set(Some(recorder));
    let end = End;
    let result = pass();
    let launches = RECORDER.with_borrow_mut(|recorder| {
        recorder.as_mut().map(|recorder| std::mem::take(&mut recorder.launches))
    });
    drop(end);
    (result, launches.unwrap_or_default())
}

/// Returns true inside [`dry_run`].
pub(crate) fn is_dry_run() -> bool {
    RECORDER.with_borrow(Option::is_some)
}

/// Records a launch, if this is a dry run.
pub(crate) fn record(launch: Launch) {
    RECORDER.with_borrow_mut(|recorder| {
        if let Some(recorder) = recorder {
            recorder.launches.push(launch);
        }
    });
}

/// Returns the tensor that a copy to the host has in a dry run.
pub(crate) fn host_copy(tensor: &Tensor) -> Result<Tensor> {
    let shape = tensor.dims();
    let values = RECORDER.with_borrow(|recorder| {
        let value =
            |index| recorder.as_ref().map_or(0.0, |recorder| (recorder.host_value)(shape, index));
        (0..tensor.elem_count()).map(value).collect::<Vec<f32>>()
    });
    Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(tensor.dtype())
}

/// Returns the number of values in a tensor's storage, or `None` for a placeholder.
pub(crate) fn stored(tensor: &Tensor) -> Option<usize> {
    let (storage, _) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { return None };
    let len = match storage {
        CpuStorage::U8(values) => values.len(),
        CpuStorage::U32(values) => values.len(),
        CpuStorage::BF16(values) => values.len(),
        CpuStorage::F16(values) => values.len(),
        CpuStorage::F32(values) => values.len(),
        _ => tensor.elem_count(),
    };
    (len > 0).then_some(len)
}

/// Returns a contiguous tensor without values. It reserves the memory that the values would take,
/// so that a counting allocator sees the size of a run.
///
/// # Errors
/// Fails on a dtype that no network uses.
pub fn placeholder(shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
    let shape = shape.into();
    let reserved = shape.elem_count();
    of_empty_storage(shape, dtype, reserved)
}

fn of_empty_storage(shape: Shape, dtype: DType, reserved: usize) -> Result<Tensor> {
    let seed = Tensor::zeros(1, DType::U8, &Device::Cpu)?;
    seed.apply_op1_no_bwd(&Empty { shape, dtype, reserved })
}

struct Empty {
    shape: Shape,
    dtype: DType,
    reserved: usize,
}

impl CustomOp1 for Empty {
    fn name(&self) -> &'static str {
        "placeholder"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let storage = match self.dtype {
            DType::U8 => CpuStorage::U8(Vec::with_capacity(self.reserved)),
            DType::U32 => CpuStorage::U32(Vec::with_capacity(self.reserved)),
            DType::BF16 => CpuStorage::BF16(Vec::with_capacity(self.reserved)),
            DType::F16 => CpuStorage::F16(Vec::with_capacity(self.reserved)),
            DType::F32 => CpuStorage::F32(Vec::with_capacity(self.reserved)),
            other => bail!("no network has tensors of {other:?}"),
        };
        Ok((storage, self.shape.clone()))
    }
}

/// Returns weights of every name and shape, without values and without memory.
pub fn placeholder_weights(dtype: DType) -> VarBuilder<'static> {
    VarBuilder::from_backend(Box::new(NoValues), dtype, Device::Cpu)
}

struct NoValues;

impl SimpleBackend for NoValues {
    fn get(&self, shape: Shape, _: &str, _: Init, dtype: DType, _: &Device) -> Result<Tensor> {
        of_empty_storage(shape, dtype, 0)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        Err(Error::Msg(format!("`{name}` is asked for without its shape")))
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}
