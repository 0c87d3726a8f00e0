//! What the view says: the numbers of the last second as lines. Knows no terminal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::host::Host;
use crate::process;
use crate::qos::ByQoS;
use crate::report::text::{grouped, micros};
use crate::run::{LatencySummary, Phase, Plan, Shared};

/// Rates over less than this say nothing.
const SHORTEST: Duration = Duration::from_millis(500);

/// Reads the run and says how it goes.
pub(super) struct View {
    shared: Arc<Shared>,
    devices: u64,
    rate: f64,
    seed: u64,
    mqtt: String,
    metrics: String,
    port_option: String,
    notice: Option<&'static str>,
    began: Instant,
    last: Sample,
    rates: Rates,
}

/// Counters at one moment.
#[derive(Clone, Default)]
struct Sample {
    at: Duration,
    cpu: Duration,
    sent: ByQoS<u64>,
    acknowledged: u64,
    delivered: u64,
}

/// What came of the time between two samples.
#[derive(Default)]
struct Rates {
    sent: f64,
    acknowledged: f64,
    delivered: f64,
    cpu_percent: f64,
    sent_to_puback: LatencySummary,
    due_to_puback: LatencySummary,
    due_to_delivered: Vec<LatencySummary>,
}

impl View {
    pub(super) fn new(shared: Arc<Shared>, plan: &Plan, host: &Host) -> Self {
        let mqtt = host.mqtt();
        View {
            devices: u64::from(plan.scenario.fleet.devices),
            rate: plan.scenario.fleet.rate,
            seed: plan.seed,
            mqtt: mqtt.to_string(),
            metrics: host.admin().map_or_else(|| "off".to_owned(), |admin| format!("http://{admin}/metrics")),
            port_option: if mqtt.port() == 1_883 { String::new() } else { format!(" -p {}", mqtt.port()) },
            notice: (!host.has_usual_ports()).then_some("a usual port is taken, so the kernel chose"),
            began: Instant::now(),
            last: Sample { cpu: process::cpu_time(), ..Sample::default() },
            rates: Rates::default(),
            shared,
        }
    }

    /// Takes a new sample; rates are over the time since the last one. About once a second; sooner than half of one it
    /// keeps what it has.
    pub(super) fn sample(&mut self) {
        if self.began.elapsed().saturating_sub(self.last.at) < SHORTEST {
            return;
        }
        let stats = &self.shared.stats;
        let now = Sample {
            at: self.began.elapsed(),
            cpu: process::cpu_time(),
            sent: ByQoS { qos0: stats.sent.qos0.get(), qos1: stats.sent.qos1.get() },
            acknowledged: stats.acknowledged.get(),
            delivered: self.delivered(),
        };
        let seconds = now.at.saturating_sub(self.last.at).as_secs_f64().max(1e-3);
        let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let shared = &self.shared;
        self.rates = Rates {
            sent: per_second(now.sent.qos0 + now.sent.qos1, self.last.sent.qos0 + self.last.sent.qos1),
            acknowledged: per_second(now.acknowledged, self.last.acknowledged),
            delivered: per_second(now.delivered, self.last.delivered),
            cpu_percent: now.cpu.saturating_sub(self.last.cpu).as_secs_f64() / seconds * 100.0,
            sent_to_puback: shared.sent_to_puback.take_recent(),
            due_to_puback: shared.due_to_puback.take_recent(),
            due_to_delivered: shared.subscribers.iter().map(|one| one.latencies.take_recent()).collect(),
        };
        self.last = now;
    }

    /// The live view.
    pub(super) fn lines(&self) -> Vec<String> {
        let shared = &self.shared;
        let stats = &shared.stats;
        let rates = &self.rates;
        let mut lines = vec![
            format!("gateway demo   {}   seed {}", self.phase(), self.seed),
            String::new(),
            format!("  MQTT      {}   metrics {}", self.mqtt, self.metrics),
            format!("  look in   mosquitto_sub{} -t 'devices/#'", self.port_option),
        ];
        lines.extend(self.notice.map(|notice| format!("            ({notice})")));
        lines.push(String::new());
        lines.push(format!(
            "  fleet     {} of {} devices connected, {} events/s due",
            grouped(stats.connected.get()),
            grouped(self.devices),
            grouped(self.rate.round() as u64)
        ));
        lines.push(format!(
            "  rates/s   sent {:>7}   PUBACK {:>7}   delivered {:>7}   CPU {:>3.0} % (gateway and fleet)",
            grouped(rates.sent.round() as u64),
            grouped(rates.acknowledged.round() as u64),
            grouped(rates.delivered.round() as u64),
            rates.cpu_percent
        ));
        lines.push(String::new());
        lines.push(latency_line("sent to PUBACK", &rates.sent_to_puback));
        lines.push(latency_line("due to PUBACK", &rates.due_to_puback));
        for (one, latency) in shared.subscribers.iter().zip(&rates.due_to_delivered) {
            lines.push(latency_line(&format!("due to {}", one.spec.name), latency));
        }
        lines.push(String::new());
        self.push_ledger(&mut lines);
        lines
    }

