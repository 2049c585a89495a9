//! Efficient graph-based image segmentation: Felzenszwalb and Huttenlocher, IJCV 59(2), 2004.
//!
//! Pixels are nodes, 8-neighbours are joined by edges weighted with their colour difference. Edges
//! are visited from the lightest to the heaviest; an edge joins two components when it is no
//! heavier than either one's internal difference plus `scale / size`.

use image::RgbImage;

/// How coarse the segmentation is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameters {
    /// Standard deviation in pixels of the Gaussian that smooths the image first.
    pub sigma_px: f32,
    /// The paper's `k` for colours in 0..=255: larger values favour larger components.
    pub scale: f32,
    /// Components smaller than this are joined to a neighbour at the end.
    pub area_min_px: u32,
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
    pub(super) fn renumbered(width: usize, height: usize, mut labels: Vec<u32>) -> Self {
        let top = labels.iter().max().map_or(0, |&label| label as usize + 1);
        let mut names = vec![u32::MAX; top];
        let mut count = 0;
        for label in &mut labels {
            let name = &mut names[*label as usize];
            if *name == u32::MAX {
                *name = count;
                count += 1;
            }
            *label = *name;
        }
        Self { width, height, labels, count: count as usize }
    }
}

/// An RGB image in floating point, three values for each pixel.
pub(super) struct Smoothed {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) values: Vec<[f32; 3]>,
}

/// Segments an image; every component is connected through its 8-neighbours.
///
/// The image should be small (some hundred pixels a side): time grows a little faster than its
/// area, and fine detail is not what the components are for.
pub fn segment(image: &RgbImage, parameters: &Parameters) -> LabelMap {
    let smoothed = smooth(image, parameters.sigma_px);
    segment_smoothed(&smoothed, parameters)
}

pub(super) fn segment_smoothed(image: &Smoothed, parameters: &Parameters) -> LabelMap {
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

/// Gaussian smoothing, cut off at four standard deviations, the border mirrored.
pub(super) fn smooth(image: &RgbImage, sigma_px: f32) -> Smoothed {
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

/// The whole kernel, of odd length, summing to one.
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

/// The positions `0..length` with `radius` more on either side, reflected with the border repeated.
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

/// Every edge to the right, down and along both diagonals, the lightest first.
///
/// Weights are sorted in steps of 1/128 of a grey level by counting, which is stable and linear.
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
        let place = &mut starts[bucket(edge)];
        sorted[*place as usize] = *edge;
        *place += 1;
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

/// Disjoint sets of pixels with what the criterion asks of each.
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

    /// The pixel that stands for the component; halves the path to it on the way.
    fn root(&mut self, mut pixel: u32) -> u32 {
        while self.parents[pixel as usize] != pixel {
            let parent = self.parents[pixel as usize];
            let grandparent = self.parents[parent as usize];
            self.parents[pixel as usize] = grandparent;
            pixel = grandparent;
        }
        pixel
    }

    /// Whether the edge's ends are in one component afterwards.
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
        // Edges come in growing weight, so this one is the component's internal difference.
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
