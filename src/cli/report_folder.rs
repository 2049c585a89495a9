//! A report folder: annotated pictures, the events as JSON lines, and a page that shows both.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::event::{ImageReference, QualityEvent};
use crate::pipeline::Journey;
use crate::redact;
use crate::report::{Page, annotate};

/// A report folder that is being written.
pub(crate) struct ReportFolder {
    folder: PathBuf,
    events: BufWriter<File>,
    page: Page,
    pictures: usize,
}

impl ReportFolder {
    /// Creates the folder. Files of an earlier report in it are replaced.
    pub(crate) fn create(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let path = folder.join("events.jsonl");
        let events = File::create(&path).with_context(|| path.display().to_string())?;
        let events = BufWriter::new(events);
        Ok(Self { folder: folder.to_owned(), events, page: Page::default(), pictures: 0 })
    }

    /// Adds an image: fetches and decodes it a second time, draws the event's masks on it, and
    /// writes picture and event.
    pub(crate) async fn add(
        &mut self,
        journey: &Journey,
        reference: &ImageReference,
        event: &QualityEvent,
    ) -> anyhow::Result<()> {
        let picture = journey
            .fetch_picture(reference)
            .await
            .with_context(|| redact::id(&reference.id).into_owned())?;
        let name = picture_file_name(self.pictures, &reference.id);
        self.pictures += 1;
        let path = self.folder.join(&name);
        let drawn = event.clone();
        let save = move || -> anyhow::Result<()> {
            let annotated = annotate(&picture, &drawn)?;
            annotated.save(&path).with_context(|| path.display().to_string())
        };
        tokio::task::spawn_blocking(save).await??;
        serde_json::to_writer(&mut self.events, event)?;
        self.events.write_all(b"\n").context("events.jsonl")?;
        self.page.add(event, &name);
        Ok(())
    }

    /// Writes the page and returns its path.
    pub(crate) fn finish(mut self) -> anyhow::Result<PathBuf> {
        self.events.flush().context("events.jsonl")?;
        let path = self.folder.join("index.html");
        fs::write(&path, self.page.render()).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

/// Returns a file name that is valid on every system and still shows the image's id.
pub(crate) fn picture_file_name(index: usize, id: &str) -> String {
    let stem = Path::new(id).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let stem: String = stem.unwrap_or_default().chars().map(plain).take(60).collect();
    format!("{index:03}-{stem}.jpg")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picture_file_names_are_plain_and_never_leave_the_folder() {
        assert_eq!(picture_file_name(7, "photos/ä b/cat.final.jpg"), "007-cat_final.jpg");
        assert_eq!(picture_file_name(0, "../../.."), "000-.jpg");
        assert_eq!(picture_file_name(12, "s3://bucket/../x?y"), "012-x_y.jpg");
    }
}
