//! An HTML page over an evaluation: scatter plots, residuals, the largest errors, and the agreement
//! by kind of distortion. It loads nothing from the network.

use std::fmt;

use crate::evaluation::{Figure, FigureKind, Figures, KindAgreement};
use crate::report::escape::{Link, Text};
use crate::report::scatter::{Residuals, Scatter};

const STYLE: &str = include_str!("page.css");
const EVALUATION_STYLE: &str = include_str!("evaluation.css");

/// A page under construction.
#[derive(Debug, Default)]
pub struct EvaluationPage {
    /// Finished HTML of each section.
    sections: Vec<String>,
}

/// One set of scores on one data set.
#[derive(Debug)]
pub struct AgreementSection<'a> {
    /// Heading, such as the data set and the engine.
    pub title: &'a str,
    /// The figures with their intervals.
    pub figures: &'a Figures,
    /// Pairs of our score and people's.
    pub points: &'a [(f64, f64)],
    /// The images with the largest errors, the largest first.
    pub errors: &'a [LargeError],
    /// The agreement of each kind of distortion.
    pub kinds: &'a [KindAgreement],
}

/// An image whose predicted opinion is far from people's.
#[derive(Debug, Clone)]
pub struct LargeError {
    /// Name of the image.
    pub name: String,
    /// Path of its picture, relative to the page, if it could be drawn.
    pub picture: Option<String>,
    /// Our score.
    pub score: f64,
    /// Opinion that the fitted curve predicts from the score.
    pub predicted: f64,
    /// People's score.
    pub opinion: f64,
}

impl EvaluationPage {
    /// Adds a section.
    pub fn add(&mut self, section: &AgreementSection<'_>) {
        self.sections.push(section.to_string());
    }

    /// Returns the whole page as HTML.
    pub fn render(&self) -> String {
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
             img-src 'self' file: data:; style-src 'unsafe-inline'\">\n\
             <title>Agreement with people</title>\n<style>\n{STYLE}{EVALUATION_STYLE}</style>\n\
             </head>\n<body>\n<header>\n<h1>Agreement with people</h1>\n\
             <p class=\"lead quiet\">Each point is an image. The curve is the four-parameter \
             logistic that maps our score to people's scale; in brackets are 95 % intervals.</p>\n\
             </header>\n<main>\n{}</main>\n</body>\n</html>\n",
            self.sections.concat()
        )
    }
}

impl fmt::Display for AgreementSection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let images = self.figures.images;
        write!(
            f,
            "<section class=\"agreement\">\n<h2>{}</h2>\n<p class=\"quiet\">{images} images</p>\n",
            Text(self.title)
        )?;
        self.write_figures(f)?;
        let (points, curve) = (self.points, &self.figures.logistic);
        write!(
            f,
            "<div class=\"plots\">\n<figure>{}</figure>\n<figure>{}</figure>\n</div>\n",
            Scatter { points, curve },
            Residuals { points, curve },
        )?;
        self.write_errors(f)?;
        self.write_kinds(f)?;
        f.write_str("</section>\n")
    }
}

impl AgreementSection<'_> {
    fn write_figures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<div class=\"scroll\"><table><thead><tr>")?;
        for kind in FigureKind::ALL {
            write!(f, "<th scope=\"col\">{}</th>", kind.name())?;
        }
        f.write_str("</tr></thead><tbody><tr>")?;
        for kind in FigureKind::ALL {
            let Figure { value, interval } = self.figures.get(kind);
            write!(f, "<td>{value:.3}")?;
            if let Some(interval) = interval {
                write!(
                    f,
                    " <span class=\"quiet\">[{:.3}, {:.3}]</span>",
                    interval.low, interval.high
                )?;
            }
            f.write_str("</td>")?;
        }
        f.write_str("</tr></tbody></table></div>\n")
    }

    fn write_errors(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.errors.is_empty() {
            return Ok(());
        }
        f.write_str("<h3>Largest errors</h3>\n<div class=\"errors\">\n")?;
        for error in self.errors {
            f.write_str("<figure>")?;
            if let Some(picture) = &error.picture {
                let (link, name) = (Link(picture), Text(&error.name));
                write!(
                    f,
                    "<a href=\"{link}\"><img src=\"{link}\" loading=\"lazy\" alt=\"{name}, \
                     annotated\"></a>"
                )?;
            }
            let direction = if error.predicted > error.opinion { "too high" } else { "too low" };
            writeln!(
                f,
                "<figcaption>{}<br><b>{direction}</b>: predicted {:.2}, people {:.2} \
                 <span class=\"quiet\">(score {:.2})</span></figcaption></figure>",
                Text(&error.name),
                error.predicted,
                error.opinion,
                error.score,
            )?;
        }
        f.write_str("</div>\n")
    }

    fn write_kinds(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kinds.is_empty() {
            return Ok(());
        }
        f.write_str(
            "<h3>By kind of distortion</h3>\n<div class=\"scroll\"><table><thead><tr>\
             <th scope=\"col\">kind</th><th scope=\"col\">images</th><th scope=\"col\">SRCC</th>\
             <th scope=\"col\">PLCC</th></tr></thead><tbody>\n",
        )?;
        let number =
            |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |it| format!("{it:.3}"));
        for row in self.kinds {
            writeln!(
                f,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                Text(&row.kind),
                row.images,
                number(row.srcc),
                number(row.plcc),
            )?;
        }
        f.write_str("</tbody></table></div>\n")
    }
}
