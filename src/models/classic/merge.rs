//! Merges many components to few regions: small and similar ones are joined to a neighbour.
//!
//! The graph criterion compares pixels, so noise and texture split areas that look uniform. The
//! mean colours of whole components are steady under noise, so the remaining number of regions
//! depends on the picture more than on its grain.

use std::collections::BTreeSet;

use crate::models::classic::felzenszwalb::{LabelMap, Smoothed};

/// Rules for joining components.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct MergeRules {
    /// Maximum number of regions.
    pub(crate) regions_max: usize,
    /// Regions smaller than this are joined to their most similar neighbour.
    pub(crate) area_min_px: u32,
    /// Neighbours whose mean colours differ by less than this, in grey levels, are joined.
    pub(crate) colour_distance_min: f32,
}

/// Joins the components of `image` in `labels` until the rules hold. Regions stay connected,
/// because only neighbours are joined.
pub(crate) fn merge(image: &Smoothed, labels: &LabelMap, rules: &MergeRules) -> LabelMap {
    let mut regions = Regions::new(image, labels);
    while let Some(smallest) = regions.smallest() {
        let is_small = regions.areas_px[smallest] < rules.area_min_px;
        if !is_small || !regions.join_to_nearest(smallest) {
            break;
        }
    }
    while let Some((distance, a, b)) = regions.nearest_pair() {
        if distance >= rules.colour_distance_min {
            break;
        }
        regions.join(a, b);
    }
    while regions.alive > rules.regions_max {
        let Some(smallest) = regions.smallest() else { break };
        if !regions.join_to_nearest(smallest) {
            break;
        }
    }
    let labels = labels.labels.iter().map(|&label| regions.root(label as usize) as u32).collect();
    LabelMap::renumbered(image.width, image.height, labels)
}

/// The components and their neighbours. A component that was joined to another keeps its entry.
struct Regions {
    areas_px: Vec<u32>,
    sums: Vec<[f64; 3]>,
    neighbours: Vec<BTreeSet<usize>>,
    joined_to: Vec<Option<usize>>,
    alive: usize,
}

impl Regions {
    fn new(image: &Smoothed, labels: &LabelMap) -> Self {
        let mut regions = Self {
            areas_px: vec![0; labels.count],
            sums: vec![[0.0; 3]; labels.count],
            neighbours: vec![BTreeSet::new(); labels.count],
            joined_to: vec![None; labels.count],
            alive: labels.count,
        };
        for (&label, colour) in labels.labels.iter().zip(&image.values) {
            regions.areas_px[label as usize] += 1;
            for (sum, &value) in regions.sums[label as usize].iter_mut().zip(colour) {
                *sum += f64::from(value);
            }
        }
        let mut seen = vec![false; labels.count * labels.count];
        for (a, b) in touching(labels) {
            if !std::mem::replace(&mut seen[a * labels.count + b], true) {
                regions.neighbours[a].insert(b);
                regions.neighbours[b].insert(a);
            }
        }
        regions
    }

    /// Returns the region that a component now belongs to.
    fn root(&self, component: usize) -> usize {
        let mut region = component;
        while let Some(other) = self.joined_to[region] {
            region = other;
        }
        region
    }

    fn is_alive(&self, region: usize) -> bool {
        self.joined_to[region].is_none()
    }

    /// Returns the Euclidean distance of the mean colours.
    fn distance(&self, a: usize, b: usize) -> f32 {
        let (size_a, size_b) = (f64::from(self.areas_px[a]), f64::from(self.areas_px[b]));
        let difference = |i| self.sums[a][i] / size_a - self.sums[b][i] / size_b;
        (0..3).map(|i| f64::powi(difference(i), 2)).sum::<f64>().sqrt() as f32
    }

    fn smallest(&self) -> Option<usize> {
        let alive = (0..self.areas_px.len()).filter(|&region| self.is_alive(region));
        alive.min_by_key(|&region| self.areas_px[region])
    }

    fn nearest_pair(&self) -> Option<(f32, usize, usize)> {
        let pairs =
            (0..self.areas_px.len()).filter(|&region| self.is_alive(region)).flat_map(|a| {
                let later = self.neighbours[a].range(a + 1..);
                later.map(move |&b| (self.distance(a, b), a, b))
            });
        pairs.min_by(|left, right| left.0.total_cmp(&right.0))
    }

    /// Joins a region to its most similar neighbour. Returns false if it has none, because it is
    /// the whole image.
    fn join_to_nearest(&mut self, region: usize) -> bool {
        let distance = |&other: &usize| self.distance(region, other);
        let neighbours = self.neighbours[region].iter().copied();
        let nearest = neighbours.min_by(|a, b| distance(a).total_cmp(&distance(b)));
        nearest.inspect(|&other| self.join(other, region)).is_some()
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

/// Returns the pairs of different labels on 8-neighbouring pixels, with repetitions.
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
