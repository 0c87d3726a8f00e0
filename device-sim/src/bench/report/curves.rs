//! The curves of a report, each between marks of its own: they take their time, and each can be measured anew by itself.

use super::svg::Lines;
use super::{END, Places, machine};
use crate::bench::scaling::{self, Curve, Measured};
use crate::bench::table::markdown;
use crate::command::CommandError;

/// Writes one curve into the document, in place of what it had, or behind everything else that was measured.
pub(in crate::bench) fn write(places: &Places<'_>, measured: &Measured) -> Result<(), CommandError> {
    let picture = Lines {
        title: "CPU for each message, times that of the first point".to_owned(),
        x_name: measured.curve.name().to_owned(),
        series: vec![(
            "gateway".to_owned(),
            measured.points.iter().map(|point| (point.size as f64, point.ratio)).collect(),
        )],
        is_x_logarithmic: true,
    };
    let plot = places.plot(&format!("scaling-{}", measured.curve.key()), &picture.svg())?;
    let block = format!(
        "### {}\n\n{}\n\n{}\n{}{plot}\n",
        measured.curve.title(),
        measured.curve.what(),
        machine::describe(),
        markdown(&scaling::lines(measured)),
    );
    let before = std::fs::read_to_string(places.document).unwrap_or_default();
    super::write(places.document, &put(&before, measured.curve.key(), &block))
}

/// The document with this block under this name.
fn put(document: &str, name: &str, block: &str) -> String {
    let begin =
        format!("<!-- curve {name}: written by `device-sim bench`, between here and its end mark -->\n");
    let end = format!("<!-- curve {name}: end -->\n");
    if let (Some((head, _)), Some((_, tail))) = (document.split_once(&begin), document.split_once(&end)) {
        return format!("{head}{begin}\n{block}{end}{tail}");
    }
    // Behind the last of the curves that are there, or behind what was measured side by side.
    let behind = |at: usize, mark: &str| at + mark.len();
    let last = Curve::ALL.iter().filter_map(|curve| {
        let mark = format!("<!-- curve {}: end -->\n", curve.key());
        document.find(&mark).map(|at| behind(at, &mark))
    });
    let at = last.max().or_else(|| document.find(END).map(|at| behind(at, END))).unwrap_or(document.len());
    let (head, tail) = document.split_at(at);
    format!("{head}\n{begin}\n{block}{end}{tail}")
}

impl Curve {
    /// In names of files and marks.
    const fn key(self) -> &'static str {
        match self {
            Self::Topics => "topics",
            Self::Filters => "filters",
            Self::Connections => "connections",
            Self::Backlog => "backlog",
            Self::CatchingUp => "catching-up",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Topics => "More topics",
            Self::Filters => "More filters",
            Self::Connections => "More connections",
            Self::Backlog => "More backlog",
            Self::CatchingUp => "More to fetch",
        }
    }

    /// What grows, for readers of a report.
    const fn what(self) -> &'static str {
        match self {
            Self::Topics => {
                "20 publishers at QoS 1 go through their topics in turn; one live subscriber wants all."
            }
            Self::Filters => {
                "The same with 100 topics, while other subscribers hold filters with wildcards that none of them match."
            }
            Self::Connections => {
                "20,000 events/s at QoS 1, shared by all connections in turn, so that a read brings one event."
            }
            Self::Backlog => {
                "20 publishers at QoS 1 into a durable session that is away and has so much waiting already."
            }
            Self::CatchingUp => {
                "A durable session comes back and fetches and acknowledges what waits for it."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_replaced_and_everything_else_stays() {
        let document = format!("before\n{END}\nafter\n");
        let one = put(&document, "topics", "one\n");
        let two = put(&one, "backlog", "two\n");
        assert!(one.find("one") < one.find("after") && one.find(END) < one.find("one"), "{one}");
        assert!(two.find("one") < two.find("two") && two.find("two") < two.find("after"), "{two}");
        let again = put(&two, "topics", "three\n");
        assert_eq!(again, two.replace("one\n", "three\n"));
        assert!(put("", "topics", "one\n").contains("one"));
    }
}
