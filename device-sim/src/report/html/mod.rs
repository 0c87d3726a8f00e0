//! The report as one HTML page that needs nothing but itself: no network, no script, light and dark, from a phone's width up.
//!
//! [`plots`] says what is drawn, [`plot`] draws it, [`tables`] are the numbers. What comes from outside (names of subscribers,
//! phases, the broker's address) passes through `markup::escaped`, and a Content-Security-Policy forbids the page to load
//! or run anything should something get past that.

mod plot;
mod plots;
mod tables;

use std::fmt::Write;

use super::markup::escaped;
use super::text::{grouped, micros};
use super::{Report, Verdict};

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub fn render(report: &Report) -> String {
    let mut out = String::with_capacity(65_536);
    let title = report.scenario.as_deref().unwrap_or("device-sim");
    let (verdict, class) = match report.verdict {
        Verdict::Kept => ("all promises kept", "kept"),
        Verdict::Broken => ("BROKEN", "broken"),
    };
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{title}: {verdict}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        title = escaped(title)
    );
    let _ = writeln!(
        out,
        "<header>\n<h1>{}</h1>\n<p class=\"verdict {class}\">{verdict}</p>\n<p class=\"lead\">{}</p>\n</header>\n<main>",
        escaped(title),
        escaped(&lead(report))
    );
    broken(&mut out, report);
    tiles(&mut out, report);
    section(&mut out, "Over time", &plots::over_time(report));
    section(&mut out, "Latency as a distribution", &plots::distributions(report));
    section(&mut out, "Ledger", &tables::ledger(report));
    section(&mut out, "Gates and promises", &tables::promises(report));
    section(&mut out, "The gateway's own counters", &tables::counters(report));
    section(&mut out, "The run", &tables::run(report));
    let _ = writeln!(
        out,
        "</main>\n<footer><p>device-sim {}</p></footer>\n</body>\n</html>",
        report.simulator.version
    );
    out
}

fn lead(report: &Report) -> String {
    format!(
        "{} devices published for {:.1} s to {}; seed {}",
        grouped(u64::from(report.fleet.devices)),
        report.published_for_s,
        report.broker,
        report.seed
    )
}

fn broken(out: &mut String, report: &Report) {
    if report.broken.is_empty() {
        return;
    }
    let _ = writeln!(out, "<ul class=\"broken\">");
    for sentence in &report.broken {
        let _ = writeln!(out, "<li>{}</li>", escaped(sentence));
    }
    let _ = writeln!(out, "</ul>");
}

/// The few numbers that most people come for.
fn tiles(out: &mut String, report: &Report) {
    let (qos0, qos1) = (&report.qos.qos0, &report.qos.qos1);
    let delivered: u64 =
        report.subscribers.iter().map(|one| one.qos.qos0.delivered + one.qos.qos1.delivered).sum();
    let slowest = report.subscribers.iter().map(|one| one.due_to_delivered_us.p99).max().unwrap_or(0);
    let rate = |per_s: f64| format!("{}/s", grouped(per_s.round() as u64));
    let tiles = [
        ("sent", grouped(qos0.sent + qos1.sent), rate(report.fleet.sent_per_s)),
        ("acknowledged", grouped(qos1.acknowledged), rate(report.fleet.acknowledged_per_s)),
        ("delivered", grouped(delivered), rate(report.fleet.delivered_per_s)),
        ("lost of what was acknowledged", grouped(qos1.lost), format!("QoS 0: {}", grouped(qos0.lost))),
        (
            "due to PUBACK, p99",
            micros(report.due_to_puback_us.p99),
            format!("p50 {}", micros(report.due_to_puback_us.p50)),
        ),
        ("due to delivered, p99", micros(slowest), "of the slowest subscriber".to_owned()),
    ];
    let _ = writeln!(out, "<dl class=\"tiles\">");
    for (name, value, note) in tiles {
        let _ = writeln!(out, "<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>");
    }
    let _ = writeln!(out, "</dl>");
}

/// A section with a heading; nothing if there is nothing in it.
fn section(out: &mut String, heading: &str, content: &str) {
    if !content.is_empty() {
        let _ = writeln!(out, "<section>\n<h2>{heading}</h2>\n{content}</section>");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::Plan;
    use crate::report::junit::tests::tags_of;
    use crate::scenario::Scenario;
    use crate::shared::Shared;
    use crate::shared::series::{GatewaySample, Sample, Spread};

    fn report() -> Report {
        let scenario = Scenario::parse(include_str!("../../../scenarios/first.toml")).unwrap();
        let plan = Plan { scenario, host: "broker".to_owned(), port: 1_883, seed: 1, epoch: 2 };
        let shared = Shared::of(&plan);
        for latency_us in 1..2_000 {
            shared.due_to_puback.record(latency_us * 7, true);
        }
        Report::new(&plan, &shared, Duration::from_secs(60), Duration::ZERO)
    }

    fn sample(t_s: f64, phase: &str) -> Sample {
        let spread = Spread { count: 9, p50: 800, p99: 12_000, max: 15_000 };
        Sample {
            t_s,
            span_s: 1.0,
            phase: phase.to_owned(),
            sent_per_s: 1_000.0 + t_s,
            due_to_puback_us: spread,
            due_to_delivered_us: vec![spread, Spread::default()],
            gateway: Some(GatewaySample {
                level: Some((t_s as u8) % 6),
                pressure: [("disk".to_owned(), 0.2), ("memory".to_owned(), 0.9)].into(),
                cores: Some(0.8),
                resident_bytes: Some(50 << 20),
                connections: Some(200),
            }),
            ..Sample::default()
        }
    }

    #[test]
    fn the_page_is_well_formed_and_needs_nothing_but_itself() {
        let mut report = report();
        report.scenario = Some("<script>alert(1)</script> & more".to_owned());
        report.series.samples = (1..=60)
            .map(|second| sample(f64::from(second), if second < 30 { "ramp" } else { "\"burst\"" }))
            .collect();
        let page = render(&report);
        let tags = tags_of(&page);
        assert_eq!(tags.iter().filter(|tag| *tag == "svg").count(), 8, "{tags:?}");
        assert!(
            !tags.iter().any(|tag| ["script", "img", "iframe", "object"].contains(&tag.as_str())),
            "{tags:?}"
        );
        for elsewhere in ["http:", "https:", "src=", "@import", "url(", "NaN"] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
        for heading in
            ["Rates", "Gateway: pressure", "Gateway: level", "Percentiles", "Published by the fleet"]
        {
            assert!(page.contains(heading), "{heading}");
        }
        assert!(page.contains("title=\"&quot;burst&quot;\""), "phases have their names");
    }

    #[test]
    fn a_page_without_samples_or_a_gateway_says_no_more_than_it_knows() {
        let mut report = report();
        report.series.samples.truncate(1);
        let page = render(&report);
        tags_of(&page);
        assert!(page.contains("too short for plots"), "{page}");
        assert!(!page.contains("Gateway: level") && !page.contains("own counters"), "{page}");
    }

    #[test]
    fn a_long_series_makes_a_page_of_bearable_size() {
        let mut report = report();
        report.series.samples = (1..=4_096).map(|second| sample(f64::from(second), "steady")).collect();
        let page = render(&report);
        assert!(page.len() < 600_000, "{} bytes", page.len());
    }
}
