//! From configuration to parts.

use super::{StartError, consumers};
use crate::admission::{self, Classes, Rates, Scope, Storm, Throttle};
use crate::clock;
use crate::config::{self, Config, Durability, ListenerConfig, StorageConfig, WhenQueueFull};
use crate::connection::{Context, Endings, ListenerTerms, Replays, Settings, Turnstile};
use crate::consumer::Consumers;
use crate::decisions::DecisionLog;
use crate::delivery::{Dispatcher, LiveRouter, Outboxes};
use crate::engine::{
    self, BacklogLimits, DedupOptions, Engine, EngineOptions, LetterLimits, Rules, ShareStrategy,
    StreamOptions,
};
use crate::ingest;
use crate::lens::Lens;
use crate::pool::Pool;
use crate::presence::Presence;
use crate::registry::{self, Registry};
use crate::spans::Spans;
use crate::sys_topics::SysTopics;
use gateway_protocol::session::ServerLimits;
use gateway_storage::log::segments::disk::Disk;
use gateway_storage::{GroupCommitOptions, LogKind, SegmentsOptions, SledLogOptions, StoreOptions, recovery};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long acknowledgements of deliveries may wait for a group to ride along with.
const LAZY_DELAY: Duration = Duration::from_millis(50);
/// Bytes of the newest batches that are kept in memory for those who keep up.
const RECENT_BYTES: usize = 32 * 1024 * 1024;

/// Opens the log, restores the view, and builds what connections share. Blocks on the disk.
pub(super) fn context(
    config: &Config,
    disk: Arc<dyn Disk>,
    threads: usize,
    spans: Spans,
) -> Result<Context, StartError> {
    let storage = &config.storage;
    let store = recovery::open(&storage.data_dir, store_options(storage, disk))
        .map_err(|source| StartError::Store { dir: storage.data_dir.display().to_string(), source })?;
    if let Some(torn) = &store.log_report.torn_tail {
        tracing::warn!(
            file = %torn.file.display(), at_byte = torn.at_byte, bytes = torn.bytes, found = %torn.shows,
            "the log ended in what is no whole group, and was cut there; of a write that was interrupted nobody was told that it is \
             stored"
        );
    }
    let live = Arc::new(LiveRouter::default());
    let decisions = DecisionLog::new(config.decisions.max_entries);
    let mut dispatcher = Dispatcher::new(live.clone()).reporting_to(decisions.clone());
    let lens = Arc::new(Lens::default());
    let looking = lens.clone();
    let engine = Engine::start(
        store.log,
        store.view,
        store.checkpoints,
        store.reserve,
        EngineOptions {
            view_save_interval: storage.view_save_interval,
            streams: config
                .streams
                .iter()
                .map(|stream| StreamOptions {
                    name: stream.name.clone(),
                    topics: stream.topics.clone(),
                    max_age_ms: u64::try_from(stream.max_age.as_millis()).unwrap_or(u64::MAX),
                    max_bytes: stream.max_bytes,
                })
                .collect(),
            dedup: DedupOptions {
                window_ms: u64::try_from(config.dedup.window.as_millis()).unwrap_or(u64::MAX),
                entries_max: config.dedup.max_entries,
            },
            rules: Rules {
                backlog: BacklogLimits {
                    messages_max: config.mqtt.max_queued_messages,
                    bytes_max: config.mqtt.max_queued_bytes,
                },
                share: match config.mqtt.shared_subscription_strategy {
                    config::ShareStrategy::RoundRobin => ShareStrategy::RoundRobin,
                    config::ShareStrategy::Publisher => ShareStrategy::Publisher,
                },
                when_full: match config.mqtt.when_queue_full {
                    WhenQueueFull::DropNewest => engine::WhenFull::DropNewest,
                    WhenQueueFull::DropOldest => engine::WhenFull::DropOldest,
                    WhenQueueFull::EndSession => engine::WhenFull::EndSession,
                },
                losses: 0, // The log knows better.
                consumers_max: config.consumer_limits.max,
                letters: LetterLimits {
                    bytes_max: config.dead_letters.max_bytes,
                    count_max: config.dead_letters.max_count,
                },
            },
            letters_max_age_ms: u64::try_from(config.dead_letters.max_age.as_millis()).unwrap_or(u64::MAX),
            segment_bytes: storage.segment_bytes,
            recent_bytes: RECENT_BYTES,
            commit: GroupCommitOptions {
                group_bytes_max: storage.group_bytes_max,
                lazy_delay: LAZY_DELAY,
                durability: durability(storage.durability),
                compression: match storage.compression {
                    config::Compression::None => gateway_storage::Compression::None,
                    config::Compression::Lz4 => gateway_storage::Compression::Lz4,
                },
                max_bytes: storage.max_bytes,
                ..GroupCommitOptions::default()
            },
        },
        Box::new(move |batch| {
            // Nobody waits here: who published waits for the receipt.
            let _ = dispatcher.dispatch(batch);
            if looking.word() != 0 {
                looking.stored(batch);
            }
        }),
    )?;
    engine.report_to(decisions.clone());
    let admission = admission::Limits::new(&config.admission);
    let taken = ingest::Limits {
        retained_messages_max: config.mqtt.retained_max_messages,
        retained_bytes_max: config.mqtt.retained_max_bytes,
        payload_bytes_max: admission.payload_bytes,
    };
    let now_ms = clock::monotonic().0;
    Ok(Context {
        consumers: Consumers::start(engine.clone(), consumers::limits(config)),
        engine,
        sys_topics: SysTopics::default(),
        registry: Registry::new(registry::Limits {
            connections: admission.connections,
            per_address: admission.connections_per_address,
            handshakes: admission.handshakes,
            threads,
        }),
        presence: Presence::default(),
        endings: Endings::default(),
        ingest: Pool::new(threads, || ingest::Ingest::new(taken)),
        dispatchers: Pool::new(threads, || Dispatcher::new(live.clone()).reporting_to(decisions.clone())),
        live,
        limits: Arc::new(limits(config)),
        settings: settings(config),
        outboxes: Outboxes::default(),
        pressure: Arc::default(),
        turnstile: Arc::new(Turnstile::new(threads)),
        classes: Classes::new(&config.admission.classes),
        storm: Mutex::new(Storm::new(admission.storm, now_ms)),
        admission,
        listeners: config.listeners.iter().map(|listener| terms(config, listener, now_ms)).collect(),
        decisions,
        replays: Replays::default(),
        lens,
        spans,
    })
}

