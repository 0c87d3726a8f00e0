//! What the view says: the run's last second as lines. Knows no terminal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::plan::Plan;
use crate::process;
use crate::report::text::{grouped, micros};
use crate::shared::series::{GatewaySample, Latest};
use crate::shared::{LatencySummary, Phase, Shared};

/// CPU over less than this says nothing.
const SHORTEST: Duration = Duration::from_millis(500);

/// Cells of the progress bar.
const BAR: usize = 40;

/// What a view says besides numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    /// The first words of the first line.
    pub(crate) title: String,
    /// Lines below it: where to look, what to know.
    pub(crate) notes: Vec<String>,
    /// Whose CPU time is shown.
    pub(crate) cpu_of: &'static str,
}

/// Reads the run and says how it goes.
pub(crate) struct View {
    shared: Arc<Shared>,
    words: Words,
    devices: u64,
    seed: u64,
    duration: Option<Duration>,
    cpu: (Instant, Duration),
    cpu_percent: f64,
    latest: Latest,
}

impl View {
    pub(crate) fn new(shared: Arc<Shared>, plan: &Plan, words: Words) -> Self {
        View {
            words,
            devices: u64::from(plan.scenario.fleet.devices),
            seed: plan.seed,
            duration: plan.scenario.run.duration,
            cpu: (Instant::now(), process::cpu_time()),
            cpu_percent: 0.0,
            latest: shared.series.latest(),
            shared,
        }
    }

    /// Reads the run's last sample, and what this process has used since the last time.
    pub(crate) fn look(&mut self) {
        self.latest = self.shared.series.latest();
        let (at, spent) = self.cpu;
        if at.elapsed() >= SHORTEST {
            let now = process::cpu_time();
            self.cpu_percent = now.saturating_sub(spent).as_secs_f64() / at.elapsed().as_secs_f64() * 100.0;
            self.cpu = (Instant::now(), now);
        }
    }

    /// The live view.
    pub(crate) fn lines(&self) -> Vec<String> {
        let stats = &self.shared.stats;
        let Latest { sample, sent_to_puback, due_to_puback, due_to_delivered } = &self.latest;
        let mut lines = vec![format!("{}   {}   seed {}", self.words.title, self.phase(), self.seed)];
        lines.extend(self.bar());
        lines.push(String::new());
        lines.extend(self.words.notes.iter().map(|note| format!("  {note}")));
        if !self.words.notes.is_empty() {
            lines.push(String::new());
        }
        lines.push(format!(
            "  fleet     {} of {} devices connected, {} events/s due",
            grouped(stats.connected.get()),
            grouped(self.devices),
            rate(sample.due_per_s)
        ));
        lines.push(format!(
            "  rates/s   sent {:>7}   PUBACK {:>7}   delivered {:>7}   CPU {:>3.0} % ({})",
            rate(sample.sent_per_s),
            rate(sample.acknowledged_per_s),
            rate(sample.delivered_per_s),
            self.cpu_percent,
            self.words.cpu_of
        ));
        lines.extend(sample.gateway.as_ref().map(gateway_line));
        lines.push(String::new());
        lines.push(latency_line("sent to PUBACK", sent_to_puback));
        lines.push(latency_line("due to PUBACK", due_to_puback));
        for (one, latency) in self.shared.subscribers.iter().zip(due_to_delivered) {
            lines.push(latency_line(&format!("due to {}", one.spec.name), latency));
        }
        lines.push(String::new());
        self.push_ledger(&mut lines);
        lines
    }

