//! The report for people.

use std::fmt::{self, Write};

use super::gateway::CounterLine;
use super::{LatencySummary, Report, Verdict, WorkerReport};
use crate::qos::QoS;

/// The whole report, lines ending in newlines.
pub fn render(report: &Report) -> String {
    let mut out = String::with_capacity(2_048);
    // Writing to a String cannot fail.
    let _ = write_report(&mut out, report);
    out
}

/// A number with thousands separators.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Microseconds in the unit that reads best.
pub fn micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..100_000 => format!("{:.1} ms", micros as f64 / 1e3),
        100_000..1_000_000 => format!("{:.0} ms", micros as f64 / 1e3),
        _ => format!("{:.2} s", micros as f64 / 1e6),
    }
}

fn write_report(out: &mut String, report: &Report) -> fmt::Result {
    let fleet = &report.fleet;
    writeln!(
        out,
        "{} devices for {:.1} s: {} events/s due, {} sent, {} acknowledged, {} delivered (seed {})",
        grouped(u64::from(fleet.devices)),
        report.published_for_s,
        grouped(fleet.due_per_s.round() as u64),
        grouped(fleet.sent_per_s.round() as u64),
        grouped(fleet.acknowledged_per_s.round() as u64),
        grouped(fleet.delivered_per_s.round() as u64),
        report.seed,
    )?;
    write_published(out, report)?;
    write_received(out, report)?;
    write_edge(out, report)?;
    write_classes(out, report)?;
    write_latencies(out, report)?;
    write_connections(out, report)?;
    let simulator = &report.simulator;
    writeln!(
        out,
        "\nsimulator: {:.1} µs of CPU per event ({}), own lag p99 {}",
        simulator.cpu_us_per_event,
        if simulator.workers.is_empty() { "this process" } else { "its workers" },
        micros(simulator.lag_us.p99),
    )?;
    for (number, worker) in simulator.workers.iter().enumerate() {
        write_worker(out, number + 1, worker)?;
    }
    if simulator.bottleneck {
        writeln!(
            out,
            "           it was itself the bottleneck: latencies say more about it than about the broker"
        )?;
    }
    write_counters(out, report)?;
    for gate in &report.gates {
        let held = if gate.held { "held  " } else { "MISSED" };
        writeln!(out, "gate {held} {}: wanted {}, got {}", gate.name, gate.wanted, gate.got)?;
    }
    match report.verdict {
        Verdict::Kept => writeln!(out, "\nVERDICT: all promises kept"),
        Verdict::Broken => {
            writeln!(out, "\nVERDICT: BROKEN")?;
            report.broken.iter().try_for_each(|promise| writeln!(out, "  - {promise}"))
        }
    }
}

fn write_worker(out: &mut String, number: usize, worker: &WorkerReport) -> fmt::Result {
    write!(out, "  worker {number}: {} connections", grouped(worker.connections))?;
    if let Some(bytes) = worker.bytes_per_connection {
        write!(out, " of {} bytes", grouped(bytes))?;
    }
    write!(
        out,
        ", {:.0} MiB in all, {:.1} MiB of it ledger, own lag p99 {}, busy {:.0} %, waited for a CPU {:.0} %",
        worker.resident_bytes as f64 / f64::from(1 << 20),
        worker.ledger_bytes as f64 / f64::from(1 << 20),
        micros(worker.lag_p99_us),
        worker.busy * 100.0,
        worker.starved * 100.0,
    )?;
    if let Some(why) = worker.held_up_by() {
        write!(out, ": it {why}")?;
    }
    writeln!(out)
}

fn write_published(out: &mut String, report: &Report) -> fmt::Result {
    let columns = ["due", "not sent", "sent", "acked", "rejected", "unacked"];
    row(out, "published", &columns.map(str::to_owned))?;
    for qos in QoS::ALL {
        let sums = &report.qos[qos];
        let counts =
            [sums.due, sums.not_sent, sums.sent, sums.acknowledged, sums.rejected, sums.unacknowledged];
        row(out, &format!("  QoS {}", qos as u8), &counts.map(grouped))?;
    }
    Ok(())
}

fn write_received(out: &mut String, report: &Report) -> fmt::Result {
    let columns = ["delivered", "lost", "duplicates", "out of order", "corrupt", "foreign"];
    for one in &report.subscribers {
        let durable = if one.durable { ", durable" } else { "" };
        let title = format!(
            "{} ({}, QoS {}, MQTT {}{durable})",
            one.name, one.filter, one.subscription_qos, one.protocol
        );
        writeln!(out, "\n{title}")?;
        row(out, "", &columns.map(str::to_owned))?;
        for qos in QoS::ALL {
            let sums = &one.qos[qos];
            let mut counts =
                [sums.delivered, sums.lost, sums.duplicated, sums.out_of_order].map(grouped).to_vec();
            if qos == QoS::AtLeastOnce {
                counts.extend([one.corrupt, one.foreign].map(grouped));
            }
            row(out, &format!("  QoS {}", qos as u8), &counts)?;
        }
    }
    Ok(())
}

