//! From many components to few regions: small ones and look-alikes are joined to a neighbour.
//!
//! The graph criterion compares pixels, so noise and texture split what is one thing to the eye.
//! Mean colours of whole components are steady under noise, so the number of regions that is left
//! says more about the picture than about its grain.

use std::collections::BTreeSet;

use super::felzenszwalb::{LabelMap, Smoothed};

/// When components are joined.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Parameters {
    /// Most regions that are left.
    pub(super) regions_max: usize,
    /// Regions smaller than this are joined to the neighbour most like them.
    pub(super) area_min_px: u32,
    /// Neighbours whose mean colours differ by less than this, in grey levels, are joined.
    pub(super) colour_distance_min: f32,
}

/// Joins the components of `labels`, made of `image`, until the parameters hold. Regions stay
/// connected, because only neighbours are joined.
pub(super) fn merge(image: &Smoothed, labels: &LabelMap, parameters: &Parameters) -> LabelMap {
    let mut parts = Parts::new(image, labels);
    while let Some(smallest) = parts.smallest() {
        let is_small = parts.areas_px[smallest] < parameters.area_min_px;
        if !is_small || !parts.join_to_nearest(smallest) {
            break;
        }
    }
    while let Some((distance, a, b)) = parts.nearest_pair() {
        if distance >= parameters.colour_distance_min {
            break;
        }
        parts.join(a, b);
    }
    while parts.alive > parameters.regions_max {
        let Some(smallest) = parts.smallest() else { break };
        if !parts.join_to_nearest(smallest) {
            break;
        }
    }
    let labels = labels.labels.iter().map(|&label| parts.root(label as usize) as u32).collect();
    LabelMap::renumbered(image.width, image.height, labels)
}

/// The components, those that were joined to another included.
struct Parts {
    areas_px: Vec<u32>,
    sums: Vec<[f64; 3]>,
    neighbours: Vec<BTreeSet<usize>>,
    joined_to: Vec<Option<usize>>,
    alive: usize,
}

impl Parts {
    fn new(image: &Smoothed, labels: &LabelMap) -> Self {
        let mut parts = Self {
            areas_px: vec![0; labels.count],
            sums: vec![[0.0; 3]; labels.count],
            neighbours: vec![BTreeSet::new(); labels.count],
            joined_to: vec![None; labels.count],
            alive: labels.count,
        };
        for (&label, colour) in labels.labels.iter().zip(&image.values) {
            parts.areas_px[label as usize] += 1;
            for (sum, &value) in parts.sums[label as usize].iter_mut().zip(colour) {
                *sum += f64::from(value);
            }
        }
        let mut seen = vec![false; labels.count * labels.count];
        for (a, b) in touching(labels) {
            if !std::mem::replace(&mut seen[a * labels.count + b], true) {
                parts.neighbours[a].insert(b);
                parts.neighbours[b].insert(a);
            }
        }
        parts
    }

    fn root(&self, mut part: usize) -> usize {
        while let Some(other) = self.joined_to[part] {
            part = other;
        }
        part
    }

    fn is_alive(&self, part: usize) -> bool {
        self.joined_to[part].is_none()
    }

    /// Euclidean distance of the mean colours.
    fn distance(&self, a: usize, b: usize) -> f32 {
        let (size_a, size_b) = (f64::from(self.areas_px[a]), f64::from(self.areas_px[b]));
        let difference = |i| self.sums[a][i] / size_a - self.sums[b][i] / size_b;
        (0..3).map(|i| f64::powi(difference(i), 2)).sum::<f64>().sqrt() as f32
    }

    fn smallest(&self) -> Option<usize> {
        let alive = (0..self.areas_px.len()).filter(|&part| self.is_alive(part));
        alive.min_by_key(|&part| self.areas_px[part])
    }

    fn nearest_pair(&self) -> Option<(f32, usize, usize)> {
        let pairs = (0..self.areas_px.len()).filter(|&part| self.is_alive(part)).flat_map(|a| {
            let later = self.neighbours[a].range(a + 1..);
            later.map(move |&b| (self.distance(a, b), a, b))
        });
        pairs.min_by(|left, right| left.0.total_cmp(&right.0))
    }

    /// False when the part has no neighbour: it is the whole image.
    fn join_to_nearest(&mut self, part: usize) -> bool {
        let distance = |&other: &usize| self.distance(part, other);
        let neighbours = self.neighbours[part].iter().copied();
        let nearest = neighbours.min_by(|a, b| distance(a).total_cmp(&distance(b)));
        nearest.inspect(|&other| self.join(other, part)).is_some()
    }

    /// Joins `from` to `to`.
    fn join(&mut self, to: usize, from: usize) {
        self.areas_px[to] += self.areas_px[from];
        for channel in 0..3 {
            self.sums[to][channel] += self.sums[from][channel];
        }
        for neighbour in std::mem::take(&mut self.neighbours[from]) {
            self.neighbours[neighbour].remove(&from);
            if neighbour != to {
                self.neighbours[neighbour].insert(to);
                self.neighbours[to].insert(neighbour);
            }
        }
        self.joined_to[from] = Some(to);
        self.alive -= 1;
    }
}

/// Pairs of different labels on 8-neighbouring pixels, with repetitions.
fn touching(map: &LabelMap) -> impl Iterator<Item = (usize, usize)> {
    let at = move |x: usize, y: usize| map.labels[y * map.width + x] as usize;
    let pixels = (0..map.height).flat_map(move |y| (0..map.width).map(move |x| (x, y)));
    pixels
        .flat_map(move |(x, y)| {
            let (right, below) = (x + 1 < map.width, y + 1 < map.height);
            let here = at(x, y);
            [
                right.then(|| (here, at(x + 1, y))),
                below.then(|| (here, at(x, y + 1))),
                (right && below).then(|| (here, at(x + 1, y + 1))),
                (right && y > 0).then(|| (here, at(x + 1, y - 1))),
            ]
        })
        .flatten()
        .filter(|(a, b)| a != b)
}
