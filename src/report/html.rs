//! An HTML page over many events, sortable and filterable, that loads nothing from the network.
//!
//! The page is a file next to the annotated pictures that it shows, with style and script inline.
//! All input is escaped on output: [`Text`] for content and attributes, [`Link`] for the paths of
//! pictures.

use std::collections::BTreeMap;
use std::fmt;

use crate::event::{ObjectQuality, QualityEvent, Rating};
use crate::method::{Formula, RegionKind};
use crate::report::colour_scale;
use crate::report::escape::{Link, Text};
use crate::report::reason_group::ReasonGroup;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// An HTML page under construction.
#[derive(Debug, Default)]
pub struct Page {
    /// Finished HTML, one card for each event.
    cards: Vec<String>,
    scores: Vec<f64>,
    /// Images by the level of their global rating.
    by_level: BTreeMap<u8, LevelCount>,
    /// Number of levels of the standard, K.
    levels: usize,
    has_verdicts: bool,
}

#[derive(Debug, Clone, Default)]
struct LevelCount {
    images: usize,
    /// The standard's word; empty until an image has this level.
    word: String,
}

impl Page {
    /// Adds an event. `picture` is the path of its annotated picture, relative to the page.
    pub fn add(&mut self, event: &QualityEvent, picture: &str) {
        let card = Card { event, picture, arrival: self.cards.len() };
        self.cards.push(card.to_string());
        self.scores.push(event.score);
        self.has_verdicts |= event.verdict.is_some();
        self.levels = self.levels.max(event.global.probabilities.len());
        for level in (1..).take(self.levels) {
            self.by_level.entry(level).or_default();
        }
        // A generated answer may be none of the levels.
        let count = self.by_level.entry(event.global.level).or_default();
        count.images += 1;
        count.word.clone_from(&event.global.word);
    }

    /// Returns the whole page as HTML.
    pub fn render(&self) -> String {
        self.to_string()
    }

    fn mean(&self) -> f64 {
        self.scores.iter().sum::<f64>() / self.scores.len().max(1) as f64
    }

    fn median(&self) -> f64 {
        let mut scores = self.scores.clone();
        scores.sort_by(f64::total_cmp);
        let upper = scores.get(scores.len() / 2).copied().unwrap_or(0.0);
        let lower = scores.get(scores.len().saturating_sub(1) / 2).copied().unwrap_or(0.0);
        f64::midpoint(lower, upper)
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
             img-src 'self' file: data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n\
             <title>Image quality</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n\
             <h1>Image quality</h1>\n\
             <p class=\"lead quiet\">Each image is rated as a whole and region by region; the \
             outlines show the regions, from <b>red</b> for the worst level to <b>green</b> for the \
             best. The score combines the global level and the regions' levels, and adds points for \
             the number of regions (in brackets); it can pass the highest level. The events behind \
             this page are in <code>events.jsonl</code> next to it.</p>\n"
        )?;
        self.write_summary(f)?;
        f.write_str("</header>\n<main>\n")?;
        self.write_tools(f)?;
        f.write_str("<div id=\"cards\">\n")?;
        for card in &self.cards {
            f.write_str(card)?;
        }
        write!(
            f,
            "</div>\n</main>\n<dialog><img alt=\"\"></dialog>\n<script>\n{SCRIPT}</script>\n\
             </body>\n</html>\n"
        )
    }
}

impl Page {
    fn write_summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let images = self.cards.len();
        write!(
            f,
            "<div class=\"summary\">\n\
             <div class=\"tile\"><b>{images}</b><span class=\"quiet\">images</span></div>\n\
             <div class=\"tile\"><b>{:.2}</b><span class=\"quiet\">mean score</span></div>\n\
             <div class=\"tile\"><b>{:.2}</b><span class=\"quiet\">median</span></div>\n\
             <div class=\"tile wide\"><span class=\"quiet\">images by global level</span>\
             <div class=\"histogram\">\n",
            self.mean(),
            self.median(),
        )?;
        let most = self.by_level.values().map(|level| level.images).max().unwrap_or(0).max(1);
        for (&number, level) in &self.by_level {
            writeln!(
                f,
                "<button type=\"button\" aria-pressed=\"true\" data-level=\"{number}\" \
                 title=\"{images} images of global level {number} {word}; click to hide or show\">\
                 <i style=\"--share:{share:.3};--colour:{colour}\"></i>{number}</button>",
                images = level.images,
                word = Text(&level.word),
                share = level.images as f64 / most as f64,
                colour = CssColour::of(f64::from(number), self.levels),
            )?;
        }
        f.write_str("</div></div>\n</div>\n")
    }

    /// Writes the search, sort and filter controls, hidden until the script runs.
    fn write_tools(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let highest = self.scores.iter().copied().fold(1.0, f64::max).ceil();
        write!(
            f,
            "<div class=\"tools\" hidden>\n\
             <input type=\"search\" id=\"search\" placeholder=\"Search names\" \
             aria-label=\"Search names\">\n\
             <label>Sort <select id=\"sort\">\
             <option value=\"arrival\">as they arrived</option>\
             <option value=\"worst\">lowest score first</option>\
             <option value=\"best\">highest score first</option>\
             <option value=\"expected\">lowest expected score first</option>\
             <option value=\"region\">worst region first</option>\
             <option value=\"regions\">most regions first</option>\
             <option value=\"name\">by name</option></select></label>\n\
             <label>Score from <input type=\"range\" id=\"least\" min=\"0\" max=\"{highest}\" \
             step=\"0.1\" value=\"0\"><output id=\"least-shown\">0.0</output></label>\n"
        )?;
        if self.has_verdicts {
            f.write_str(
                "<label>Verdict <select id=\"verdict\"><option value=\"\">all</option>\
                 <option>pass</option><option>review</option><option>reject</option>\
                 </select></label>\n",
            )?;
        }
        f.write_str("<span id=\"shown\" role=\"status\"></span>\n</div>\n")
    }
}

