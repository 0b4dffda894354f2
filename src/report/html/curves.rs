//! Curves as pictures inside the page.

use std::fmt::Write as _;

/// Size of a picture, pixels.
const SIZE: (f64, f64) = (820.0, 300.0);
/// Room around the curves: left, top, right, bottom.
const MARGIN: (f64, f64, f64, f64) = (72.0, 14.0, 130.0, 34.0);
/// Colours that the style sheet knows.
const COLOURS: usize = 4;

/// A line of a picture. The label is ready for the page.
pub(super) struct Series {
    pub(super) label: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// Where a value stands between two ends.
fn part(value: f64, (low, high): (f64, f64)) -> f64 {
    if high > low {
        ((value - low) / (high - low)).clamp(0.0, 1.0)
    } else {
        0.5
    }
}

/// A round number at or above `value`: 1, 2 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    if !(value > 0.0 && value.is_finite()) {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .iter()
        .map(|m| m * power)
        .find(|n| *n >= value)
        .unwrap_or(value)
}

/// A number with as many digits as it needs.
fn short(value: f64) -> String {
    if value >= 10.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned()
    }
}

struct Frame {
    x: (f64, f64),
    y: (f64, f64),
}

impl Frame {
    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let (left, top, right, bottom) = MARGIN;
        (
            left + part(x, self.x) * (SIZE.0 - left - right),
            SIZE.1 - bottom - part(y, self.y) * (SIZE.1 - top - bottom),
        )
    }
}

/// A line from side to side at a height.
fn across(out: &mut String, class: &str, y: f64) {
    let (left, _, right, _) = MARGIN;
    let _ = write!(
        out,
        "<line class=\"{class}\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
        SIZE.0 - right
    );
}

fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, said: &str) {
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{said}</text>"
    );
}

/// Lines over a frame; `ticks` on the lower axis with what stands below them.
fn draw(
    title: &str,
    unit: &str,
    frame: &Frame,
    ticks: &[(f64, String)],
    series: &[Series],
    expected: Option<f64>,
) -> String {
    let (left, _, right, bottom) = MARGIN;
    let mut out = format!(
        "<svg viewBox=\"0 0 {} {}\" width=\"{}\" height=\"{}\" role=\"img\" aria-label=\"{title}\">\n",
        SIZE.0, SIZE.1, SIZE.0, SIZE.1
    );
    for n in 0..=4 {
        let value = frame.y.1 * f64::from(n) / 4.0;
        let (_, y) = frame.place((frame.x.0, value));
        let unit = if n == 4 { unit } else { "" };
        across(&mut out, "axis", y);
        let said = format!("{}{unit}", short(value));
        text(&mut out, (left - 8.0, y + 4.0), "end", &said);
    }
    for (x, label) in ticks {
        let (x, _) = frame.place((*x, 0.0));
        text(&mut out, (x, SIZE.1 - bottom + 20.0), "middle", label);
    }
    if let Some(expected) = expected {
        let (_, y) = frame.place((frame.x.0, expected));
        across(&mut out, "expected", y);
        let said = format!("expected {}", short(expected));
        text(&mut out, (SIZE.0 - right + 6.0, y + 4.0), "start", &said);
    }
    let mut taken: Vec<f64> = Vec::new();
    for (i, s) in series.iter().enumerate() {
        let class = format!("s{}", i % COLOURS);
        let places: Vec<(f64, f64)> = s.points.iter().map(|p| frame.place(*p)).collect();
        let path: Vec<String> = places
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = writeln!(
            out,
            "<polyline class=\"line {class}\" points=\"{}\"/>",
            path.join(" ")
        );
        if places.len() <= 40 {
            for (x, y) in &places {
                let _ = write!(
                    out,
                    "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\"/>"
                );
            }
        }
        if let Some((x, y)) = places.last() {
            // Labels of lines that end together stand below each other.
            let mut y = y + 4.0;
            while taken.iter().any(|other| (other - y).abs() < 14.0) {
                y += 14.0;
            }
            taken.push(y);
            let _ = writeln!(
                out,
                "<text class=\"{class}\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
                x + 8.0,
                s.label
            );
        }
    }
    out.push_str("</svg>\n");
    out
}

fn highest(series: &[Series], also: Option<f64>) -> f64 {
    let all = series.iter().flat_map(|s| s.points.iter().map(|p| p.1));
    round_up(all.chain(also).fold(0.0, f64::max))
}

/// Bus bandwidth over message size, the sizes on a logarithmic axis.
pub(super) fn busbw(series: &[Series], expected: Option<f64>) -> String {
    let log: Vec<Series> = series
        .iter()
        .map(|s| Series {
            label: s.label.clone(),
            points: s
                .points
                .iter()
                .map(|(x, y)| (x.max(1.0).log2(), *y))
                .collect(),
        })
        .collect();
    let mut sizes: Vec<f64> = log
        .iter()
        .flat_map(|s| s.points.iter().map(|p| p.0))
        .collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    let (Some(first), Some(last)) = (sizes.first(), sizes.last()) else {
        return String::new();
    };
    let frame = Frame {
        x: (*first, *last),
        y: (0.0, highest(&log, expected)),
    };
    let step = sizes.len().div_ceil(7).max(1);
    let ticks: Vec<(f64, String)> = sizes
        .iter()
        .step_by(step)
        .map(|x| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a size that was a whole number before its logarithm was taken"
            )]
            let bytes = x.exp2().round() as u64;
            (*x, crate::rules::busbw::size(bytes))
        })
        .collect();
    draw(
        "bus bandwidth by message size",
        " GB/s",
        &frame,
        &ticks,
        &log,
        expected,
    )
}

/// Ticks on an axis of time.
const TICKS: u32 = 6;

/// Memory over time: seconds since the Unix epoch and gigabytes.
pub(super) fn memory(series: &[Series]) -> String {
    let times = || series.iter().flat_map(|s| s.points.iter().map(|p| p.0));
    let first = times().fold(f64::INFINITY, f64::min);
    let last = times().fold(f64::NEG_INFINITY, f64::max);
    if first > last {
        return String::new();
    }
    let frame = Frame {
        x: (first, last),
        y: (0.0, highest(series, None)),
    };
    let ticks: Vec<(f64, String)> = (0..TICKS)
        .map(|n| {
            let at = first + (last - first) * f64::from(n) / f64::from(TICKS - 1);
            #[expect(clippy::cast_possible_truncation, reason = "`as` saturates")]
            let stamp = jiff::Timestamp::from_second(at.round() as i64);
            (
                at,
                stamp.map_or_else(|_| String::new(), |s| s.strftime("%H:%M:%S").to_string()),
            )
        })
        .collect();
    draw(
        "memory in use over time",
        " GB",
        &frame,
        &ticks,
        series,
        None,
    )
}