    fn push_ledger(&self, lines: &mut Vec<String>) {
        let totals = self.shared.ledger.totals();
        lines.push(format!("  {:<22}{:>14}{:>14}{:>14}", "ledger", "QoS 0", "QoS 1", "PUBACK"));
        lines.push(format!(
            "  {:<22}{:>14}{:>14}{:>14}",
            "  sent",
            grouped(totals.published.qos0.sent),
            grouped(totals.published.qos1.sent),
            grouped(totals.published.qos1.acknowledged)
        ));
        for (one, sums) in self.shared.subscribers.iter().zip(&totals.received) {
            let bad = one.corrupt.get() + sums.qos0.out_of_order + sums.qos1.out_of_order;
            let repeats = sums.qos0.duplicated + sums.qos1.duplicated;
            let remark = match (bad, repeats) {
                (0, 0) => "in order, none twice, none corrupt".to_owned(),
                _ => format!("{} corrupt or out of order, {} twice", grouped(bad), grouped(repeats)),
            };
            lines.push(format!(
                "  {:<22}{:>14}{:>14}   {remark}",
                format!("  {}", one.spec.name),
                grouped(sums.qos0.delivered),
                grouped(sums.qos1.delivered)
            ));
        }
        let trouble = self.shared.stats.disconnects.get() + self.shared.stats.overflowed.get();
        if trouble > 0 {
            lines.push(format!(
                "  {} connections of devices broke, {} events could not be sent",
                grouped(self.shared.stats.disconnects.get()),
                grouped(self.shared.stats.overflowed.get())
            ));
        }
    }

    /// The same in one line.
    pub(super) fn line(&self) -> String {
        let rates = &self.rates;
        let end_to_end = rates.due_to_delivered.last().copied().unwrap_or_default();
        format!(
            "{} | {} devices | sent {}/s, PUBACK {}/s, delivered {}/s | PUBACK p50 {} p99 {} | end to end p50 {} p99 {} | CPU {:.0} %",
            self.phase(),
            grouped(self.shared.stats.connected.get()),
            grouped(rates.sent.round() as u64),
            grouped(rates.acknowledged.round() as u64),
            grouped(rates.delivered.round() as u64),
            micros(rates.sent_to_puback.p50),
            micros(rates.sent_to_puback.p99),
            micros(end_to_end.p50),
            micros(end_to_end.p99),
            rates.cpu_percent,
        )
    }

    /// What to know before the first line.
    pub(super) fn heading(&self) -> String {
        let notice = self.notice.map(|notice| format!(" ({notice})")).unwrap_or_default();
        format!(
            "gateway on {}{notice}, metrics {}; try: mosquitto_sub{} -t 'devices/#'; Ctrl-C ends; seed {}",
            self.mqtt, self.metrics, self.port_option, self.seed
        )
    }

    fn phase(&self) -> String {
        match self.shared.phase() {
            Phase::Connecting => "connecting".to_owned(),
            Phase::Publishing => {
                let seconds = self.shared.clock.now_us() / 1_000_000;
                format!("running {}:{:02} (Ctrl-C ends)", seconds / 60, seconds % 60)
            }
            Phase::Draining => "draining".to_owned(),
            Phase::Done => "done".to_owned(),
        }
    }

    fn delivered(&self) -> u64 {
        self.shared.subscribers.iter().map(|one| one.delivered.qos0.get() + one.delivered.qos1.get()).sum()
    }
}

fn latency_line(name: &str, latency: &LatencySummary) -> String {
    if latency.count == 0 {
        return format!("  {name:<20}-");
    }
    format!(
        "  {name:<20}p50 {:>8}   p99 {:>8}   max {:>8}",
        micros(latency.p50),
        micros(latency.p99),
        micros(latency.max)
    )
}
