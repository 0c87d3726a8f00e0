//! The family of what readers of streams pass over.

use metrics::{Counter, Unit, counter, describe_counter};
use std::sync::LazyLock;

/// Why a reader passes over a part of the log without having looked at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skipped {
    /// It was too slow: its stream begins later by now, or the log does.
    Overtaken,
    /// It asked for an offset that its stream does not keep any more.
    NotKept,
    /// It is damaged.
    Damaged,
}

impl Skipped {
    const ALL: [Self; 3] = [Self::Overtaken, Self::NotKept, Self::Damaged];

    const fn label(self) -> &'static str {
        match self {
            Self::Overtaken => "overtaken",
            Self::NotKept => "not_kept",
            Self::Damaged => "damaged",
        }
    }
}

static SKIPPED: LazyLock<[Counter; 3]> = LazyLock::new(|| {
    Skipped::ALL.map(|reason| counter!("gateway_stream_offsets_skipped_total", "reason" => reason.label()))
});

/// Names the family for `/metrics`.
pub fn describe() {
    describe_counter!(
        "gateway_stream_offsets_skipped_total",
        Unit::Count,
        "Offsets that readers of streams passed over, whatever the log had there: because trimming overtook them, because \
         what they asked for was not kept any more, or because it is damaged"
    );
    LazyLock::force(&SKIPPED);
}

pub(super) fn skipped(reason: Skipped, offsets: u64) {
    if let Some(counter) = SKIPPED.get(reason as usize) {
        counter.increment(offsets);
    }
}