fn write_edge(out: &mut String, report: &Report) -> fmt::Result {
    let Some(edge) = &report.edge else { return Ok(()) };
    let qos = &edge.qos;
    writeln!(
        out,
        "\n{} sites with a broker of their own: {} events acknowledged there, {} passed on, {} lost there ({} by full buffers)",
        grouped(edge.sites),
        grouped(qos.qos1.acknowledged),
        grouped(qos.qos0.forwarded + qos.qos1.forwarded),
        grouped(edge.lost()),
        grouped(edge.dropped),
    )?;
    writeln!(
        out,
        "  uplinks broke {} times; at most {} events, {:.1} MiB waited at one site",
        grouped(edge.disconnects),
        grouped(edge.waiting_max),
        edge.waiting_bytes_max as f64 / f64::from(1 << 20),
    )
}

/// Nothing where all events are of one class: the table above has said it.
fn write_classes(out: &mut String, report: &Report) -> fmt::Result {
    if report.classes.len() < 2 {
        return Ok(());
    }
    let line = |out: &mut String, name: &str, cells: [String; 10]| {
        write!(out, "{name:<17}")?;
        cells.iter().try_for_each(|cell| write!(out, " {cell:>10}"))?;
        writeln!(out)
    };
    let columns = [
        "sent",
        "acked",
        "rejected",
        "unacked",
        "delivered",
        "lost",
        "duplicates",
        "disordered",
        "late",
        "corrupt",
    ];
    writeln!(out)?;
    line(out, "by class", columns.map(str::to_owned))?;
    for one in &report.classes {
        for qos in QoS::ALL {
            line(out, &format!("  {} QoS {}", one.class, qos as u8), one.cells(qos))?;
        }
    }
    Ok(())
}

fn write_latencies(out: &mut String, report: &Report) -> fmt::Result {
    writeln!(out)?;
    row(out, "latency", &["p50", "p90", "p99", "p99.9", "max"].map(str::to_owned))?;
    let mut line = |name: &str, sums: &LatencySummary| {
        if sums.count == 0 {
            return Ok(());
        }
        row(out, name, &[sums.p50, sums.p90, sums.p99, sums.p999, sums.max].map(micros))
    };
    line("  sent to PUBACK", &report.sent_to_puback_us)?;
    line("  due to PUBACK", &report.due_to_puback_us)?;
    for one in &report.subscribers {
        line(&format!("  due to {}", one.name), &one.due_to_delivered_us)?;
    }
    Ok(())
}

fn write_connections(out: &mut String, report: &Report) -> fmt::Result {
    let fleet = &report.fleet;
    let backends: u64 = report.subscribers.iter().map(|one| one.disconnects).sum();
    if fleet.disconnects + backends == 0 {
        return Ok(());
    }
    writeln!(
        out,
        "\nbroken connections: {} of devices with {} events in flight ({} sent again, {} given up), {backends} of subscribers",
        grouped(fleet.disconnects),
        grouped(fleet.in_flight_at_disconnect),
        grouped(fleet.retransmitted),
        grouped(fleet.given_up),
    )?;
    match &fleet.last_error {
        Some(error) => writeln!(out, "                    the last one: {error}"),
        None => Ok(()),
    }
}

fn write_counters(out: &mut String, report: &Report) -> fmt::Result {
    if let Some(why) = &report.gateway_unread {
        writeln!(out, "\nthe gateway's own counters are not compared: {why}")?;
    }
    let Some(gateway) = &report.gateway else { return Ok(()) };
    let differences: Vec<&CounterLine> = gateway.lines.iter().filter(|line| line.difference() != 0).collect();
    if differences.is_empty() {
        return writeln!(
            out,
            "\nthe gateway's own counters agree with the ledger in {} numbers",
            gateway.lines.len()
        );
    }
    writeln!(out, "\nthe gateway's own counters differ from the ledger:")?;
    for line in differences {
        let why = line.explained_by.as_deref().unwrap_or("nothing explains it");
        let (here, there) = (grouped(line.ledger), grouped(line.gateway));
        writeln!(out, "  {}: {here} here, {there} there ({why})", line.name)?;
    }
    Ok(())
}

fn row(out: &mut String, name: &str, cells: &[String]) -> fmt::Result {
    write!(out, "{name:<20}")?;
    cells.iter().try_for_each(|cell| write!(out, " {cell:>12}"))?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_well() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(micros(999), "999 µs");
        assert_eq!(micros(1_250), "1.2 ms");
        assert_eq!(micros(250_000), "250 ms");
        assert_eq!(micros(2_500_000), "2.50 s");
    }
}