/// One event on the page.
struct Card<'a> {
    event: &'a QualityEvent,
    picture: &'a str,
    arrival: usize,
}

impl fmt::Display for Card<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { event, picture, arrival } = self;
        let outcome = event.verdict.as_ref().map(|verdict| verdict.outcome.name());
        let worst_region = event.objects.iter().map(|object| object.rating.expected);
        writeln!(
            f,
            "<article class=\"card\" data-arrival=\"{arrival}\" data-name=\"{name}\" \
             data-score=\"{score}\" data-expected=\"{expected}\" data-level=\"{level}\" \
             data-regions=\"{regions}\" data-region=\"{region}\" data-verdict=\"{verdict}\">\n\
             <a href=\"{link}\"><img src=\"{link}\" loading=\"lazy\" alt=\"{name}, annotated\"></a>\n\
             <div>",
            name = Text(&event.reference.id),
            score = event.score,
            expected = event.score_expected,
            level = event.global.level,
            regions = event.objects.len(),
            region = worst_region.fold(f64::from(u8::MAX), f64::min),
            verdict = outcome.unwrap_or_default(),
            link = Link(picture),
        )?;
        self.write_title(f)?;
        self.write_facts(f)?;
        write_reasons(f, self.event)?;
        write_levels(f, &event.global)?;
        write_regions(f, &event.objects)?;
        self.write_details(f)?;
        f.write_str("</div>\n</article>\n")
    }
}

impl Card<'_> {
    fn write_title(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = self.event;
        let colour = CssColour(colour_scale::colour_of_score(event));
        write!(
            f,
            "<div class=\"title\"><span class=\"score{on_dark}\" style=\"--colour:{colour}\" \
             title=\"score\">{:.2}</span><h2 title=\"{}\">{}</h2>",
            event.score,
            Text(&event.reference.uri),
            Text(&event.reference.id),
            on_dark = if colour.is_dark() { " on-dark" } else { "" },
        )?;
        if let Some(verdict) = &event.verdict {
            let outcome = verdict.outcome.name();
            let reasons = verdict.reasons.join("; ");
            write!(
                f,
                "<span class=\"verdict {outcome}\" title=\"{}: {}\">{outcome}</span>",
                Text(&verdict.policy),
                Text(&reasons)
            )?;
        }
        f.write_str("</div>\n")
    }

    fn write_facts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = self.event;
        let local = event.local.map_or_else(|| "–".to_owned(), |local| format!("{local:.2}"));
        writeln!(
            f,
            "<dl class=\"facts\"><dt>expected</dt><dd>{:.2}</dd><dt>global</dt><dd>{} {}</dd>\
             <dt>local</dt><dd>{local}</dd><dt>regions</dt><dd>{} (+{:.2})</dd></dl>",
            event.score_expected,
            event.global.level,
            Text(&event.global.word),
            event.objects.len(),
            event.segmentation.score,
        )
    }

    fn write_details(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = self.event;
        let (image, engine, times) = (&event.image, &event.engine, &event.timings_ms);
        let rows: [(&str, String); 9] = [
            ("uri", event.reference.uri.clone()),
            (
                "image",
                format!(
                    "{}×{} px, {}, {} bytes",
                    image.width, image.height, image.format, image.bytes
                ),
            ),
            ("sha256", image.sha256.clone()),
            (
                "engine",
                format!(
                    "{} {} ({}, {})",
                    engine.name, engine.version, engine.segmenter, engine.scorer
                ),
            ),
            ("standard", engine.standard.clone()),
            ("formula", engine.formula.map_or("-", Formula::name).to_owned()),
            (
                "time",
                format!(
                    "{:.0} ms: fetch {:.0}, decode {:.0}, segment {:.0}, score {:.0}",
                    times.total, times.fetch, times.decode, times.segment, times.score
                ),
            ),
            ("assessed", event.time_text()),
            ("event", event.event_id.clone()),
        ];
        f.write_str("<details><summary>More</summary>\n<dl class=\"more\">")?;
        for (name, value) in rows {
            write!(f, "<dt>{name}</dt><dd>{}</dd>", Text(&value))?;
        }
        f.write_str("</dl></details>\n")
    }
}

