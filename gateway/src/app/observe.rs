//! Figures of the whole: what is sampled every second, and the names of everything.

use crate::connection::Context;
use crate::consumer::Consumers;
use crate::engine::{DedupStats, Engine, RetentionReport};
use crate::sinks::{SinkState, SinkStatus, Sinks};
use crate::{admin, clock, connection, decisions, delivery, engine, spans, stream, telemetry};
use gateway_storage::{CommitStats, Offset};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// How often the same is said in the gateway's log at most.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// How the sinks are, as the API shows it.
pub(super) fn sinks(sinks: &Sinks, engine: &Engine) -> Vec<admin::SinkStatus> {
    let shown = |status: SinkStatus| {
        let stream = engine.consumer(&status.consumer).and_then(|consumer| {
            let stream = consumer.state().spec.stream.clone();
            engine.stream_id(&stream)
        });
        let (lag_bytes, lag_events) = stream.map_or((0, 0), |stream| {
            let (bytes, events) = engine.stream_before(stream, engine.end());
            let (bytes_before, events_before) = engine.stream_before(stream, Offset::new(status.next_offset));
            (bytes.saturating_sub(bytes_before), events.saturating_sub(events_before))
        });
        admin::SinkStatus {
            name: status.name.into(),
            r#type: status.kind,
            consumer: status.consumer.into(),
            state: status.state.as_str(),
            written: status.written,
            rejected: status.rejected,
            failures: status.failures,
            next_offset: status.next_offset,
            lag_events,
            lag_bytes,
            last_error: match status.state {
                SinkState::Down { error, .. } | SinkState::Ended { error } => Some(error),
                SinkState::Starting | SinkState::Up | SinkState::Paused => None,
            },
        }
    };
    sinks.list().into_iter().map(shown).collect()
}

