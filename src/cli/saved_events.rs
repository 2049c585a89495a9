//! Files of quality events: read for an evaluation, appended to while images are scored.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::cli::terminal::print_status;
use crate::event::QualityEvent;

/// Reads the events of a file of JSON lines. Dead letters, which `watch --dead-letters` prints
/// between events, are counted and left out. A last line without its end, which a killed command
/// leaves, is left out too.
///
/// # Errors
/// Fails if the file cannot be read, or if a line is neither an event nor a dead letter.
pub(crate) fn read_events(path: &Path) -> anyhow::Result<Vec<QualityEvent>> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    Ok(read_lines(path, file)?.events)
}

/// A file to which events are appended.
#[derive(Debug)]
pub(crate) struct EventFile {
    file: File,
}

impl EventFile {
    /// Creates the file, or continues it and returns its events. A line that a killed command left
    /// unfinished is removed.
    ///
    /// # Errors
    /// Fails if the file exists and is not continued, or if it cannot be read or written.
    pub(crate) fn open(
        path: &Path,
        is_continued: bool,
    ) -> anyhow::Result<(Self, Vec<QualityEvent>)> {
        let shown = path.display();
        if !is_continued && fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0) {
            bail!("{shown} exists; continue it with --resume, or name another file");
        }
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).with_context(|| shown.to_string())?;
        let read = file.try_clone().with_context(|| shown.to_string())?;
        let EventLines { mut events, finished_events, finished_bytes } = read_lines(path, read)?;
        events.truncate(finished_events);
        file.set_len(finished_bytes).with_context(|| shown.to_string())?;
        file.seek(SeekFrom::End(0)).with_context(|| shown.to_string())?;
        Ok((Self { file }, events))
    }

    /// Appends an event. It is in the file when this returns, also if the process is killed then.
    pub(crate) fn append(&mut self, event: &QualityEvent) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.file.write_all(&line).context("appending an event to the file of --save")
    }
}

/// The content of a file of events.
struct EventLines {
    events: Vec<QualityEvent>,
    /// Number of events in lines that have an end.
    finished_events: usize,
    /// Number of bytes of the lines that have an end.
    finished_bytes: u64,
}

fn read_lines(path: &Path, file: File) -> anyhow::Result<EventLines> {
    let mut reader = BufReader::new(file);
    let mut lines = EventLines { events: Vec::new(), finished_events: 0, finished_bytes: 0 };
    let mut dead_letters = 0_usize;
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = reader.read_until(b'\n', &mut line);
        let bytes = read.with_context(|| format!("{} line {number}", path.display()))?;
        let is_finished = line.ends_with(b"\n");
        if bytes == 0 {
            break;
        }
        match serde_json::from_slice::<QualityEvent>(&line) {
            Ok(event) => lines.events.push(event),
            Err(_) if line.trim_ascii().is_empty() => {}
            Err(_) if is_dead_letter(&line) => dead_letters += 1,
            // The end of a file that was being written.
            Err(_) if !is_finished => {}
            Err(error) => {
                bail!("{} line {number} is not a quality event: {error}", path.display())
            }
        }
        if is_finished {
            lines.finished_events = lines.events.len();
            lines.finished_bytes += bytes as u64;
        }
    }
    if dead_letters > 0 {
        print_status(&format!("{}: {dead_letters} dead letters left out", path.display()));
    }
    Ok(lines)
}

fn is_dead_letter(line: &[u8]) -> bool {
    let has_error = |value: &Value| value.get("score").is_none() && value.get("error").is_some();
    serde_json::from_slice(line).is_ok_and(|value| has_error(&value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = include_str!("../../schemas/examples/quality-event.json");

    fn event_line() -> String {
        let event: QualityEvent = serde_json::from_str(EVENT).unwrap();
        serde_json::to_string(&event).unwrap() + "\n"
    }

    #[test]
    fn a_line_that_a_killed_command_left_unfinished_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let line = event_line();
        let (start, _) = line.split_at(line.len() / 2);
        fs::write(&path, format!("{line}{start}")).unwrap();
        assert_eq!(read_events(&path).unwrap().len(), 1);

        let (mut file, events) = EventFile::open(&path, true).unwrap();
        assert_eq!(events.len(), 1);
        file.append(&events[0]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{line}{line}"));
    }

    #[test]
    fn a_file_is_continued_only_on_request() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        fs::write(&path, event_line()).unwrap();
        let error = EventFile::open(&path, false).unwrap_err().to_string();
        assert!(error.contains("--resume"), "{error}");
    }

    #[test]
    fn dead_letters_are_left_out_and_other_lines_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let dead_letter = r#"{"partition":0,"offset":3,"error":{"code":"decode.corrupt"}}"#;
        fs::write(&path, format!("{dead_letter}\n{}", event_line())).unwrap();
        assert_eq!(read_events(&path).unwrap().len(), 1);
        fs::write(&path, "{\"score\":1}\n").unwrap();
        let error = read_events(&path).unwrap_err().to_string();
        assert!(error.contains("line 1 is not a quality event"), "{error}");
    }
}
