//! The report's tables.

use std::fmt::Write;

use crate::ledger::AtSites;
use crate::qos::QoS;
use crate::report::markup::escaped;
use crate::report::text::{grouped, micros};
use crate::report::verdict::Promise;
use crate::report::{ClassReport, EdgeReport, LatencySummary, Report};

/// A table: its headings, and lines whose first cell is a heading, too. All but the first column are numbers.
struct Table {
    caption: String,
    headings: Vec<String>,
    lines: Vec<Vec<String>>,
}

impl Table {
    // Writing to a String cannot fail, here and below.
    fn render(&self) -> String {
        let mut out = format!(
            "<div class=\"scroll\"><table>\n<caption>{}</caption>\n<thead><tr>",
            escaped(&self.caption)
        );
        for heading in &self.headings {
            let _ = write!(out, "<th scope=\"col\">{}</th>", escaped(heading));
        }
        let _ = writeln!(out, "</tr></thead>\n<tbody>");
        for line in &self.lines {
            let mut cells = line.iter();
            let name = cells.next().map(|name| escaped(name)).unwrap_or_default();
            let _ = write!(out, "<tr><th scope=\"row\">{name}</th>");
            for cell in cells {
                let _ = write!(out, "<td>{}</td>", escaped(cell));
            }
            let _ = writeln!(out, "</tr>");
        }
        let _ = writeln!(out, "</tbody>\n</table></div>");
        out
    }
}

/// What was published, and what each subscriber got of it.
pub(super) fn ledger(report: &Report) -> String {
    let mut tables = vec![published(report)];
    tables.extend((report.classes.len() > 1).then(|| classes(report)));
    tables.extend(report.edge.as_ref().map(edge));
    for one in &report.subscribers {
        let durable = if one.durable { ", durable" } else { "" };
        let both = |name: &str, of: fn(&crate::report::ReceivedReport) -> u64| {
            let counts = QoS::ALL.map(|qos| grouped(of(&one.qos[qos])));
            [vec![name.to_owned()], counts.to_vec()].concat()
        };
        let of_all = |name: &str, count: u64| vec![name.to_owned(), String::new(), grouped(count)];
        tables.push(Table {
            caption: format!(
                "{}: {}, QoS {}, MQTT {}{durable}",
                one.name, one.filter, one.subscription_qos, one.protocol
            ),
            headings: ["published with", "QoS 0", "QoS 1"].map(str::to_owned).to_vec(),
            lines: vec![
                both("delivered", |sums| sums.delivered),
                both("lost", |sums| sums.lost),
                both("delivered again", |sums| sums.duplicated),
                both("out of order", |sums| sums.out_of_order),
                both("after it was given up", |sums| sums.late),
                of_all("corrupt", one.corrupt),
                of_all("not of this run", one.foreign),
                of_all("duplicates that breaks explain", one.duplicates_allowed),
                of_all("connections broken", one.disconnects),
            ],
        });
    }
    let tables: String = tables.iter().map(Table::render).collect();
    format!("<div class=\"cards\">\n{tables}</div>\n{}", latencies(report).render())
}

fn published(report: &Report) -> Table {
    let both = |name: &str, of: fn(&crate::report::QosReport) -> u64| {
        let counts = QoS::ALL.map(|qos| grouped(of(&report.qos[qos])));
        [vec![name.to_owned()], counts.to_vec()].concat()
    };
    Table {
        caption: "Published by the fleet".to_owned(),
        headings: ["", "QoS 0", "QoS 1"].map(str::to_owned).to_vec(),
        lines: vec![
            both("due", |sums| sums.due),
            both("not sent", |sums| sums.not_sent),
            both("sent", |sums| sums.sent),
            both("acknowledged", |sums| sums.acknowledged),
            both("refused", |sums| sums.rejected),
            both("unacknowledged", |sums| sums.unacknowledged),
            both("lost, where it was promised", |sums| sums.lost),
        ],
    }
}

/// What sites with a broker of their own did.
fn edge(edge: &EdgeReport) -> Table {
    let both = |name: &str, of: fn(&AtSites) -> u64| {
        let counts = QoS::ALL.map(|qos| grouped(of(&edge.qos[qos])));
        [vec![name.to_owned()], counts.to_vec()].concat()
    };
    let of_all = |name: &str, count: u64| vec![name.to_owned(), String::new(), grouped(count)];
    Table {
        caption: format!("{} sites with a broker of their own", grouped(edge.sites)),
        headings: ["", "QoS 0", "QoS 1"].map(str::to_owned).to_vec(),
        lines: vec![
            both("acknowledged there", |sums| sums.acknowledged),
            both("passed on", |sums| sums.forwarded),
            both("lost there", |sums| sums.lost),
            of_all("of these by full buffers", edge.dropped),
            of_all("most waiting at one site", edge.waiting_max),
            of_all("connections of uplinks broken", edge.disconnects),
        ],
    }
}

/// The sums of each class, a line for each QoS.
fn classes(report: &Report) -> Table {
    let headings = [
        "",
        "sent",
        "acked",
        "refused",
        "unacked",
        "delivered",
        "lost",
        "again",
        "disordered",
        "late",
        "corrupt",
    ];
    let line = |one: &ClassReport, qos: QoS| {
        let name = format!("{} QoS {}", one.class, qos as u8);
        [vec![name], one.cells(qos).to_vec()].concat()
    };
    Table {
        caption: "By class of events".to_owned(),
        headings: headings.map(str::to_owned).to_vec(),
        lines: report.classes.iter().flat_map(|one| QoS::ALL.map(|qos| line(one, qos))).collect(),
    }
}

