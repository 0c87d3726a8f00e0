//! Spans of what a sink writes: one *deliver* for each traced event of a batch, from when it was stored until the target has it.

use super::target::Row;
use crate::spans::{Delivered, OpenSpan, Spans};
use std::collections::BTreeMap;

/// Spans of the events that are being written, by their offsets. Those that are left when it is dropped end as interrupted.
#[derive(Default)]
pub(super) struct Traced(BTreeMap<u64, OpenSpan>);

impl Traced {
    /// Begins the spans of `rows`, which the sink of `consumer` is about to write.
    pub(super) fn begin(spans: &Spans, consumer: &str, rows: &[Row<'_>]) -> Self {
        if !spans.is_on() {
            return Self::default();
        }
        let begun = rows.iter().filter_map(|row| {
            let delivered = Delivered {
                client_id: consumer,
                qos: row.event.qos,
                routed_ms: Some(row.time_ms),
                offset: Some(row.offset.get()),
                consumer: Some(consumer),
                ..Delivered::default()
            };
            Some((row.offset.get(), spans.deliver(&row.event, &delivered)?))
        });
        Self(begun.collect())
    }

    /// The target has these.
    pub(super) fn written(&mut self, rows: &[Row<'_>]) {
        for span in self.take(rows) {
            span.end("written");
        }
    }

    /// The target refuses this one for good.
    pub(super) fn refused(&mut self, row: &Row<'_>) {
        for span in self.take(std::slice::from_ref(row)) {
            span.fail("refused");
        }
    }

    /// The target takes nothing now: what is not written is tried again, with spans of its own.
    pub(super) fn failed(&mut self, outage: &'static str) {
        for (_, span) in std::mem::take(&mut self.0) {
            span.fail(outage);
        }
    }

    fn take(&mut self, rows: &[Row<'_>]) -> Vec<OpenSpan> {
        if self.0.is_empty() {
            return Vec::new();
        }
        rows.iter().filter_map(|row| self.0.remove(&row.offset.get())).collect()
    }
}
