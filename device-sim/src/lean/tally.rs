//! What a worker counts and times, in the form in which it tells it.
//!
//! Counters are sums since the beginning, so that a report that was skipped loses nothing. Times are what was recorded since the
//! last report, as values and how often each occurred: the histograms on both sides have the same bounds, so that nothing is
//! lost in between.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::class::ByClass;
use crate::qos::{ByQoS, QoS};
use crate::shared::histogram;

/// Sums since the beginning; the last few fields say how it is now.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) due: ByQoS<u64>,
    pub(crate) overflowed: u64,
    pub(crate) sent: ByQoS<u64>,
    pub(crate) acknowledged: u64,
    pub(crate) rejected: u64,
    pub(crate) retransmitted: u64,
    pub(crate) disconnects: u64,
    pub(crate) in_flight_at_disconnect: u64,
    pub(crate) given_up: u64,
    /// Per subscriber of the scenario: what is to reach it. QoS 0: sent. QoS 1: acknowledged.
    pub(crate) expected: Vec<ByQoS<u64>>,
    /// The subscribers of this worker.
    pub(crate) subscribers: Vec<SubscriberTally>,
    /// Connections of devices that are up.
    pub(crate) connected: u64,
    /// Events that are due and not written.
    pub(crate) queued: u64,
    /// QoS 1 events that are written and not acknowledged.
    pub(crate) in_flight: u64,
    /// What the last connection that failed or broke said.
    pub(crate) last_error: Option<String>,
}

/// One subscriber's sums.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SubscriberTally {
    /// Its place in the scenario.
    pub(crate) place: usize,
    /// Its subscription was granted once.
    pub(crate) is_ready: bool,
    /// Its subscription was refused.
    pub(crate) refusal: Option<String>,
    pub(crate) delivered: ByQoS<u64>,
    pub(crate) duplicated: u64,
    pub(crate) corrupt: u64,
    /// Of these: on a topic of a device, by its class.
    pub(crate) corrupt_of: ByClass<u64>,
    pub(crate) foreign: u64,
    pub(crate) disconnects: u64,
    pub(crate) sessions_lost: u64,
    pub(crate) may_come_again: u64,
    /// It is connected.
    pub(crate) connected: u64,
    /// When the newest event that was delivered had been due.
    pub(crate) newest_due_us: u64,
}

/// What a time is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Timing {
    /// From due to written, as far as the simulator is to blame; and how long what has arrived lay unread.
    Lag,
    /// From due to PUBACK.
    DueToPuback,
    /// From the first writing to PUBACK.
    SentToPuback,
    /// From due to delivered, to the subscriber in this place.
    Delivery(usize),
    /// From due to PUBACK, of what is timed on its own in this place, see [`crate::scenario::phase_gate::Watched`].
    Watched(usize),
}

/// Values in microseconds and how often each occurred.
pub(crate) type Occurrences = Vec<(u64, u64)>;

/// What was recorded of one kind of time since the last report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Times {
    pub(crate) of: Timing,
    /// Of the warm-up.
    pub(crate) warm_up: Occurrences,
    /// Of the rest.
    pub(crate) counted: Occurrences,
}

/// Records one kind of time.
pub(super) struct Recorder {
    of: Timing,
    warm_up: Histogram<u64>,
    counted: Histogram<u64>,
}

impl Recorder {
    pub(super) fn new(of: Timing) -> Self {
        Recorder { of, warm_up: histogram(), counted: histogram() }
    }

    /// Records one; `counts` if it is not part of the warm-up.
    pub(super) fn record(&mut self, latency_us: u64, counts: bool) {
        self.record_many(latency_us, 1, counts);
    }

    /// The same so many times.
    pub(super) fn record_many(&mut self, latency_us: u64, count: u64, counts: bool) {
        let histogram = if counts { &mut self.counted } else { &mut self.warm_up };
        histogram.saturating_record_n(latency_us, count);
    }

    /// What was recorded since the last time, if anything was.
    pub(super) fn take(&mut self) -> Option<Times> {
        if self.warm_up.is_empty() && self.counted.is_empty() {
            return None;
        }
        let times =
            Times { of: self.of, warm_up: occurrences(&self.warm_up), counted: occurrences(&self.counted) };
        self.warm_up.reset();
        self.counted.reset();
        Some(times)
    }
}

fn occurrences(histogram: &Histogram<u64>) -> Occurrences {
    histogram.iter_recorded().map(|value| (value.value_iterated_to(), value.count_at_value())).collect()
}

/// What the events of one group of devices count towards: the subscribers whose filters match their topics.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) subscribers: u32,
    pub(super) expected: ByQoS<u64>,
}

/// Devices by whose subscribers their topics match.
#[derive(Debug, Default)]
pub(super) struct Groups(Vec<Group>);

impl Groups {
    /// The group of devices that the subscribers of this bitmap are to hear of.
    pub(super) fn group_of(&mut self, subscribers: u32) -> u16 {
        let known = self.0.iter().position(|group| group.subscribers == subscribers);
        let place = known.unwrap_or_else(|| {
            self.0.push(Group { subscribers, expected: ByQoS::default() });
            self.0.len() - 1
        });
        // As many groups as there are combinations of 16 subscribers, at most.
        u16::try_from(place).unwrap_or(u16::MAX)
    }

    /// One more event is to reach them.
    pub(super) fn expect(&mut self, group: u16, qos: QoS) {
        if let Some(group) = self.0.get_mut(usize::from(group)) {
            group.expected[qos] += 1;
        }
    }

    /// Per subscriber.
    pub(super) fn expected(&self, subscribers: usize) -> Vec<ByQoS<u64>> {
        let mut expected = vec![ByQoS::default(); subscribers];
        for group in &self.0 {
            for (place, sums) in expected.iter_mut().enumerate() {
                if group.subscribers >> place & 1 == 1 {
                    sums.qos0 += group.expected.qos0;
                    sums.qos1 += group.expected.qos1;
                }
            }
        }
        expected
    }
}
