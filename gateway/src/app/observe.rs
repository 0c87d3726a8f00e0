//! Figures of the whole: what is sampled every second, and the names of everything.

use crate::connection::Context;
use crate::{connection, delivery, engine, telemetry};
use gateway_storage::CommitStats;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use std::time::Duration;

/// Names every family of the gateway.
pub(super) fn describe() {
    telemetry::describe_all(&[
        connection::metrics::describe,
        delivery::metrics::describe,
        engine::metrics::describe,
        describe_sampled,
    ]);
}

fn describe_sampled() {
    describe_gauge!("gateway_connections", Unit::Count, "Open connections, handshakes included");
    describe_gauge!("gateway_sessions_durable", Unit::Count, "Sessions that outlive their connection");
    describe_gauge!(
        "gateway_backlog_pending",
        Unit::Count,
        "Messages that durable sessions have not acknowledged"
    );
    describe_gauge!("gateway_log_size_bytes", Unit::Bytes, "Size of the log on disk");
    describe_gauge!("gateway_log_end_offset", Unit::Count, "Offset after the newest entry of the log");
    describe_gauge!("gateway_log_poisoned", Unit::Count, "1 while the log has failed and takes nothing");
    describe_counter!("gateway_commit_groups_total", Unit::Count, "Groups committed to the log");
    describe_counter!(
        "gateway_commit_entries_total",
        Unit::Count,
        "Entries committed to the log, of every kind"
    );
    describe_counter!("gateway_log_written_bytes_total", Unit::Bytes, "Bytes written to the log");
    describe_histogram!("gateway_commit_sync_seconds", Unit::Seconds, "Time one sync of the log took");
    describe_histogram!("gateway_commit_group_entries", Unit::Count, "Entries in one group");
}

/// Carries what was last seen of totals that are kept elsewhere.
#[derive(Default)]
pub(super) struct Sampler {
    last: CommitStats,
}

impl Sampler {
    pub(super) fn sample(&mut self, context: &Context) {
        let engine = &context.engine;
        gauge!("gateway_connections").set(context.registry.connections() as f64);
        gauge!("gateway_sessions_durable").set(engine.session_count() as f64);
        let pending: u64 = engine.sessions().iter().map(|session| session.state().backlog.pending()).sum();
        gauge!("gateway_backlog_pending").set(pending as f64);
        gauge!("gateway_log_end_offset").set(engine.end().get() as f64);
        gauge!("gateway_log_poisoned").set(f64::from(u8::from(engine.is_poisoned())));
        let stats = engine.commit().stats();
        gauge!("gateway_log_size_bytes").set(stats.log_bytes as f64);
        counter!("gateway_commit_groups_total").increment(stats.groups - self.last.groups);
        counter!("gateway_commit_entries_total").increment(stats.entries - self.last.entries);
        counter!("gateway_log_written_bytes_total").increment(stats.bytes_written - self.last.bytes_written);
        counter!("gateway_events_rejected_total", "reason" => "log_failed")
            .increment(stats.events_failed - self.last.events_failed);
        self.last = stats;
        let sync = histogram!("gateway_commit_sync_seconds");
        let entries = histogram!("gateway_commit_group_entries");
        for sample in engine.commit().drain_samples() {
            sync.record(Duration::from_nanos(sample.sync_nanos).as_secs_f64());
            entries.record(f64::from(sample.entries));
        }
    }
}
