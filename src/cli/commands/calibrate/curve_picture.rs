//! The rates of all thresholds as an SVG picture.

use std::fmt::Write;

use crate::evaluation::Rates;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
/// Space for the labels of the axes.
const LEFT: f64 = 60.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 50.0;
/// Number of labels on an axis.
const TICKS: u8 = 6;

/// A rate with its name and colour.
type Line = (&'static str, &'static str, fn(&Rates) -> Option<f64>);

const LINES: [Line; 4] = [
    ("rejected", "#555555", |rates| Some(rates.reject_share)),
    ("good rejected", "#c0392b", |rates| rates.false_reject),
    ("bad passed", "#d68910", |rates| rates.false_accept),
    ("precision", "#1e8449", |rates| rates.precision),
];

/// Draws the rates over the thresholds, with a mark at the chosen one.
pub(crate) fn curve_svg(curve: &[(f64, Rates)], chosen: f64) -> String {
    let low = curve.first().map_or(0.0, |point| point.0);
    let high = curve.last().map_or(1.0, |point| point.0).max(low + 1e-9);
    let x = |threshold: f64| LEFT + (threshold - low) / (high - low) * (WIDTH - LEFT - RIGHT);
    let y = |share: f64| TOP + (1.0 - share) * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<title>Rates by threshold</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let mut add = |text: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        svg.write_fmt(text).unwrap_or_default();
        svg.push('\n');
    };
    for tick in 0..=TICKS {
        let share = f64::from(tick) / f64::from(TICKS);
        let (across, threshold) = (y(share), low + share * (high - low));
        let (right, bottom, down) = (WIDTH - RIGHT, HEIGHT - BOTTOM, x(threshold));
        add(format_args!(
            "<path d=\"M{LEFT} {across:.1}H{right}\" stroke=\"#dddddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{:.0} %</text>\
             <text x=\"{down:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{threshold:.2}</text>",
            LEFT - 8.0,
            across + 4.0,
            100.0 * share,
            bottom + 20.0,
        ));
    }
    for (index, (name, colour, rate)) in LINES.into_iter().enumerate() {
        let points = curve.iter().filter_map(|(threshold, rates)| Some((*threshold, rate(rates)?)));
        let points: Vec<String> = points
            .map(|(threshold, share)| format!("{:.1},{:.1}", x(threshold), y(share)))
            .collect();
        if points.is_empty() {
            continue;
        }
        let (right, line) = (WIDTH - RIGHT + 12.0, TOP + 20.0 * (index as f64 + 1.0));
        add(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"{right}\" y=\"{line}\" fill=\"{colour}\">{name}</text>",
            points.join(" "),
        ));
    }
    let (mark, bottom) = (x(chosen), HEIGHT - BOTTOM);
    add(format_args!(
        "<path d=\"M{mark:.1} {TOP}V{bottom}\" stroke=\"#1f4e9c\" stroke-dasharray=\"4 3\"/>\
         <text x=\"{mark:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#1f4e9c\">\
         score_min = {chosen:.3}</text>\n</svg>",
        HEIGHT - 8.0,
    ));
    svg
}
