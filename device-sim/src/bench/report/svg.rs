//! Plots as SVG: bars on a logarithmic scale, and lines.
//!
//! Two kinds of picture with fixed sizes need no plotting library, and what is written by hand is the same on every machine, so that a
//! report that changes shows what was measured and nothing else.

use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
/// Where names end and the picture begins, and where it ends.
const LEFT: f64 = 190.0;
const RIGHT: f64 = 790.0;
const TOP: f64 = 70.0;
/// Of one bar, and between groups of them.
const BAR: f64 = 16.0;
const GAP: f64 = 14.0;
/// Of the picture of lines.
const LINES_BOTTOM: f64 = 360.0;
/// Told apart by those who see no red or no green, too.
const COLOURS: [&str; 5] = ["#0b62a4", "#e07b00", "#767676", "#8e5ea2", "#2a9d8f"];

/// A group of bars for each thing measured, a bar for each series; what was not measured has none.
pub(super) struct Bars {
    pub(super) title: String,
    pub(super) series: Vec<String>,
    pub(super) groups: Vec<(String, Vec<Option<f64>>)>,
}

/// Lines through points, both axes in the reader's units.
pub(super) struct Lines {
    pub(super) title: String,
    pub(super) x_name: String,
    /// A name, and its points from left to right.
    pub(super) series: Vec<(String, Vec<(f64, f64)>)>,
    pub(super) is_x_logarithmic: bool,
}

/// From a value to a place in the picture.
#[derive(Clone, Copy)]
struct Scale {
    from: (f64, f64),
    to: (f64, f64),
    is_logarithmic: bool,
}

impl Scale {
    /// Whole decades around these values.
    fn decades(values: impl Iterator<Item = f64>, to: (f64, f64)) -> Self {
        let (least, most) = bounds(values.filter(|value| *value > 0.0));
        let from = (least.log10().floor(), most.log10().ceil().max(least.log10().floor() + 1.0));
        Self { from: (10_f64.powf(from.0), 10_f64.powf(from.1)), to, is_logarithmic: true }
    }

    /// From zero to a little above these values.
    fn from_zero(values: impl Iterator<Item = f64>, to: (f64, f64)) -> Self {
        let (_, most) = bounds(values);
        let step = step(most);
        Self { from: (0.0, (most / step).ceil().max(1.0) * step), to, is_logarithmic: false }
    }

    fn place(&self, value: f64) -> f64 {
        let of = |value: f64| if self.is_logarithmic { value.log10() } else { value };
        let part = (of(value) - of(self.from.0)) / (of(self.from.1) - of(self.from.0));
        self.to.0 + part.clamp(0.0, 1.0) * (self.to.1 - self.to.0)
    }

    /// Values to draw a line at.
    fn ticks(&self) -> Vec<f64> {
        let mut ticks = Vec::new();
        let step = step(self.from.1);
        let mut tick = self.from.0;
        while tick <= self.from.1 * 1.000_1 && ticks.len() < 20 {
            ticks.push(tick);
            tick = if self.is_logarithmic { tick * 10.0 } else { tick + step };
        }
        ticks
    }
}

fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (least, most) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(value), most.max(value)));
    if least <= most { (least, most) } else { (1.0, 10.0) }
}

/// A round number, four to ten of which make up `most`.
fn step(most: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let decade = 10_f64.powf(most.log10().floor());
    match most / decade {
        of if of < 2.0 => decade / 4.0,
        of if of < 5.0 => decade / 2.0,
        _ => decade,
    }
}

impl Bars {
    pub(super) fn svg(&self) -> String {
        let values = self.groups.iter().flat_map(|(_, values)| values.iter().flatten().copied());
        let scale = Scale::decades(values, (LEFT, RIGHT));
        let group = self.series.len() as f64 * BAR + GAP;
        let bottom = TOP + self.groups.len() as f64 * group;
        let mut picture = Picture::new(&self.title, bottom + 30.0, &self.series);
        for tick in scale.ticks() {
            picture.line((scale.place(tick), TOP - 6.0), (scale.place(tick), bottom), "#dddddd");
            picture.text((scale.place(tick), bottom + 16.0), "middle", &short(tick));
        }
        for (number, (name, values)) in self.groups.iter().enumerate() {
            let top = TOP + number as f64 * group;
            picture.text((LEFT - 8.0, top + group / 2.0 - 3.0), "end", name);
            for (at, value) in values.iter().enumerate() {
                let Some(value) = value else { continue };
                let (y, end) = (top + at as f64 * BAR, scale.place(*value).max(LEFT + 1.0));
                let _ = writeln!(
                    picture.out,
                    r#"<rect x="{LEFT}" y="{y:.1}" width="{:.1}" height="{:.1}" fill="{}"/>"#,
                    end - LEFT,
                    BAR - 3.0,
                    colour(at),
                );
                picture.text((end + 4.0, y + BAR - 5.0), "start", &short(*value));
            }
        }
        picture.finish()
    }
}

