//! Non-maximum suppression: keeps only the box with the best score among overlapping ones.

/// Returns the indices of the boxes that are kept, the best score first.
///
/// Boxes are `[left, top, right, bottom]`; their sides are plain differences. A box is dropped if
/// its intersection over union with a better one that is kept is *above* the threshold. Equal
/// scores keep their order, and two boxes without area never drop each other. The arithmetic is
/// torchvision's on a CPU: ratios in `f32`, compared with the threshold in `f64`.
pub fn non_maximum_suppression(boxes: &[[f32; 4]], scores: &[f32], threshold: f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..boxes.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let area = |[left, top, right, bottom]: [f32; 4]| (right - left) * (bottom - top);
    let areas: Vec<f32> = boxes.iter().copied().map(area).collect();
    let mut is_dropped = vec![false; boxes.len()];
    let mut kept = Vec::new();
    for (position, &index) in order.iter().enumerate() {
        if is_dropped[index] {
            continue;
        }
        kept.push(index);
        let best = boxes[index];
        for &other in &order[position + 1..] {
            let bbox = boxes[other];
            let width = (best[2].min(bbox[2]) - best[0].max(bbox[0])).max(0.0);
            let height = (best[3].min(bbox[3]) - best[1].max(bbox[1])).max(0.0);
            let shared = width * height;
            // The ratio of two boxes without area is NaN, which is not above any threshold.
            let ratio = shared / (areas[index] + areas[other] - shared);
            is_dropped[other] |= f64::from(ratio) > threshold;
        }
    }
    kept
}
