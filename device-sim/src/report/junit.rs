//! The report as JUnit XML: one case for each promise and each gate, so that a CI shows which one did not hold.

use std::fmt::{self, Write};

use super::markup::escaped;
use super::{Report, text};

/// The whole document.
pub fn render(report: &Report) -> String {
    let mut out = String::with_capacity(4_096);
    // Writing to a String cannot fail.
    let _ = write_suites(&mut out, report);
    out
}

/// One case: its class, its name, and why it failed if it did.
struct Case<'a> {
    class: String,
    name: &'a str,
    failure: Option<String>,
}

fn write_suites(out: &mut String, report: &Report) -> fmt::Result {
    let suite = report.scenario.as_deref().unwrap_or("device-sim");
    let cases = cases(report);
    let failures = cases.iter().filter(|case| case.failure.is_some()).count();
    let sums = format!(
        "tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"0\" time=\"{:.3}\"",
        cases.len(),
        report.published_for_s
    );
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(out, "<testsuites name=\"device-sim\" {sums}>")?;
    writeln!(out, "  <testsuite name=\"{}\" {sums}>", escaped(suite))?;
    writeln!(out, "    <properties>")?;
    for (name, value) in [
        ("broker", report.broker.clone()),
        ("seed", report.seed.to_string()),
        ("epoch", report.epoch.to_string()),
        ("version", report.simulator.version.to_owned()),
    ] {
        writeln!(out, "      <property name=\"{name}\" value=\"{}\"/>", escaped(&value))?;
    }
    writeln!(out, "    </properties>")?;
    for case in cases {
        let (class, name) = (escaped(&case.class), escaped(case.name));
        write!(out, "    <testcase classname=\"{class}\" name=\"{name}\"")?;
        match case.failure {
            Some(failure) => {
                let failure = escaped(&failure);
                writeln!(
                    out,
                    ">\n      <failure message=\"{failure}\">{failure}</failure>\n    </testcase>"
                )?;
            }
            None => writeln!(out, "/>")?,
        }
    }
    writeln!(out, "    <system-out>{}</system-out>", escaped(&text::render(report)))?;
    writeln!(out, "  </testsuite>\n</testsuites>")
}

fn cases(report: &Report) -> Vec<Case<'_>> {
    let promises = report.promises.iter().map(|promise| Case {
        class: match &promise.subscriber {
            Some(subscriber) => format!("promises.{subscriber}"),
            None => "promises".to_owned(),
        },
        name: promise.name,
        failure: promise.broken_by.clone(),
    });
    let gates = report.gates.iter().map(|gate| Case {
        class: "gates".to_owned(),
        name: &gate.name,
        failure: (!gate.held).then(|| format!("wanted {}, got {}", gate.wanted, gate.got)),
    });
    promises.chain(gates).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::Plan;
    use crate::report::GateResult;
    use crate::scenario::Scenario;
    use crate::shared::Shared;

    /// Fails unless every tag is closed in turn and nothing but tags and text is there; what it read, tag by tag.
    pub(in crate::report) fn tags_of(document: &str) -> Vec<String> {
        let mut open: Vec<String> = Vec::new();
        let mut seen = Vec::new();
        for piece in document.split('<').skip(1) {
            let (tag, text) = piece.split_once('>').expect("a tag that ends");
            assert!(!text.contains('>'), "a bare > after <{tag}>");
            for entity in text.split('&').skip(1).chain(tag.split('&').skip(1)) {
                let name = entity.split(';').next().unwrap();
                assert!(["amp", "lt", "gt", "quot", "#39"].contains(&name), "&{name}");
            }
            if tag.starts_with('?') || tag.starts_with('!') {
                continue;
            }
            assert_eq!(tag.matches('"').count() % 2, 0, "<{tag}>");
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop().as_deref(), Some(name)),
                None => {
                    let name = tag.split([' ', '/', '\n']).next().unwrap().to_owned();
                    seen.push(name.clone());
                    let void = ["meta", "br", "hr", "link", "img"].contains(&name.as_str());
                    if !tag.ends_with('/') && !void {
                        open.push(name);
                    }
                }
            }
        }
        assert!(open.is_empty(), "left open: {open:?}");
        seen
    }

    #[test]
    fn there_is_one_case_for_each_promise_and_gate_and_the_broken_ones_fail() {
        let scenario = Scenario::parse(include_str!("../../scenarios/first.toml")).unwrap();
        let plan = Plan { scenario, host: "broker".to_owned(), port: 1_883, seed: 1, epoch: 2 };
        let shared = Shared::of(&plan);
        shared.subscribers[0].corrupt.add(3);
        let mut report = Report::new(&plan, &shared, Duration::from_secs(1), Duration::ZERO);
        report.scenario = Some("a < b & \"c\"".to_owned());
        report.gates = vec![GateResult {
            name: "p99 < 50 ms".to_owned(),
            wanted: "< 50 ms".to_owned(),
            got: "61 ms".to_owned(),
            held: false,
        }];
        report.judge();
        let document = render(&report);
        let tags = tags_of(&document);
        let count = |name: &str| tags.iter().filter(|tag| *tag == name).count();
        assert_eq!(count("testcase"), 2 * 6 + 1 + 1, "{document}");
        assert_eq!(count("failure"), 3, "corrupt, nothing delivered, the gate\n{document}");
        assert!(document.contains("tests=\"14\" failures=\"3\""), "{document}");
        assert!(document.contains("<testsuite name=\"a &lt; b &amp; &quot;c&quot;\""), "{document}");
        assert!(document.contains("message=\"wanted &lt; 50 ms, got 61 ms\""), "{document}");
    }
}
