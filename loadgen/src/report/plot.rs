//! Line plots as SVG: axes with round ticks, a legend, nothing that moves.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 34.0;

/// One plot with its lines.
pub(super) struct Plot<'a> {
    pub(super) title: &'a str,
    pub(super) x: Axis<'a>,
    pub(super) y: Axis<'a>,
    pub(super) series: Vec<Series<'a>>,
}

pub(super) struct Axis<'a> {
    pub(super) label: &'a str,
    pub(super) scale: Scale,
}

/// A line through (x, y), x ascending.
pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    pub(super) points: Vec<(f64, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// From zero.
    Linear,
    /// Powers of ten.
    Log,
    /// Logarithmic, labelled as percentiles: 10 is 90 %, 100 is 99 %.
    Nines,
}

/// Values to places on the page.
struct Map {
    scale: Scale,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Plot<'_> {
    /// A figure; without any point, one that says so.
    pub(super) fn render(&self) -> String {
        let mut out = format!("<figure><figcaption>{}</figcaption>", self.title);
        let lines: Vec<&Series<'_>> = self.series.iter().filter(|series| !series.points.is_empty()).collect();
        let points = || lines.iter().flat_map(|series| series.points.iter());
        let (Some(x), Some(y)) = (
            Map::over(self.x.scale, points().map(|point| point.0), LEFT, WIDTH - RIGHT),
            Map::over(self.y.scale, points().map(|point| point.1), HEIGHT - BOTTOM, TOP),
        ) else {
            return out + "<p>nothing was measured</p></figure>\n";
        };
        let _ = write!(out, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", self.title);
        let bottom = HEIGHT - BOTTOM;
        for (value, label) in y.ticks() {
            let at = y.at(value);
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0
            );
        }
        for (value, label) in x.ticks() {
            let at = x.at(value);
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{at:.1} {TOP}V{bottom:.1}\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                bottom + 16.0
            );
        }
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><text x=\"4\" y=\"{:.1}\">{}</text>",
            WIDTH - RIGHT,
            HEIGHT - 4.0,
            self.x.label,
            HEIGHT - 4.0,
            self.y.label
        );
        for (index, series) in lines.iter().enumerate() {
            let path: Vec<String> =
                series.points.iter().map(|(px, py)| format!("{:.1} {:.1}", x.at(*px), y.at(*py))).collect();
            let _ = write!(out, "<path class=\"line s{index}\" d=\"M{}\"/>", path.join("L"));
            if let [(px, py)] = series.points[..] {
                let _ = write!(
                    out,
                    "<circle class=\"dot s{index}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/>",
                    x.at(px),
                    y.at(py)
                );
            }
        }
        out += "</svg><p class=\"legend\">";
        for (index, series) in lines.iter().enumerate() {
            let _ = write!(out, "<span class=\"s{index}\">{}</span>", series.name);
        }
        out + "</p></figure>\n"
    }
}

impl Map {
    fn over(scale: Scale, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Option<Self> {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        if low > high {
            return None;
        }
        let (low, high) = match scale {
            Scale::Linear => (0.0, if high > 0.0 { high } else { 1.0 }),
            Scale::Log => (10f64.powf(low.max(1e-6).log10().floor()), 10f64.powf(high.max(1e-6).log10().ceil())),
            Scale::Nines => (1.0, high.max(10.0)),
        };
        let high = if high > low { high } else { low * 10.0 };
        Some(Self { scale, low, high, from, to })
    }

    fn at(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log | Scale::Nines => (value.max(self.low) / self.low).log10() / (self.high / self.low).log10(),
        };
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => {
                let step = round_step(self.high / 5.0);
                let count = (self.high / step + 1e-9).floor() as u32;
                (0..=count).map(|k| f64::from(k) * step).map(|value| (value, short(value))).collect()
            }
            Scale::Log | Scale::Nines => {
                let powers = (self.low.log10().round() as i32)..=(self.high.log10() + 1e-9).floor() as i32;
                powers.map(|power| (10f64.powi(power), self.power_label(power))).collect()
            }
        }
    }

    fn power_label(&self, power: i32) -> String {
        match (self.scale, power) {
            (Scale::Nines, 0) => "0 %".into(),
            (Scale::Nines, 1) => "90 %".into(),
            (Scale::Nines, 2) => "99 %".into(),
            (Scale::Nines, power) => format!("99.{} %", "9".repeat(power as usize - 2)),
            (_, power) => short(10f64.powi(power)),
        }
    }
}

/// 1, 2 or 5 times a power of ten, at least `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|s| *s >= step * 0.999).unwrap_or(power * 10.0)
}

fn short(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{}G", v / 1e9),
        v if v >= 1e6 => format!("{}M", v / 1e6),
        v if v >= 1e4 => format!("{}k", v / 1e3),
        v if v >= 1.0 || v == 0.0 => format!("{}", (v * 100.0).round() / 100.0),
        v => format!("{}", (v * 1e6).round() / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(scale: Scale, points: Vec<(f64, f64)>) -> String {
        let axis = |scale| Axis { label: "l", scale };
        Plot { title: "t", x: axis(Scale::Linear), y: axis(scale), series: vec![Series { name: "n", points }] }.render()
    }

    #[test]
    fn the_ends_of_a_line_lie_on_the_ends_of_the_axes() {
        let svg = plot(Scale::Log, vec![(0.0, 1.0), (10.0, 1000.0)]);
        assert!(svg.contains("d=\"M70.0 266.0L706.0 14.0\""), "{svg}");
        assert!(svg.contains(">100</text>") && !svg.contains("NaN"));
    }

    #[test]
    fn no_point_one_point_and_zeros_are_drawn_without_a_division_by_zero() {
        assert!(plot(Scale::Linear, vec![]).contains("nothing was measured"));
        for points in [vec![(0.0, 0.0)], vec![(1.0, 5.0)], vec![(0.0, 0.0), (1.0, 0.0)]] {
            for scale in [Scale::Linear, Scale::Log, Scale::Nines] {
                let svg = plot(scale, points.clone());
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            }
        }
    }

    #[test]
    fn steps_are_round() {
        assert_eq!([0.7, 1.0, 3.0, 60.0, 1234.0].map(round_step), [1.0, 1.0, 5.0, 100.0, 2000.0]);
    }
}
