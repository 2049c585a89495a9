//! The progress of downloads as lines, for output that is not a terminal.

use std::time::{Duration, Instant};

use bytesize::ByteSize;

use crate::checkpoints::hub::DownloadProgress;

/// Time between two lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// Writes a line every ten seconds.
pub(crate) struct ProgressLines {
    last: Instant,
}

impl ProgressLines {
    pub(crate) fn new(now: Instant) -> Self {
        Self { last: now }
    }

    /// Returns the line to print, or `None` if the last one is less than ten seconds old.
    pub(crate) fn line(&mut self, progress: DownloadProgress<'_>, now: Instant) -> Option<String> {
        if now.duration_since(self.last) < INTERVAL {
            return None;
        }
        self.last = now;
        let size = |bytes| ByteSize(bytes).display().si();
        let DownloadProgress { file, bytes_done, bytes_total } = progress;
        let done = size(bytes_done);
        let Some(percent) = (100 * bytes_done).checked_div(bytes_total) else {
            return Some(format!("{file}: {done}"));
        };
        Some(format!("{file}: {done} of {} ({percent} %)", size(bytes_total)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_printed_every_ten_seconds() {
        let start = Instant::now();
        let mut lines = ProgressLines::new(start);
        let mut line = |seconds, bytes_done, bytes_total| {
            let progress = DownloadProgress { file: "model.pt", bytes_done, bytes_total };
            lines.line(progress, start + Duration::from_secs(seconds))
        };
        assert_eq!(line(9, 1_000_000, 156_000_000), None);
        let expected = "model.pt: 39.0 MB of 156.0 MB (25 %)";
        assert_eq!(line(11, 39_000_000, 156_000_000).as_deref(), Some(expected));
        assert_eq!(line(20, 40_000_000, 156_000_000), None);
        assert_eq!(line(21, 40_000_000, 0).as_deref(), Some("model.pt: 40.0 MB"));
    }
}