fn terms(config: &Config, listener: &ListenerConfig, now_ms: u64) -> ListenerTerms {
    let rates = Rates::of_listener(listener);
    ListenerTerms {
        anonymous: config.admits_anonymous(listener),
        rates: (!rates.is_unlimited()).then(|| Mutex::new(Throttle::new(rates, Scope::Listener, now_ms))),
        when_full: listener.slow_subscriber.unwrap_or(config.delivery.slow_subscriber).into(),
    }
}

fn store_options(storage: &StorageConfig, disk: Arc<dyn Disk>) -> StoreOptions {
    let log = match storage.log {
        config::LogKind::Segments => LogKind::Segments(SegmentsOptions {
            segment_bytes: storage.segment_bytes,
            ..SegmentsOptions::default()
        }),
        config::LogKind::Sled => LogKind::Sled(SledLogOptions::default()),
    };
    StoreOptions { log, reserve_bytes: storage.reserve_bytes, disk, ..StoreOptions::default() }
}

const fn durability(configured: Durability) -> gateway_storage::Durability {
    match configured {
        Durability::Fsync => gateway_storage::Durability::Fsync,
        Durability::Interval(interval) => gateway_storage::Durability::Interval(interval),
        Durability::Memory => gateway_storage::Durability::Memory,
    }
}

fn limits(config: &Config) -> ServerLimits {
    let mqtt = &config.mqtt;
    ServerLimits {
        max_qos: mqtt.max_qos,
        retain_available: mqtt.retain_available,
        wildcard_subscription_available: mqtt.wildcard_subscription_available,
        shared_subscription_available: mqtt.shared_subscription_available,
        subscription_identifiers_available: mqtt.subscription_identifiers_available,
        receive_maximum: mqtt.receive_maximum,
        max_inflight: mqtt.max_inflight,
        max_packet_bytes: u32::try_from(mqtt.max_packet_bytes).unwrap_or(u32::MAX),
        topic_alias_maximum: mqtt.topic_alias_maximum,
        server_keep_alive_secs: mqtt.server_keep_alive_secs,
        session_expiry_max_secs: mqtt.session_expiry_max_secs,
        allow_empty_client_id: mqtt.allow_empty_client_id,
        connect_timeout_ms: u64::try_from(mqtt.connect_timeout.as_millis()).unwrap_or(u64::MAX),
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        connect_bytes_max: config.admission.connect_buffer_bytes,
        connect_timeout: config.mqtt.connect_timeout,
        outbox_bytes_max: config.delivery.outbox_bytes_max,
        write_bytes: config.delivery.write_buffer_bytes,
        replay: config.streams.iter().map(|stream| (stream.name.clone(), stream.replay_rate)).collect(),
        holds_when_full: config.admission.ladder,
    }
}
