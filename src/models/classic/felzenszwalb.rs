//! Efficient graph-based image segmentation: Felzenszwalb and Huttenlocher, IJCV 59(2), 2004.
//!
//! Pixels are nodes; edges join 8-neighbours and are weighted with their colour difference. Edges
//! are visited from the lightest to the heaviest. An edge joins two components if it is no heavier
//! than either one's internal difference plus `scale / size`.

use image::RgbImage;

/// Parameters that set how coarse the segmentation is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct GraphParameters {
    /// The paper's `k` for colours in 0..=255: larger values favour larger components.
    pub(crate) scale: f32,
    /// Components smaller than this are joined to a neighbour at the end.
    pub(crate) area_min_px: u32,
}

/// A label for each pixel, row by row. Labels are `0..count`, numbered by their first pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelMap {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// One label for each pixel.
    pub labels: Vec<u32>,
    /// Number of labels.
    pub count: usize,
}

impl LabelMap {
    /// Numbers arbitrary labels by their first pixel.
    pub(crate) fn renumbered(width: usize, height: usize, mut labels: Vec<u32>) -> Self {
        let label_end = labels.iter().max().map_or(0, |&label| label as usize + 1);
        let mut numbers = vec![u32::MAX; label_end];
        let mut count = 0;
        for label in &mut labels {
            let number = &mut numbers[*label as usize];
            if *number == u32::MAX {
                *number = count;
                count += 1;
            }
            *label = *number;
        }
        Self { width, height, labels, count: count as usize }
    }
}

/// An RGB image in floating point.
pub(crate) struct Smoothed {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) values: Vec<[f32; 3]>,
}

/// Splits an image into components that are connected through 8-neighbours.
///
/// The image should be small, some hundred pixels a side: time grows a little faster than its area,
/// and components do not need fine detail.
pub(crate) fn components(image: &Smoothed, parameters: GraphParameters) -> LabelMap {
    let mut edges = sorted_edges(image);
    let mut forest = Forest::new(image.values.len(), parameters.scale);
    edges.retain(|edge| !forest.join_if_alike(edge));
    for edge in &edges {
        forest.join_if_small(edge, parameters.area_min_px);
    }
    let pixels = u32::try_from(image.values.len()).expect("pixels were counted in u32 edges");
    let labels = (0..pixels).map(|pixel| forest.root(pixel)).collect();
    LabelMap::renumbered(image.width, image.height, labels)
}

/// Smooths with a Gaussian, truncated at four standard deviations. The border is mirrored.
pub(crate) fn smooth(image: &RgbImage, sigma_px: f32) -> Smoothed {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let values: Vec<[f32; 3]> = image.pixels().map(|pixel| pixel.0.map(f32::from)).collect();
    if sigma_px <= 0.0 {
        return Smoothed { width, height, values };
    }
    let kernel = gaussian(sigma_px);
    let radius = kernel.len() / 2;
    let mut rows = Vec::with_capacity(values.len());
    let mut padded = Vec::with_capacity(width + 2 * radius);
    for row in values.chunks_exact(width) {
        padded.clear();
        padded.extend(mirrored(width, radius).map(|x| row[x]));
        rows.extend(padded.windows(kernel.len()).map(|window| weighted(&kernel, window)));
    }
    let mut values = vec![[0.0; 3]; rows.len()];
    let sources: Vec<usize> = mirrored(height, radius).collect();
    for (row, window) in values.chunks_exact_mut(width).zip(sources.windows(kernel.len())) {
        for (&weight, &source) in kernel.iter().zip(window) {
            for (sum, value) in row.iter_mut().zip(&rows[source * width..][..width]) {
                for channel in 0..3 {
                    sum[channel] += weight * value[channel];
                }
            }
        }
    }
    Smoothed { width, height, values }
}

