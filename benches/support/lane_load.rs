//! The load of the engine's lanes.

/// Returns the busy seconds of the lanes `segment` and `score`, summed over all devices, from the
/// text of `/metrics`.
pub(crate) fn busy_seconds(page: &str) -> [f64; 2] {
    ["segment", "score"].map(|lane| {
        let lines = page.lines().filter(|line| {
            line.starts_with("dogiqa_lane_busy_seconds{")
                && line.contains(&format!("lane=\"{lane}\""))
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    })
}