/// Writes a line for each reason, with its sentence.
fn write_reasons(f: &mut fmt::Formatter<'_>, event: &QualityEvent) -> fmt::Result {
    let groups = ReasonGroup::of(event);
    if groups.is_empty() {
        return Ok(());
    }
    f.write_str("<ul class=\"reasons\">")?;
    for ReasonGroup { code, strength, scopes, text } in groups {
        write!(
            f,
            "<li title=\"{scopes}\"><b>{code}</b> {strength:.2} <span class=\"quiet\">{}</span></li>",
            Text(text)
        )?;
    }
    f.write_str("</ul>\n")
}

/// Writes the probability of each level as a bar.
fn write_levels(f: &mut fmt::Formatter<'_>, rating: &Rating) -> fmt::Result {
    f.write_str("<p class=\"quiet caption\">probability of each global level</p>")?;
    f.write_str("<div class=\"levels\">")?;
    let count = rating.probabilities.len();
    for (index, probability) in rating.probabilities.iter().enumerate() {
        let number = index + 1;
        let chosen = if number == usize::from(rating.level) { " class=\"chosen\"" } else { "" };
        write!(
            f,
            "<span{chosen} title=\"level {number}: {percent:.1} %\">\
             <i style=\"--share:{probability:.4};--colour:{colour}\"></i>{number}</span>",
            percent = probability * 100.0,
            colour = CssColour::of(number as f64, count),
        )?;
    }
    f.write_str("</div>\n")
}

fn write_regions(f: &mut fmt::Formatter<'_>, objects: &[ObjectQuality]) -> fmt::Result {
    if objects.is_empty() {
        return Ok(());
    }
    write!(
        f,
        "<details><summary>{} regions</summary>\n<table><thead><tr><th>#</th><th>rating</th>\
         <th class=\"number\">expected</th><th class=\"number\">sure</th>\
         <th class=\"number\">area</th></tr></thead><tbody>\n",
        objects.len()
    )?;
    for object in objects {
        let rating = &object.rating;
        let level = f64::from(rating.level);
        writeln!(
            f,
            "<tr title=\"{kind} at {x}, {y}, {width}×{height} px\"><td>{index}</td>\
             <td><span class=\"dot\" style=\"--colour:{colour}\"></span>{level} {word}</td>\
             <td class=\"number\">{expected:.2}</td><td class=\"number\">{sure:.0} %</td>\
             <td class=\"number\">{area:.1} %</td></tr>",
            kind = kind_name(object),
            x = object.bbox.x,
            y = object.bbox.y,
            width = object.bbox.width,
            height = object.bbox.height,
            index = object.index,
            colour = CssColour::of(level, rating.probabilities.len()),
            word = Text(&rating.word),
            expected = rating.expected,
            sure = rating.confidence * 100.0,
            area = object.area_fraction * 100.0,
        )?;
    }
    f.write_str("</tbody></table></details>\n")
}

fn kind_name(object: &ObjectQuality) -> &'static str {
    match object.kind {
        RegionKind::Object => "object",
        RegionKind::Remainder => "remainder",
        RegionKind::Frame => "whole image",
    }
}

/// A colour in CSS notation.
#[derive(Clone, Copy)]
struct CssColour([u8; 3]);

impl CssColour {
    fn of(level: f64, levels: usize) -> Self {
        Self(colour_scale::colour(level, levels))
    }

    fn is_dark(self) -> bool {
        let [red, green, blue] = self.0.map(u32::from);
        299 * red + 587 * green + 114 * blue < 110_000
    }
}

impl fmt::Display for CssColour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [red, green, blue] = self.0;
        write!(f, "#{red:02x}{green:02x}{blue:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_without_images_is_valid() {
        let page = Page::default().render();
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
        assert!(page.contains("<b>0</b>"));
    }

    #[test]
    fn the_median_of_an_even_count_is_the_mean_of_the_middle_two() {
        let page = Page { scores: vec![4.0, 1.0, 3.0, 9.0], ..Page::default() };
        assert!((page.median() - 3.5).abs() < 1e-12);
        assert!((page.mean() - 4.25).abs() < 1e-12);
    }
}
