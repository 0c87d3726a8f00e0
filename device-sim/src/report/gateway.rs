//! The gateway's own counters beside the ledger.
//!
//! Promise: every difference is named, with what explains it if something does. Both sides count the same events in places
//! that know nothing of each other, so what neither connection breaks nor other clients explain is a fault of one of them.
//! Pure: [`Reading`] is the text of `/metrics`, [`Tally`] adds up readings (a restart begins counters anew), [`compare`] sets
//! them beside a report.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Report;

/// One reading of `/metrics`: values by sample name, labels included, as printed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading(BTreeMap<String, f64>);

/// Counters from a first reading on, over restarts.
#[derive(Clone, Debug)]
pub struct Tally {
    first: Reading,
    last: Reading,
    /// What was counted by processes that are gone.
    gone: BTreeMap<String, f64>,
    restarts: u32,
}

/// The ledger and the gateway's counters, side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CounterComparison {
    /// How often the gateway was restarted between the readings. What it counted after the last reading before that is
    /// not known.
    pub restarts: u32,
    /// What was compared.
    pub lines: Vec<CounterLine>,
}

/// One number that both sides have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CounterLine {
    /// What is counted.
    pub name: String,
    /// What the ledger has; of the gateway's books: what came in.
    pub ledger: u64,
    /// What the gateway has; of its books: where it went.
    pub gateway: u64,
    /// What explains the difference; none if nothing does, or if there is no difference.
    pub explained_by: Option<String>,
}

impl Reading {
    /// Reads the text form; lines that are no samples are passed over.
    pub fn parse(text: &str) -> Self {
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse::<f64>().ok().filter(|value| value.is_finite())?))
        };
        Reading(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// The sample of this very name, labels included.
    pub fn get(&self, sample: &str) -> Option<f64> {
        self.0.get(sample).copied()
    }

    /// The samples of a family: the value of one of its labels, and the number.
    pub fn by_label<'a>(&'a self, family: &'a str, label: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.iter().filter(move |(name, _)| is_of(name, family)).filter_map(move |(name, value)| {
            let (_, labels) = name.split_once('{')?;
            let found = labels.trim_end_matches('}').split(',').find_map(|pair| {
                pair.split_once('=')
                    .filter(|(name, _)| *name == label)
                    .map(|(_, value)| value.trim_matches('"'))
            });
            Some((found?, *value))
        })
    }

    fn sum(&self, family: &str) -> f64 {
        sum(&self.0, family)
    }

    /// Tells processes apart.
    fn started(&self) -> Option<f64> {
        self.get("process_start_time_seconds")
    }
}

impl Tally {
    /// Counts from this reading on.
    pub fn new(first: Reading) -> Self {
        Tally { last: first.clone(), first, gone: BTreeMap::new(), restarts: 0 }
    }

    /// Takes the next reading.
    pub fn note(&mut self, next: Reading) {
        if next.started() != self.last.started() {
            for (name, value) in &self.last.0 {
                let before = self.first.0.get(name).copied().unwrap_or(0.0);
                *self.gone.entry(name.clone()).or_insert(0.0) += value - before;
            }
            self.first = Reading::default();
            self.restarts += 1;
        }
        self.last = next;
    }

    /// How much a family, or one sample of it, has grown.
    pub fn growth(&self, family: &str) -> u64 {
        let grown = self.last.sum(family) - self.first.sum(family) + sum(&self.gone, family);
        grown.max(0.0).round() as u64
    }

    /// A sample of this very name as it was read last, labels included.
    pub fn value(&self, sample: &str) -> Option<f64> {
        self.last.get(sample)
    }

    /// Both of the gateway's books: of its publishers and of its subscribers.
    pub fn books(&self) -> [CounterLine; 2] {
        [self.publishers_books(), self.subscribers_books()]
    }

    /// Whether what the gateway took in and what it routed has arrived somewhere: to be waited for, since acknowledgements
    /// of deliveries are counted a little later.
    pub fn balances(&self) -> bool {
        self.books().iter().all(|books| books.difference() == 0)
    }

    fn publishers_books(&self) -> CounterLine {
        let gone =
            ["accepted", "rejected", "shed"].map(|end| self.growth(&format!("gateway_events_{end}_total")));
        CounterLine {
            name: "the gateway's books: received = accepted + rejected + shed".to_owned(),
            ledger: self.growth("gateway_events_received_total"),
            gateway: gone.iter().sum(),
            explained_by: None,
        }
    }