/// Returns the kernel, of odd length and with sum one.
fn gaussian(sigma_px: f32) -> Vec<f32> {
    let radius = (4.0 * sigma_px + 0.5) as i32;
    let weight = |step: i32| (-0.5 * (step as f32 / sigma_px).powi(2)).exp();
    let weights: Vec<f32> = (-radius..=radius).map(weight).collect();
    let sum: f32 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

fn weighted(kernel: &[f32], values: &[[f32; 3]]) -> [f32; 3] {
    let mut sum = [0.0; 3];
    for (weight, value) in kernel.iter().zip(values) {
        for channel in 0..3 {
            sum[channel] += weight * value[channel];
        }
    }
    sum
}

/// Returns the positions `0..length` and `radius` reflected ones on either side; the border
/// repeats.
fn mirrored(length: usize, radius: usize) -> impl Iterator<Item = usize> {
    let (length, radius) = (length.cast_signed(), radius.cast_signed());
    (-radius..length + radius).map(move |position| {
        let wrapped = position.rem_euclid(2 * length);
        wrapped.min(2 * length - 1 - wrapped).cast_unsigned()
    })
}

/// Two neighbouring pixels and the Euclidean distance of their colours.
#[derive(Debug, Clone, Copy)]
struct Edge {
    weight: f32,
    from: u32,
    to: u32,
}

/// Returns every edge to the right, down and along both diagonals, the lightest first.
///
/// A counting sort in steps of 1/128 of a grey level: stable, and linear in time.
fn sorted_edges(image: &Smoothed) -> Vec<Edge> {
    const STEPS_PER_LEVEL: f32 = 128.0;
    // √3 · 255 · 128 is the largest weight in steps.
    const BUCKETS: usize = 56_536;
    let edges = edges(image);
    let bucket = |edge: &Edge| ((edge.weight * STEPS_PER_LEVEL) as usize).min(BUCKETS - 1);
    let mut starts = vec![0_u32; BUCKETS + 1];
    for edge in &edges {
        starts[bucket(edge) + 1] += 1;
    }
    for index in 1..starts.len() {
        starts[index] += starts[index - 1];
    }
    let mut sorted = vec![Edge { weight: 0.0, from: 0, to: 0 }; edges.len()];
    for edge in &edges {
        let slot = &mut starts[bucket(edge)];
        sorted[*slot as usize] = *edge;
        *slot += 1;
    }
    sorted
}

fn edges(image: &Smoothed) -> Vec<Edge> {
    let (width, height) = (image.width, image.height);
    let mut edges = Vec::with_capacity(4 * width * height);
    let mut push = |from: usize, to: usize| {
        let (a, b) = (image.values[from], image.values[to]);
        let squares = (0..3).map(|channel| (a[channel] - b[channel]).powi(2)).sum::<f32>();
        let (from, to) = (from as u32, to as u32);
        edges.push(Edge { weight: squares.sqrt(), from, to });
    };
    for y in 0..height {
        for x in 0..width {
            let here = y * width + x;
            let (right, below) = (x + 1 < width, y + 1 < height);
            if right {
                push(here, here + 1);
            }
            if below {
                push(here, here + width);
            }
            if right && below {
                push(here, here + width + 1);
            }
            if right && y > 0 {
                push(here, here - width + 1);
            }
        }
    }
    edges
}

/// Disjoint sets of pixels, with the size and the threshold of each.
struct Forest {
    parents: Vec<u32>,
    sizes: Vec<u32>,
    /// The component's internal difference plus `scale / size`.
    thresholds: Vec<f32>,
    scale: f32,
}

impl Forest {
    fn new(pixels: usize, scale: f32) -> Self {
        Self {
            parents: (0_u32..).take(pixels).collect(),
            sizes: vec![1; pixels],
            thresholds: vec![scale; pixels],
            scale,
        }
    }

    /// Returns the pixel that represents the component, and halves the path to it.
    fn root(&mut self, mut pixel: u32) -> u32 {
        while self.parents[pixel as usize] != pixel {
            let parent = self.parents[pixel as usize];
            let grandparent = self.parents[parent as usize];
            self.parents[pixel as usize] = grandparent;
            pixel = grandparent;
        }
        pixel
    }

    /// Joins the edge's ends if the criterion holds. Returns true if they are in one component now.
    fn join_if_alike(&mut self, edge: &Edge) -> bool {
        let (a, b) = (self.root(edge.from), self.root(edge.to));
        if a == b {
            return true;
        }
        let weakest = self.thresholds[a as usize].min(self.thresholds[b as usize]);
        if edge.weight > weakest {
            return false;
        }
        let root = self.join(a, b);
        // Weights only grow, so this one is the component's internal difference.
        self.thresholds[root] = edge.weight + self.scale / self.sizes[root] as f32;
        true
    }

    fn join_if_small(&mut self, edge: &Edge, area_min_px: u32) {
        let (a, b) = (self.root(edge.from), self.root(edge.to));
        let smaller = self.sizes[a as usize].min(self.sizes[b as usize]);
        if a != b && smaller < area_min_px {
            self.join(a, b);
        }
    }

    fn join(&mut self, a: u32, b: u32) -> usize {
        let a_is_larger = self.sizes[a as usize] >= self.sizes[b as usize];
        let (root, child) = if a_is_larger { (a, b) } else { (b, a) };
        self.parents[child as usize] = root;
        self.sizes[root as usize] += self.sizes[child as usize];
        root as usize
    }
}
