//! SVG pictures of an evaluation: people's scores against ours with the histograms of both, and the
//! residuals.

use std::fmt;

use crate::method::agreement::Logistic;

/// Size of the plot without its margins.
const SIDE: f64 = 420.0;
/// Height of a histogram.
const HISTOGRAM: f64 = 70.0;
/// Space for the labels of the axes.
const MARGIN: f64 = 56.0;
/// Number of bars of a histogram.
const BARS: usize = 40;
/// Number of labels on an axis.
const TICKS: u8 = 5;
/// Maximum number of drawn points; of more, an even selection is drawn.
const POINTS_MAX: usize = 5000;
/// Number of straight pieces of the drawn curve.
const CURVE_PIECES: u8 = 100;

/// The range of an axis.
#[derive(Debug, Clone, Copy)]
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    /// Covers all values, with a little space.
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let start = (f64::INFINITY, f64::NEG_INFINITY);
        let (low, high) = values.fold(start, |(low, high), it| (low.min(it), high.max(it)));
        let space = ((high - low) * 0.03).max(1e-9);
        Self { low: low - space, high: high + space }
    }

    /// Returns the place of a value, from 0 to 1.
    fn place(self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// Returns the counts of the values in equal parts of the axis.
    fn histogram(self, values: impl Iterator<Item = f64>) -> [usize; BARS] {
        let mut bars = [0; BARS];
        for value in values {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1")]
            let bar = (self.place(value).clamp(0.0, 1.0) * BARS as f64) as usize;
            bars[bar.min(BARS - 1)] += 1;
        }
        bars
    }

    fn ticks(self) -> impl Iterator<Item = f64> {
        let step = (self.high - self.low) / f64::from(TICKS);
        (0..=TICKS).map(move |tick| self.low + f64::from(tick) * step)
    }
}

/// People's scores over ours, the fitted curve, and the histogram of each (the paper's Figure 4).
pub(crate) struct Scatter<'a> {
    /// Pairs of our score and people's.
    pub(crate) points: &'a [(f64, f64)],
    pub(crate) curve: &'a Logistic,
}

impl fmt::Display for Scatter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let x_axis = Axis::of(self.points.iter().map(|point| point.0));
        let y_axis = Axis::of(self.points.iter().map(|point| point.1));
        let plot = Plot { x_axis, y_axis, top: HISTOGRAM + 8.0 };
        let (width, height) = (MARGIN + SIDE + HISTOGRAM + 16.0, plot.top + SIDE + MARGIN);
        open_svg(f, width, height, "People's scores over ours, with the fitted curve")?;
        plot.write_axes(f, "our score", "people's score")?;
        plot.write_points(f, self.points)?;
        f.write_str("<polyline class=\"fit\" points=\"")?;
        for piece in 0..=CURVE_PIECES {
            let share = f64::from(piece) / f64::from(CURVE_PIECES);
            let score = x_axis.low + share * (x_axis.high - x_axis.low);
            let opinion = self.curve.map(score).clamp(y_axis.low, y_axis.high);
            write!(f, "{:.1},{:.1} ", plot.x(score), plot.y(opinion))?;
        }
        f.write_str("\"/>\n")?;
        let bars = x_axis.histogram(self.points.iter().map(|point| point.0));
        for (index, length) in lengths(&bars).enumerate() {
            let left = MARGIN + SIDE * index as f64 / BARS as f64;
            let (wide, top) = (SIDE / BARS as f64 - 1.0, HISTOGRAM - length);
            writeln!(
                f,
                "<path class=\"bar\" d=\"M{left:.1} {top:.1}h{wide:.1}v{length:.1}h-{wide:.1}z\"/>"
            )?;
        }
        let bars = y_axis.histogram(self.points.iter().map(|point| point.1));
        for (index, length) in lengths(&bars).enumerate() {
            let bottom = plot.top + SIDE * (1.0 - index as f64 / BARS as f64);
            let (left, tall) = (MARGIN + SIDE + 8.0, SIDE / BARS as f64 - 1.0);
            writeln!(
                f,
                "<path class=\"bar\" d=\"M{left} {bottom:.1}h{length:.1}v-{tall:.1}h-{length:.1}z\"/>"
            )?;
        }
        f.write_str("</svg>\n")
    }
}

