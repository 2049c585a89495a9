//! Terminal output: one aligned line per event, below a header, and a line for each reason.

use crate::event::{QualityEvent, Rating};
use crate::redact::{self, printable};
use crate::report::reason_group::ReasonGroup;

/// Maximum length of a rating's word; a longer one is shortened.
const WORD_CHARACTERS_MAX: usize = 11;

/// Returns the column titles.
pub fn header() -> String {
    row(["score", "expected", "global", "local", "regions", "verdict"], "image")
}

/// Returns the main numbers of an event and the name of its image.
pub fn line(event: &QualityEvent) -> String {
    let score = format!("{:.2}", event.score);
    let expected = format!("{:.2}", event.score_expected);
    let global = global(&event.global);
    let local = event.local.map_or_else(|| "-".to_owned(), |local| format!("{local:.2}"));
    let regions = event.objects.len().to_string();
    let verdict = event.verdict.as_ref().map_or("-", |verdict| verdict.outcome.name());
    // A reference without an id is named by its URI, which may contain a signature.
    let id = printable(&redact::id(&event.reference.id));
    row([&score, &expected, &global, &local, &regions, verdict], &id)
}

/// Returns a line for each code of an event's reasons, to be printed below the event's own line.
pub fn reason_lines(event: &QualityEvent) -> Vec<String> {
    let line = |ReasonGroup { code, strength, scopes, text }: ReasonGroup<'_>| {
        format!("        {code} {strength:.2} ({scopes}): {}", printable(text))
    };
    ReasonGroup::of(event).into_iter().map(line).collect()
}

fn row([score, expected, global, local, regions, verdict]: [&str; 6], image: &str) -> String {
    let global_width = WORD_CHARACTERS_MAX + 2;
    format!(
        "{score:>6}  {expected:>8}  {global:<global_width$}  {local:>5}  {regions:>7}  \
         {verdict:<7}  {image}"
    )
}

fn global(rating: &Rating) -> String {
    let word = printable(&rating.word);
    if word.chars().count() <= WORD_CHARACTERS_MAX {
        return format!("{} {word}", rating.level);
    }
    let start: String = word.chars().take(WORD_CHARACTERS_MAX - 1).collect();
    format!("{} {start}…", rating.level)
}