fn latencies(report: &Report) -> Table {
    let line = |name: String, sums: &LatencySummary| {
        let values = [sums.p50, sums.p90, sums.p99, sums.p999, sums.max].map(micros);
        (sums.count > 0).then(|| [vec![name], values.to_vec()].concat())
    };
    let lines = [
        line("sent to PUBACK".to_owned(), &report.sent_to_puback_us),
        line("due to PUBACK".to_owned(), &report.due_to_puback_us),
    ];
    let to_subscribers =
        report.subscribers.iter().map(|one| line(format!("due to {}", one.name), &one.due_to_delivered_us));
    Table {
        caption: "Latency, counted from when an event was due".to_owned(),
        headings: ["", "p50", "p90", "p99", "p99.9", "max"].map(str::to_owned).to_vec(),
        lines: lines.into_iter().chain(to_subscribers).flatten().collect(),
    }
}

/// What was expected and promised, and whether it held.
pub(super) fn promises(report: &Report) -> String {
    let mut out = String::new();
    if !report.gates.is_empty() {
        let _ = writeln!(out, "<ul class=\"checks\">");
        for gate in &report.gates {
            let detail = format!("wanted {}, got {}", gate.wanted, gate.got);
            check(&mut out, gate.held, &gate.name, &detail);
        }
        let _ = writeln!(out, "</ul>");
    }
    let _ = writeln!(out, "<ul class=\"checks\">");
    for (name, promises) in by_name(&report.promises) {
        let broken: Vec<&str> = promises.iter().filter_map(|one| one.broken_by.as_deref()).collect();
        let to: Vec<&str> = promises.iter().filter_map(|one| one.subscriber.as_deref()).collect();
        let detail = if broken.is_empty() { to.join(", ") } else { broken.join("; ") };
        check(&mut out, broken.is_empty(), name, &detail);
    }
    let _ = writeln!(out, "</ul>");
    out
}

/// The same promise to several subscribers is one line.
fn by_name(promises: &[Promise]) -> Vec<(&'static str, Vec<&Promise>)> {
    let mut groups: Vec<(&'static str, Vec<&Promise>)> = Vec::new();
    for promise in promises {
        match groups.iter_mut().find(|(name, _)| *name == promise.name) {
            Some((_, group)) => group.push(promise),
            None => groups.push((promise.name, vec![promise])),
        }
    }
    groups
}

fn check(out: &mut String, held: bool, name: &str, detail: &str) {
    let (class, word) = if held { ("held", "held") } else { ("missed", "did not hold") };
    item(out, class, name, word, detail);
}

fn item(out: &mut String, class: &str, name: &str, word: &str, detail: &str) {
    let (name, detail) = (escaped(name), escaped(detail));
    let _ = writeln!(
        out,
        "<li class=\"{class}\"><b>{name}</b> <span class=\"word\">{word}</span> <small>{detail}</small></li>"
    );
}

/// The gateway's counters beside the ledger.
pub(super) fn counters(report: &Report) -> String {
    let Some(gateway) = &report.gateway else {
        let why = report.gateway_unread.as_deref();
        return why.map(|why| format!("<p>Not compared: {}</p>\n", escaped(why))).unwrap_or_default();
    };
    let mut out = match gateway.restarts {
        0 => String::new(),
        1 => "<p>The gateway was restarted once.</p>\n".to_owned(),
        times => format!("<p>The gateway was restarted {times} times.</p>\n"),
    };
    let _ = writeln!(out, "<ul class=\"checks\">");
    for line in &gateway.lines {
        let (here, there) = (grouped(line.ledger), grouped(line.gateway));
        let difference = line.difference();
        let (class, word, detail) = match (difference, &line.explained_by) {
            (0, _) => ("held", "agree".to_owned(), here),
            (_, Some(why)) => {
                ("told", format!("{difference:+}"), format!("{here} here, {there} there: {why}"))
            }
            (_, None) => (
                "missed",
                format!("{difference:+}"),
                format!("{here} here, {there} there: nothing explains it"),
            ),
        };
        item(&mut out, class, &line.name, &word, &detail);
    }
    let _ = writeln!(out, "</ul>");
    out
}

/// What else to know of the run.
pub(super) fn run(report: &Report) -> String {
    let fleet = &report.fleet;
    let simulator = &report.simulator;
    let facts = [
        ("Seed", report.seed.to_string()),
        ("Epoch", report.epoch.to_string()),
        ("Broker", report.broker.clone()),
        ("Devices connected at the end", grouped(fleet.connected_at_end)),
        ("Connections of devices that broke", grouped(fleet.disconnects)),
        (
            "Events in flight then",
            format!(
                "{} ({} sent again, {} given up)",
                grouped(fleet.in_flight_at_disconnect),
                grouped(fleet.retransmitted),
                grouped(fleet.given_up)
            ),
        ),
        ("Dropped by a device's full queue", grouped(simulator.overflowed)),
        (
            "CPU of the simulator",
            format!("{:.1} s, {:.1} µs for each event", simulator.cpu_s, simulator.cpu_us_per_event),
        ),
        (
            "Its own lag",
            format!(
                "p99 {}{}",
                micros(simulator.lag_us.p99),
                if simulator.bottleneck { ": it was itself the bottleneck" } else { "" }
            ),
        ),
    ];
    let mut out = "<dl class=\"facts\">\n".to_owned();
    for (name, value) in facts {
        let _ = writeln!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", escaped(&value));
    }
    out.push_str("</dl>\n");
    out
}