    fn subscribers_books(&self) -> CounterLine {
        let ends = ["acked", "expired", "dropped", "dead_lettered"];
        let gone: u64 = ends.iter().map(|end| self.growth(&format!("gateway_deliveries_{end}_total"))).sum();
        let waiting = self.last.sum("gateway_backlog_pending") - self.first.sum("gateway_backlog_pending");
        CounterLine {
            name: "the gateway's books: routed = acked + pending + expired + dropped + dead-lettered"
                .to_owned(),
            ledger: self.growth("gateway_deliveries_routed_total"),
            gateway: gone.saturating_add_signed(waiting.round() as i64),
            explained_by: None,
        }
    }
}

impl CounterComparison {
    /// The differences that nothing explains, one sentence each.
    pub fn unexplained(&self) -> impl Iterator<Item = String> + '_ {
        let lines = self.lines.iter().filter(|line| line.difference() != 0 && line.explained_by.is_none());
        lines.map(|line| format!("{}: {} there, {} here", line.name, line.gateway, line.ledger))
    }
}

impl CounterLine {
    /// The gateway's number less the ledger's.
    pub fn difference(&self) -> i128 {
        i128::from(self.gateway) - i128::from(self.ledger)
    }
}

const OTHERS: &str = "more than this run's ledger: wills, commands, or other clients";
const BROKEN: &str = "connections broke with events on their way";

/// Sets what the gateway counted beside what the report has.
pub fn compare(report: &Report, tally: &Tally) -> CounterComparison {
    let (qos0, qos1) = (&report.qos.qos0, &report.qos.qos1);
    let fleet = &report.fleet;
    let edge_lost = report.edge.as_ref().is_some_and(|edge| edge.lost() > 0);
    let broke = fleet.disconnects > 0 || report.edge.as_ref().is_some_and(|edge| edge.disconnects > 0);
    let less = match (broke, edge_lost) {
        (true, _) => Some(BROKEN),
        (false, true) => Some("lost at sites with a broker of their own"),
        (false, false) => None,
    };
    let subscribers_broke = report.subscribers.iter().any(|one| one.disconnects > 0);
    let received = |qos: u8| tally.growth(&format!("gateway_events_received_total{{qos=\"{qos}\"}}"));
    let refused = tally.growth("gateway_events_rejected_total") + tally.growth("gateway_events_shed_total");
    let arrived: u64 = report
        .subscribers
        .iter()
        .map(|one| {
            let first_or_not =
                [&one.qos.qos0, &one.qos.qos1].map(|all| all.delivered + all.duplicated + all.late);
            first_or_not.iter().sum::<u64>() + one.corrupt + one.foreign
        })
        .sum();
    let mut lines = vec![
        line("received, QoS 0", qos0.sent, received(0), less, Some(OTHERS)),
        line(
            "received, QoS 1, repetitions included",
            qos1.sent + fleet.retransmitted,
            received(1),
            less,
            Some(OTHERS),
        ),
        line(
            "accepted (here: acknowledged at QoS 1, sent at QoS 0)",
            qos1.acknowledged + qos0.sent,
            tally.growth("gateway_events_accepted_total"),
            match refused > qos1.rejected {
                true => Some("refused or shed at QoS 0, which no publisher is told"),
                false => less,
            },
            Some("acknowledgements did not arrive, or were of repetitions or other clients' events"),
        ),
        line(
            "refused or shed (here: at QoS 1, with a Reason Code)",
            qos1.rejected,
            refused,
            None,
            Some(
                "refused or shed at QoS 0, which no publisher is told, or where the version has no Reason Code",
            ),
        ),
        line(
            "sent to subscribers (here: arrived, first or not)",
            arrived,
            tally.growth("gateway_deliveries_sent_total"),
            None,
            Some(if subscribers_broke {
                "connections of subscribers broke with deliveries on their way"
            } else {
                "deliveries to other subscribers than this run's, or of what is no event of the ledger"
            }),
        ),
        tally.publishers_books(),
        tally.subscribers_books(),
    ];
    if tally.restarts > 0 {
        for line in lines.iter_mut().filter(|line| line.difference() != 0) {
            let known = "the gateway was restarted, and what it counted just before is not known";
            line.explained_by = Some(known.to_owned());
        }
    }
    CounterComparison { restarts: tally.restarts, lines }
}

fn line(name: &str, ledger: u64, gateway: u64, less: Option<&str>, more: Option<&str>) -> CounterLine {
    let explained_by = match gateway.cmp(&ledger) {
        std::cmp::Ordering::Less => less,
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => more,
    };
    CounterLine { name: name.to_owned(), ledger, gateway, explained_by: explained_by.map(str::to_owned) }
}

fn sum(samples: &BTreeMap<String, f64>, family: &str) -> f64 {
    samples.iter().filter(|(name, _)| is_of(name, family)).map(|(_, value)| value).sum()
}