/// People's scores less the curve's, over people's scores.
pub(crate) struct Residuals<'a> {
    /// Pairs of our score and people's.
    pub(crate) points: &'a [(f64, f64)],
    pub(crate) curve: &'a Logistic,
}

impl fmt::Display for Residuals<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let residual = |&(score, opinion): &(f64, f64)| (opinion, opinion - self.curve.map(score));
        let points: Vec<(f64, f64)> = self.points.iter().map(residual).collect();
        let x_axis = Axis::of(points.iter().map(|point| point.0));
        let largest = points.iter().map(|point| point.1.abs()).fold(1e-9, f64::max);
        let y_axis = Axis { low: -1.05 * largest, high: 1.05 * largest };
        let plot = Plot { x_axis, y_axis, top: 8.0 };
        open_svg(f, MARGIN + SIDE + 16.0, plot.top + SIDE + MARGIN, "Residuals")?;
        plot.write_axes(f, "people's score", "people's score less the fitted one")?;
        let (zero, right) = (plot.y(0.0), MARGIN + SIDE);
        writeln!(f, "<path class=\"zero\" d=\"M{MARGIN} {zero:.1}H{right}\"/>")?;
        plot.write_points(f, &points)?;
        f.write_str("</svg>\n")
    }
}

fn open_svg(f: &mut fmt::Formatter<'_>, width: f64, height: f64, title: &str) -> fmt::Result {
    writeln!(f, "<svg viewBox=\"0 0 {width} {height}\" role=\"img\"><title>{title}</title>")
}

/// Returns the lengths of the bars; the longest fills the histogram.
fn lengths(bars: &[usize; BARS]) -> impl Iterator<Item = f64> {
    let most = bars.iter().copied().max().unwrap_or(0).max(1) as f64;
    bars.iter().map(move |count| *count as f64 / most * (HISTOGRAM - 4.0))
}

/// The square between the axes.
struct Plot {
    x_axis: Axis,
    y_axis: Axis,
    top: f64,
}

impl Plot {
    fn x(&self, value: f64) -> f64 {
        MARGIN + SIDE * self.x_axis.place(value)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + SIDE * (1.0 - self.y_axis.place(value))
    }

    fn write_axes(&self, f: &mut fmt::Formatter<'_>, x_name: &str, y_name: &str) -> fmt::Result {
        let (bottom, right) = (self.top + SIDE, MARGIN + SIDE);
        writeln!(f, "<path class=\"frame\" d=\"M{MARGIN} {}V{bottom}H{right}\"/>", self.top)?;
        for value in self.x_axis.ticks() {
            let (x, y) = (self.x(value), bottom + 18.0);
            writeln!(f, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{value:.1}</text>")?;
        }
        for value in self.y_axis.ticks() {
            let (x, y) = (MARGIN - 6.0, self.y(value) + 4.0);
            writeln!(f, "<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{value:.1}</text>")?;
        }
        let (middle, below) = (MARGIN + SIDE / 2.0, bottom + 40.0);
        writeln!(f, "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">{x_name}</text>")?;
        let height = self.top + SIDE / 2.0;
        writeln!(
            f,
            "<text x=\"12\" y=\"{height}\" text-anchor=\"middle\" \
             transform=\"rotate(-90 12 {height})\">{y_name}</text>"
        )
    }

    fn write_points(&self, f: &mut fmt::Formatter<'_>, points: &[(f64, f64)]) -> fmt::Result {
        let step = points.len().div_ceil(POINTS_MAX).max(1);
        f.write_str("<path class=\"points\" d=\"")?;
        for (x, y) in points.iter().step_by(step) {
            // A line without length is a dot, because its ends are round.
            write!(f, "M{:.1} {:.1}h0", self.x(*x), self.y(*y))?;
        }
        f.write_str("\"/>\n")
    }
}