    fn push_ledger(&self, lines: &mut Vec<String>) {
        // Counters rather than the ledger: looking costs nothing, however large the fleet and wherever its ledger is kept.
        let stats = &self.shared.stats;
        lines.push(format!("  {:<22}{:>14}{:>14}{:>14}", "ledger", "QoS 0", "QoS 1", "PUBACK"));
        lines.push(format!(
            "  {:<22}{:>14}{:>14}{:>14}",
            "  sent",
            grouped(stats.sent.qos0.get()),
            grouped(stats.sent.qos1.get()),
            grouped(stats.acknowledged.get())
        ));
        for one in &self.shared.subscribers {
            let (corrupt, repeats) = (one.corrupt.get(), one.duplicated.get());
            let remark = match (corrupt, repeats) {
                (0, 0) => "none twice, none corrupt".to_owned(),
                _ => format!("{} corrupt, {} twice", grouped(corrupt), grouped(repeats)),
            };
            lines.push(format!(
                "  {:<22}{:>14}{:>14}   {remark}",
                format!("  {}", one.spec.name),
                grouped(one.delivered.qos0.get()),
                grouped(one.delivered.qos1.get())
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
    pub(crate) fn line(&self) -> String {
        let Latest { sample, sent_to_puback, due_to_delivered, .. } = &self.latest;
        let end_to_end = due_to_delivered.last().copied().unwrap_or_default();
        let level = sample.gateway.as_ref().and_then(|gateway| gateway.level);
        format!(
            "{} | {} devices | sent {}/s, PUBACK {}/s, delivered {}/s | PUBACK p50 {} p99 {} | end to end p50 {} p99 {} | \
             CPU {:.0} %{}",
            self.phase(),
            grouped(self.shared.stats.connected.get()),
            rate(sample.sent_per_s),
            rate(sample.acknowledged_per_s),
            rate(sample.delivered_per_s),
            micros(sent_to_puback.p50),
            micros(sent_to_puback.p99),
            micros(end_to_end.p50),
            micros(end_to_end.p99),
            self.cpu_percent,
            level.map(|level| format!(" | level L{level}")).unwrap_or_default(),
        )
    }

    /// What to know before the first line.
    pub(crate) fn heading(&self) -> String {
        let notes: String = self.words.notes.iter().map(|note| format!("; {note}")).collect();
        format!("{}{notes}; seed {}", self.words.title, self.seed)
    }

    fn phase(&self) -> String {
        match self.shared.phase() {
            Phase::Publishing => {
                let of = self.duration.map(|all| format!(" of {}", clock(all))).unwrap_or_default();
                let name = Some(&self.latest.sample.phase).filter(|name| !PLAIN.contains(&name.as_str()));
                let name = name.map(|name| format!(", {name}")).unwrap_or_default();
                format!("running {}{of}{name} (Ctrl-C ends)", clock(self.elapsed()))
            }
            phase => phase.name().to_owned(),
        }
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.shared.clock.now_us())
    }

    /// How much of the run is over, if it has an end.
    fn bar(&self) -> Option<String> {
        let all = self.duration?.as_secs_f64();
        let part = match self.shared.phase() {
            Phase::Connecting => 0.0,
            Phase::Publishing => (self.elapsed().as_secs_f64() / all).min(1.0),
            Phase::Draining | Phase::Done => 1.0,
        };
        let full = (part * BAR as f64) as usize;
        Some(format!("  [{}{}] {:>3.0} %", "#".repeat(full), ".".repeat(BAR - full), part * 100.0))
    }
}

/// Phases that have no name of their own.
const PLAIN: [&str; 3] = ["", "connecting", "publishing"];

fn rate(per_second: f64) -> String {
    grouped(per_second.round() as u64)
}

fn clock(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

fn gateway_line(gateway: &GatewaySample) -> String {
    let level = gateway.level.map(|level| format!("level L{level}   ")).unwrap_or_default();
    let cores = gateway.cores.map(|cores| format!("{:.0} % CPU   ", cores * 100.0)).unwrap_or_default();
    let memory = gateway.resident_bytes.map(|bytes| format!("{} MiB   ", bytes >> 20)).unwrap_or_default();
    let worst = gateway.pressure.iter().max_by(|a, b| a.1.total_cmp(b.1));
    let worst =
        worst.map(|(name, share)| format!("pressure {:.0} % ({name})", share * 100.0)).unwrap_or_default();
    format!("  gateway   {level}{cores}{memory}{worst}")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn the_view_has_rates_percentiles_ledger_level_and_progress() {
        let scenario = Scenario::parse(include_str!("../../scenarios/first.toml")).unwrap();
        let plan = Plan { scenario, host: "broker".to_owned(), port: 1_883, seed: 42, epoch: 2 };
        let shared = Shared::of(&plan);
        shared.stats.connected.add(150);
        shared.stats.sent.qos1.add(2_000);
        shared.due_to_puback.record(2_500, true);
        shared.subscribers[1].latencies.record(7_000, true);
        let pressure = [("disk".to_owned(), 0.31)].into();
        shared.series.note_gateway(GatewaySample { level: Some(2), pressure, ..GatewaySample::default() });
        shared.series.close(&shared);
        let words = Words { title: "first".to_owned(), notes: Vec::new(), cpu_of: "this process" };
        let mut view = View::new(Arc::clone(&shared), &plan, words);
        view.look();
        let text = view.lines().join("\n");
        for part in [
            "first   connecting   seed 42",
            "[........................................]   0 %",
            "150 of 200 devices connected",
            "level L2",
            "pressure 31 % (disk)",
            "due to PUBACK       p50   2.5 ms",
            "due to archive      p50   7.0 ms",
            "due to dashboard    -",
            "none twice, none corrupt",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(
            view.line().starts_with("connecting | 150 devices | sent ")
                && view.line().ends_with("| level L2")
        );
    }
}