impl Lines {
    pub(super) fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|(_, points)| points.iter().copied());
        let (x_values, y_values) = (points().map(|point| point.0), points().map(|point| point.1));
        let x = match self.is_x_logarithmic {
            true => Scale::decades(x_values, (LEFT / 2.0, RIGHT)),
            false => Scale::from_zero(x_values, (LEFT / 2.0, RIGHT)),
        };
        let y = Scale::from_zero(y_values, (LINES_BOTTOM, TOP));
        let names: Vec<String> = self.series.iter().map(|(name, _)| name.clone()).collect();
        let mut picture = Picture::new(&self.title, LINES_BOTTOM + 50.0, &names);
        for tick in x.ticks() {
            picture.line((x.place(tick), TOP), (x.place(tick), LINES_BOTTOM), "#eeeeee");
            picture.text((x.place(tick), LINES_BOTTOM + 16.0), "middle", &short(tick));
        }
        for tick in y.ticks() {
            picture.line((LEFT / 2.0, y.place(tick)), (RIGHT, y.place(tick)), "#dddddd");
            picture.text((LEFT / 2.0 - 6.0, y.place(tick) + 4.0), "end", &short(tick));
        }
        picture.text(((LEFT / 2.0 + RIGHT) / 2.0, LINES_BOTTOM + 36.0), "middle", &self.x_name);
        for (at, (_, points)) in self.series.iter().enumerate() {
            let mut path = String::new();
            for (px, py) in points.iter().map(|(px, py)| (x.place(*px), y.place(*py))) {
                let _ = write!(path, "{px:.1},{py:.1} ");
                let _ = writeln!(
                    picture.out,
                    r#"<circle cx="{px:.1}" cy="{py:.1}" r="3" fill="{}"/>"#,
                    colour(at)
                );
            }
            let _ = writeln!(
                picture.out,
                r#"<polyline points="{}" fill="none" stroke="{}" stroke-width="2"/>"#,
                path.trim_end(),
                colour(at)
            );
        }
        picture.finish()
    }
}

/// What all pictures have: a title, and what the colours mean.
struct Picture {
    out: String,
}

// Writing to a String cannot fail, here and above.
impl Picture {
    fn new(title: &str, height: f64, series: &[String]) -> Self {
        let mut picture = Self { out: String::new() };
        let _ = writeln!(
            picture.out,
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12" fill="#222222">
<rect width="100%" height="100%" fill="#ffffff"/>"##
        );
        let _ = writeln!(
            picture.out,
            r#"<text x="12" y="22" font-size="15" font-weight="bold">{}</text>"#,
            plain(title)
        );
        let mut x = 12.0;
        for (at, name) in series.iter().enumerate() {
            let _ = writeln!(
                picture.out,
                r#"<rect x="{x:.1}" y="34" width="12" height="12" fill="{}"/>"#,
                colour(at)
            );
            picture.text((x + 17.0, 44.0), "start", name);
            x += 34.0 + name.chars().count() as f64 * 6.6;
        }
        picture
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str) {
        let _ = writeln!(
            self.out,
            r#"<line x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" stroke="{colour}"/>"#,
            from.0, from.1, to.0, to.1
        );
    }

    fn text(&mut self, at: (f64, f64), anchor: &str, text: &str) {
        let _ = writeln!(
            self.out,
            r#"<text x="{:.1}" y="{:.1}" text-anchor="{anchor}">{}</text>"#,
            at.0,
            at.1,
            plain(text)
        );
    }

    fn finish(mut self) -> String {
        self.out.push_str("</svg>\n");
        self.out
    }
}

fn colour(at: usize) -> &'static str {
    COLOURS.get(at % COLOURS.len()).copied().unwrap_or("#000000")
}

/// Text between tags.
fn plain(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A number in few characters.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e9 => format!("{}G", trimmed(value / 1e9)),
        value if value >= 1e6 => format!("{}M", trimmed(value / 1e6)),
        value if value >= 1e4 => format!("{}k", trimmed(value / 1e3)),
        value => trimmed(value),
    }
}

fn trimmed(value: f64) -> String {
    let digits = if value >= 100.0 || value == 0.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_value_says() {
        let scale = Scale::decades([0.4, 30.0].into_iter(), (0.0, 300.0));
        assert_eq!(scale.ticks().len(), 4, "0.1, 1, 10, 100");
        assert!((scale.place(1.0) - 100.0).abs() < 1e-9 && (scale.place(10.0) - 200.0).abs() < 1e-9);
        let bars = Bars {
            title: "CPU < all".to_owned(),
            series: vec!["a".to_owned(), "b".to_owned()],
            groups: vec![
                ("one".to_owned(), vec![Some(0.4), None]),
                ("two".to_owned(), vec![None, Some(30.0)]),
            ],
        };
        let svg = bars.svg();
        assert_eq!(svg.matches("<rect").count(), 1 + 2 + 2, "background, legend, bars");
        assert!(svg.contains("CPU &lt; all") && svg.ends_with("</svg>\n"), "{svg}");
    }

    #[test]
    fn a_line_has_all_its_points_within_the_picture() {
        let series =
            vec![("topics".to_owned(), vec![(100.0, 1.0), (1e5, 1.31)]), ("none".to_owned(), Vec::new())];
        let lines = Lines { title: String::new(), x_name: "size".to_owned(), series, is_x_logarithmic: true };
        let svg = lines.svg();
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 0.41, 2.0, 12.34, 180.0, 18_000.0, 1_073_741_824.0].map(short);
        assert_eq!(shown, ["0", "0.41", "2", "12.3", "180", "18k", "1.07G"]);
    }
}
