//! Predicted times of the launches of a dry run, by assumed rates of an H200.
//!
//! The rates are assumptions, not measurements. `docs/gpu.md` lists them, and `gpu/first_run.sh`
//! prints measured and predicted times together.

use dog_iqa::models::device::dry_run::{Kernel, Launch};

/// Rates of a GPU: bytes, elements, operations or blocks per second, and seconds per launch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    /// Bytes per second of a contiguous element-wise kernel.
    copy: f64,
    /// Bytes per second of a conversion.
    cast: f64,
    /// Elements per second of a kernel that computes indices, with at most three dimensions.
    strided: f64,
    /// The same with more dimensions.
    strided_deep: f64,
    /// Blocks of threads that start per second.
    blocks: f64,
    /// Elements per second of a softmax.
    softmax: f64,
    /// Rows per second of a fused norm.
    norm_rows: f64,
    /// Operations per second of a half-precision product.
    half_product: f64,
    /// The same, if a leading dimension is not a multiple of 8.
    unaligned_product: f64,
    /// Operations per second of a single-precision product.
    single_product: f64,
    /// Bytes per second between host and device.
    transfer: f64,
    /// The shortest time of a launch in seconds.
    launch: f64,
}

impl Rates {
    /// The most likely rates.
    pub(crate) const CENTRAL: Self = Self {
        copy: 3.2e12,
        cast: 2.2e12,
        strided: 100e9,
        strided_deep: 70e9,
        blocks: 3.0e9,
        softmax: 110e9,
        norm_rows: 3.2e9,
        half_product: 520e12,
        unaligned_product: 60e12,
        single_product: 35e12,
        transfer: 8e9,
        launch: 2.5e-6,
    };
    /// Lower bounds of the rates.
    pub(crate) const SLOW: Self = Self {
        copy: 2.6e12,
        cast: 1.4e12,
        strided: 60e9,
        strided_deep: 40e9,
        blocks: 1.6e9,
        softmax: 70e9,
        norm_rows: 1.6e9,
        half_product: 420e12,
        unaligned_product: 20e12,
        single_product: 25e12,
        transfer: 4e9,
        launch: 3.0e-6,
    };
    /// Upper bounds of the rates.
    pub(crate) const FAST: Self = Self {
        copy: 3.8e12,
        cast: 3.2e12,
        strided: 200e9,
        strided_deep: 140e9,
        blocks: 5.0e9,
        softmax: 160e9,
        norm_rows: 5.0e9,
        half_product: 620e12,
        unaligned_product: 120e12,
        single_product: 45e12,
        transfer: 24e9,
        launch: 2.0e-6,
    };

    /// Predicts the time of a launch in seconds.
    pub(crate) fn seconds(&self, launch: &Launch) -> f64 {
        let (elements, bytes) = (launch.elements as f64, launch.bytes as f64);
        let memory = bytes / self.copy;
        let seconds = match launch.kernel {
            Kernel::Product { width, is_aligned, .. } => {
                let rate = match (width, is_aligned) {
                    (4, _) => self.single_product,
                    (_, true) => self.half_product,
                    (_, false) => self.unaligned_product,
                };
                memory.max(operations(launch) / rate)
            }
            Kernel::Cast => bytes / self.cast,
            Kernel::Elementwise | Kernel::CopyRows | Kernel::Fill => memory,
            Kernel::Strided { rank } => {
                let rate = if rank <= 3 { self.strided } else { self.strided_deep };
                memory.max(elements / rate)
            }
            Kernel::Gather => memory.max(elements / self.strided),
            Kernel::Softmax { rows } => (elements / self.softmax).max(rows as f64 / self.blocks),
            Kernel::Norm { rows } => memory.max(rows as f64 / self.norm_rows),
            Kernel::Reduction => memory.max(elements / self.blocks),
            Kernel::Upload | Kernel::Download => bytes / self.transfer,
        };
        seconds.max(self.launch)
    }
}

/// Returns the floating-point operations of a product, and 0 for every other launch.
fn operations(launch: &Launch) -> f64 {
    match launch.kernel {
        Kernel::Product { rows, columns, inner, batch, .. } => {
            2.0 * rows as f64 * columns as f64 * inner as f64 * batch as f64
        }
        _ => 0.0,
    }
}

/// Launches in figures. Copies between host and device are apart.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) launches: f64,
    pub(crate) gigabytes: f64,
    pub(crate) tera_operations: f64,
    /// Predicted milliseconds on the device: central, fast and slow.
    pub(crate) ms: [f64; 3],
    /// Megabytes copied to the host.
    pub(crate) to_host_mb: f64,
    /// Megabytes copied to the device.
    pub(crate) to_device_mb: f64,
}

impl Cost {
    /// Adds up launches.
    pub(crate) fn of(launches: &[Launch]) -> Self {
        let mut cost = Self::default();
        for launch in launches {
            match launch.kernel {
                Kernel::Download => cost.to_host_mb += launch.bytes as f64 / 1e6,
                Kernel::Upload => cost.to_device_mb += launch.bytes as f64 / 1e6,
                _ => {
                    cost.launches += 1.0;
                    cost.gigabytes += launch.bytes as f64 / 1e9;
                    cost.tera_operations += operations(launch) / 1e12;
                    let rates = [Rates::CENTRAL, Rates::FAST, Rates::SLOW];
                    for (ms, rates) in cost.ms.iter_mut().zip(rates) {
                        *ms += 1e3 * rates.seconds(launch);
                    }
                }
            }
        }
        cost
    }
}