fn is_of(name: &str, family: &str) -> bool {
    name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::Plan;
    use crate::qos::QoS;
    use crate::scenario::Scenario;
    use crate::shared::Shared;

    fn reading(received: (u64, u64), accepted: u64, sent: u64, started: u64) -> Reading {
        Reading::parse(&format!(
            "# TYPE gateway_events_received_total counter\n\
             gateway_events_received_total{{qos=\"0\"}} {}\ngateway_events_received_total{{qos=\"1\"}} {}\n\
             gateway_events_accepted_total{{kind=\"stored\"}} {accepted}\n\
             gateway_deliveries_routed_total{{kind=\"live\"}} {sent}\ngateway_deliveries_acked_total {sent}\n\
             gateway_deliveries_sent_total{{qos=\"0\"}} {sent}\nprocess_start_time_seconds {started}.5\n",
            received.0, received.1
        ))
    }

    /// Ten events of QoS 1 and two of QoS 0, delivered to both subscribers.
    fn report() -> Report {
        let scenario = Scenario::parse(include_str!("../../scenarios/first.toml")).unwrap();
        let plan = Plan { scenario, host: "broker".to_owned(), port: 1_883, seed: 1, epoch: 2 };
        let shared = Shared::of(&plan);
        for sequence in 0..12 {
            let mut device = shared.ledger.device(0).unwrap();
            let qos = if sequence < 10 { QoS::AtLeastOnce } else { QoS::AtMostOnce };
            device.issue(sequence, qos);
            device.sent(sequence);
            if qos == QoS::AtLeastOnce {
                device.acknowledged(sequence);
            }
            device.delivered(0, sequence, qos);
            device.delivered(1, sequence, qos);
        }
        Report::new(&plan, &shared, Duration::from_secs(1), Duration::ZERO)
    }

    fn compared(after: Reading) -> CounterComparison {
        let mut tally = Tally::new(reading((100, 1_000), 1_100, 2_200, 1));
        tally.note(after);
        compare(&report(), &tally)
    }

    #[test]
    fn counters_that_agree_have_no_difference() {
        let compared = compared(reading((102, 1_010), 1_112, 2_224, 1));
        assert!(compared.lines.iter().all(|line| line.difference() == 0), "{compared:#?}");
        assert_eq!(compared.unexplained().count(), 0);
    }

    #[test]
    fn what_the_gateway_never_saw_is_a_fault_and_what_others_sent_is_not() {
        let fewer = compared(reading((102, 1_009), 1_111, 2_224, 1));
        let sentences: Vec<String> = fewer.unexplained().collect();
        assert_eq!(sentences.len(), 2, "{sentences:?}");
        assert_eq!(sentences.first().unwrap(), "received, QoS 1, repetitions included: 9 there, 10 here");
        let more = compared(reading((105, 1_010), 1_115, 2_224, 1));
        assert_eq!(more.unexplained().count(), 0);
        let named = more.lines.iter().find(|line| line.name == "received, QoS 0").unwrap();
        assert_eq!(named.difference(), 3);
        assert!(named.explained_by.as_deref().unwrap().contains("other clients"), "{named:?}");
    }

    #[test]
    fn books_that_do_not_balance_are_named() {
        let compared = compared(reading((102, 1_010), 1_113, 2_224, 1));
        let books = compared.unexplained().find(|line| line.contains("received = accepted")).unwrap();
        assert!(books.ends_with("13 there, 12 here"), "{books}");
    }

    #[test]
    fn a_restart_begins_counters_anew_and_is_said() {
        let mut tally = Tally::new(reading((100, 1_000), 1_100, 2_200, 1));
        tally.note(reading((101, 1_004), 1_105, 2_210, 1));
        tally.note(reading((0, 2), 2, 4, 2));
        tally.note(reading((1, 5), 6, 12, 2));
        assert_eq!(tally.growth("gateway_events_received_total"), 11);
        assert_eq!(tally.growth("gateway_events_received_total{qos=\"1\"}"), 9);
        let compared = compare(&report(), &tally);
        assert_eq!((compared.restarts, compared.unexplained().count()), (1, 0), "{compared:?}");
        assert!(compared.lines.iter().any(|line| line.difference() == -1 && line.explained_by.is_some()));
    }

    #[test]
    fn labels_are_read() {
        let reading =
            Reading::parse("gateway_pressure{resource=\"disk\"} 0.25\ngateway_level 2\n\nodd line\n");
        let pressures: Vec<(&str, f64)> = reading.by_label("gateway_pressure", "resource").collect();
        assert_eq!(pressures, [("disk", 0.25)]);
        assert_eq!(reading.get("gateway_level"), Some(2.0));
    }
}