/// Names every family of the gateway.
pub(super) fn describe() {
    telemetry::describe_all(&[
        admin::metrics::describe,
        connection::metrics::describe,
        delivery::metrics::describe,
        engine::metrics::describe,
        stream::metrics::describe,
        crate::lens::describe,
        decisions::metrics::describe,
        spans::metrics::describe,
        super::pressure::describe,
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
    describe_gauge!(
        "gateway_outbox_pending",
        Unit::Count,
        "Messages that wait in the outboxes of live subscribers; what waits for several counts for each"
    );
    describe_gauge!(
        "gateway_outbox_pending_bytes",
        Unit::Bytes,
        "What the outboxes of live subscribers are charged with; what waits for several counts for each"
    );
    describe_gauge!("gateway_log_bytes", Unit::Bytes, "Size of the log on disk");
    describe_gauge!("gateway_log_earliest_offset", Unit::Count, "Offset of the oldest entry of the log");
    describe_gauge!("gateway_log_end_offset", Unit::Count, "Offset after the newest entry of the log");
    describe_gauge!(
        "gateway_log_held",
        Unit::Count,
        "1 for what needs the oldest part of the log: a stream, a session, or a checkpoint that is not written yet"
    );
    describe_counter!(
        "gateway_log_trimmed_segments_total",
        Unit::Count,
        "Segments removed because nobody needs them"
    );
    describe_counter!(
        "gateway_log_trimmed_bytes_total",
        Unit::Bytes,
        "Bytes removed because nobody needs them"
    );
    describe_counter!("gateway_log_trim_failures_total", Unit::Count, "Times the log could not be trimmed");
    describe_gauge!("gateway_checkpoint_bytes", Unit::Bytes, "Size of the newest checkpoint of the view");
    describe_gauge!(
        "gateway_checkpoint_age_seconds",
        Unit::Seconds,
        "Time since the newest checkpoint of the view was written, or since the start"
    );
    describe_counter!(
        "gateway_checkpoint_failures_total",
        Unit::Count,
        "Checkpoints that could not be written"
    );
    describe_gauge!("gateway_view_failed", Unit::Count, "1 once the view is saved no more, until a restart");
    describe_gauge!(
        "gateway_view_waits_for_space",
        Unit::Count,
        "1 while the view cannot be saved because the disk is full"
    );
    describe_gauge!("gateway_stream_bytes", Unit::Bytes, "About how much a stream keeps");
    describe_gauge!("gateway_stream_events", Unit::Count, "About how many events a stream keeps");
    describe_gauge!(
        "gateway_consumer_lag_events",
        Unit::Count,
        "About how many events of its stream a consumer has not handed out"
    );
    describe_gauge!("gateway_consumer_lag_bytes", Unit::Bytes, "About how many bytes these take");
    describe_gauge!("gateway_consumer_workers", Unit::Count, "Workers of a consumer");
    describe_gauge!(
        "gateway_consumer_oldest_open_seconds",
        Unit::Seconds,
        "Time since the oldest event that is not settled was first handed out"
    );
    describe_gauge!("gateway_dedup_entries", Unit::Count, "Events whose event-id is remembered");
    describe_counter!(
        "gateway_dedup_forgotten_early_total",
        Unit::Count,
        "Values of event-id forgotten before dedup.window was over, because there were too many"
    );
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

/// The figures of one consumer: its lag in events and bytes, its workers, and the age of its oldest open event.
fn show(name: &str, [events, bytes, workers]: [u64; 3], oldest: Duration) {
    let name = || String::from(name);
    gauge!("gateway_consumer_lag_events", "consumer" => name()).set(events as f64);
    gauge!("gateway_consumer_lag_bytes", "consumer" => name()).set(bytes as f64);
    gauge!("gateway_consumer_workers", "consumer" => name()).set(workers as f64);
    gauge!("gateway_consumer_oldest_open_seconds", "consumer" => name()).set(oldest.as_secs_f64());
}

/// The figures of one stream.
fn show_stream(name: &str, bytes: u64, events: u64) {
    gauge!("gateway_stream_bytes", "stream" => name.to_owned()).set(bytes as f64);
    gauge!("gateway_stream_events", "stream" => name.to_owned()).set(events as f64);
}

/// Carries what was last seen of totals that are kept elsewhere.
#[derive(Default)]
pub(super) struct Sampler {
    last: CommitStats,
    last_retention: RetentionReport,
    last_dedup: DedupStats,
    /// Consumers whose figures are shown.
    consumers: HashSet<Box<str>>,
    /// Streams whose figures are shown.
    streams: HashSet<String>,
    /// Names forgotten early that the gateway's log does not tell of yet, and when it last did.
    unsaid: u64,
    said_at: Option<Instant>,
}

impl Sampler {
    pub(super) fn sample(&mut self, context: &Context) {
        let engine = &context.engine;
        gauge!("gateway_connections").set(context.registry.connections() as f64);
        gauge!("gateway_sessions_durable").set(engine.session_count() as f64);
        let pending: u64 = engine.sessions().iter().map(|session| session.state().backlog.pending()).sum();
        gauge!("gateway_backlog_pending").set(pending as f64);
        let waiting = context.outboxes.waiting();
        gauge!("gateway_outbox_pending").set(waiting.messages as f64);
        gauge!("gateway_outbox_pending_bytes").set(waiting.bytes as f64);
        gauge!("gateway_log_end_offset").set(engine.end().get() as f64);
        gauge!("gateway_log_poisoned").set(f64::from(u8::from(engine.is_poisoned())));
        let stats = engine.commit().stats();
        gauge!("gateway_log_bytes").set(stats.log_bytes as f64);
        counter!("gateway_commit_groups_total").increment(stats.groups - self.last.groups);
        counter!("gateway_commit_entries_total").increment(stats.entries - self.last.entries);
        counter!("gateway_log_written_bytes_total").increment(stats.bytes_written - self.last.bytes_written);
        counter!("gateway_events_rejected_total", "reason" => "log_failed")
            .increment(stats.events_failed - self.last.events_failed);
        self.last = stats;
        self.sample_retention(engine);
        self.sample_dedup(engine);
        self.sample_consumers(&context.consumers);
        let sync = histogram!("gateway_commit_sync_seconds");
        let entries = histogram!("gateway_commit_group_entries");
        for sample in engine.commit().drain_samples() {
            sync.record(Duration::from_nanos(sample.sync_nanos).as_secs_f64());
            entries.record(f64::from(sample.entries));
        }
    }

    fn sample_consumers(&mut self, consumers: &Consumers) {
        let mut gone = std::mem::take(&mut self.consumers);
        for consumer in consumers.list() {
            gone.remove(&consumer.name);
            let behind = [consumer.lag_events, consumer.lag_bytes, consumer.workers.len() as u64];
            show(&consumer.name, behind, Duration::from_millis(consumer.oldest_age_ms));
            self.consumers.insert(consumer.name);
        }
        for name in gone {
            show(&name, [0; 3], Duration::ZERO);
        }
    }

    fn sample_dedup(&mut self, engine: &Engine) {
        let stats = engine.dedup_stats();
        let forgotten = stats.forgotten_early - self.last_dedup.forgotten_early;
        gauge!("gateway_dedup_entries").set(stats.entries as f64);
        counter!("gateway_dedup_forgotten_early_total").increment(forgotten);
        self.last_dedup = stats;
        self.unsaid += forgotten;
        if self.unsaid > 0 && self.said_at.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
            tracing::warn!(
                forgotten = self.unsaid,
                entries = stats.entries,
                "names of events were forgotten before dedup.window was over, because there are more than dedup.max_entries: a repetition \
                 of such an event is stored again"
            );
            (self.unsaid, self.said_at) = (0, Some(Instant::now()));
        }
    }

    fn sample_retention(&mut self, engine: &Engine) {
        let report = engine.retention();
        gauge!("gateway_log_earliest_offset").set(engine.log().bounds().0.get() as f64);
        for holder in ["stream", "session", "checkpoint"] {
            let holds = f64::from(u8::from(report.holder.label() == holder));
            gauge!("gateway_log_held", "by" => holder).set(holds);
        }
        counter!("gateway_log_trimmed_segments_total")
            .increment(report.segments - self.last_retention.segments);
        counter!("gateway_log_trimmed_bytes_total").increment(report.bytes - self.last_retention.bytes);
        counter!("gateway_log_trim_failures_total").increment(report.failures - self.last_retention.failures);
        let checkpoints = engine.checkpoints();
        gauge!("gateway_checkpoint_bytes").set(checkpoints.bytes as f64);
        let age_ms = clock::unix_ms().saturating_sub(report.checkpoint_seen_ms.max(clock::started_unix_ms()));
        gauge!("gateway_checkpoint_age_seconds").set(age_ms as f64 / 1000.0);
        counter!("gateway_checkpoint_failures_total")
            .increment(report.checkpoint_failures - self.last_retention.checkpoint_failures);
        gauge!("gateway_view_failed").set(f64::from(u8::from(engine.view_error().is_some())));
        gauge!("gateway_view_waits_for_space").set(f64::from(u8::from(engine.view_waits_for_space())));
        self.sample_streams(engine);
        self.last_retention = report;
    }

    fn sample_streams(&mut self, engine: &Engine) {
        let mut gone = std::mem::take(&mut self.streams);
        for (stream, bytes, events) in engine.stream_usage() {
            gone.remove(&stream);
            show_stream(&stream, bytes, events);
            self.streams.insert(stream);
        }
        for stream in gone {
            show_stream(&stream, 0, 0);
        }
    }
}
