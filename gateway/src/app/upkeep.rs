//! What has to be done every second: sessions whose time is up, log that nobody needs, and figures that are sampled.

use super::observe::Sampler;
use crate::admission::Resource;
use crate::clock;
use crate::connection::{self, Context, metrics};
use crate::engine::{Fate, Will};
use crate::registry::{Registry, TICK_MS};
use gateway_storage::{Entry, Staging, Ticket, Urgency};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

const EVERY: Duration = Duration::from_secs(1);
/// Sessions ended in one turn; the others follow in the next.
const EXPIRIES_MAX: usize = 10_000;
/// A Session Expiry Interval that means never (MQTT 5, 3.1.2.11.2).
const NEVER: u32 = u32::MAX;
/// Why a session was removed, as the log's entry says it.
const CAUSE_EXPIRED: u8 = 1;

pub(super) async fn run(context: Arc<Context>, sys_interval_secs: u16, mut stop: watch::Receiver<bool>) {
    let mut seconds: u64 = 0;
    let mut sampler = Sampler::default();
    let mut wills = PublishedWills::default();
    let mut retaining: Option<JoinHandle<()>> = None;
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            _ = ticks.tick() => {}
        }
        let now_ms = clock::unix_ms();
        connection::settle(&context);
        expire_sessions(&context, now_ms);
        expire_retained(&context, now_ms);
        wills.publish(&context, now_ms);
        retain(&context, &mut retaining, now_ms);
        sampler.sample(&context);
        context.decisions.settle(now_ms);
        if sys_interval_secs != 0 && seconds.is_multiple_of(u64::from(sys_interval_secs)) {
            publish_sys_topics(&context, now_ms);
        }
        seconds += 1;
    }
}

/// Wakes connections whose Keep Alive is over.
pub(super) async fn ring(registry: Arc<Registry>, mut stop: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(TICK_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            _ = ticks.tick() => registry.ring(clock::monotonic()),
        }
    }
}

/// Trims the log, on a thread that may block. Never two at once: while one is at it the next turn is left out.
fn retain(context: &Context, running: &mut Option<JoinHandle<()>>, now_ms: u64) {
    if running.as_ref().is_none_or(JoinHandle::is_finished) {
        let engine = context.engine.clone();
        *running = Some(tokio::task::spawn_blocking(move || engine.retain(now_ms)));
    }
}

/// Logs the end of every session that nobody came back to in time. Whether it really ends is decided where the entry is applied: a
/// client that is faster keeps its session.
fn expire_sessions(context: &Context, now_ms: u64) {
    let mut staging = Staging::new();
    for session in context.engine.sessions() {
        let state = session.state();
        let ends_at = state.closed_at_ms.saturating_add(u64::from(state.expiry_secs) * 1000);
        if state.connected || state.removed || state.expiry_secs == NEVER || ends_at > now_ms {
            continue;
        }
        let entry =
            Entry::SessionRemoved { client_id: &session.client_id, at_ms: now_ms, cause: CAUSE_EXPIRED };
        if staging.push(&entry).is_err() || staging.len() >= EXPIRIES_MAX {
            break;
        }
    }
    if !staging.is_empty() {
        // Refused or full: they are still there in a second.
        let _ = context.engine.submit(&mut staging, Urgency::Lazy, Waker::noop(), None);
    }
}

fn expire_retained(context: &Context, now_ms: u64) {
    let mut staging = Staging::new();
    for message in context.engine.expired_retained(now_ms, EXPIRIES_MAX) {
        let entry = Entry::RetainedRemoved { topic: message.event().topic, offset: message.offset().get() };
        if staging.push(&entry).is_err() {
            break;
        }
    }
    if !staging.is_empty() {
        let _ = context.engine.submit(&mut staging, Urgency::Lazy, Waker::noop(), None);
    }
}

/// Wills on their way to the log.
#[derive(Default)]
struct PublishedWills(Vec<(Arc<Will>, Ticket)>);

impl PublishedWills {
    /// Publishes every will whose delay has passed. The message and its removal are in one group, so a restart finds both or neither, and
    /// if the log fails under that group the will is still there and published again.
    fn publish(&mut self, context: &Context, now_ms: u64) {
        self.0.retain(|(will, ticket)| {
            let fate = context.engine.fate(*ticket);
            if fate == Fate::Over {
                will.give_back();
            }
            fate == Fate::Open
        });
        for (client_id, will) in context.engine.wills() {
            if will.due_at_ms.is_some_and(|at_ms| at_ms <= now_ms)
                && will.take()
                && let Some(ticket) = publish_will(context, &client_id, &will, now_ms)
            {
                self.0.push((will, ticket));
            }
        }
    }
}

fn publish_will(context: &Context, client_id: &str, will: &Will, now_ms: u64) -> Option<Ticket> {
    let mut staging = Staging::new();
    let staged = context
        .spans
        .stage_will(&will.message.event(client_id, now_ms), &mut staging)
        .and_then(|()| staging.push(&Entry::WillCleared { client_id }));
    if let Err(error) = staged {
        tracing::error!(%error, %client_id, "a Will Message cannot be logged");
        return None;
    }
    let submitted = context.engine.submit(&mut staging, Urgency::Now, Waker::noop(), None);
    match submitted {
        Ok(_) => metrics::will(will.message.qos),
        Err(_) => will.give_back(),
    }
    submitted.ok()
}

/// Renews `$SYS/...` and sends it to those who subscribe to it.
fn publish_sys_topics(context: &Context, now_ms: u64) {
    let engine = &context.engine;
    let sessions = engine.sessions();
    let offline = sessions.iter().filter(|session| !session.state().connected).count();
    let waiting: u64 = sessions.iter().map(|session| session.state().backlog.pending()).sum();
    let subscriptions: usize = context.live.read(crate::router::Router::len);
    let connected = context.registry.connections();
    let (retained, retained_bytes) = engine.retained_size();
    let totals = metrics::totals();
    let stats = engine.commit().stats();
    let uptime_secs = now_ms.saturating_sub(clock::started_unix_ms()) / 1000;
    let pressures = context.pressure.pressures();
    let mut values = vec![
        ("$SYS/broker/version", format!("gateway {}", env!("CARGO_PKG_VERSION"))),
        ("$SYS/broker/uptime", format!("{uptime_secs} seconds")),
        ("$SYS/broker/clients/connected", connected.to_string()),
        ("$SYS/broker/clients/disconnected", offline.to_string()),
        ("$SYS/broker/clients/total", (connected + offline).to_string()),
        ("$SYS/broker/messages/received", totals.received.to_string()),
        ("$SYS/broker/messages/sent", totals.sent.to_string()),
        ("$SYS/broker/bytes/received", totals.bytes_received.to_string()),
        ("$SYS/broker/messages/stored", waiting.to_string()),
        ("$SYS/broker/store/messages/count", waiting.to_string()),
        ("$SYS/broker/retained messages/count", retained.to_string()),
        ("$SYS/broker/retained messages/bytes", retained_bytes.to_string()),
        ("$SYS/broker/subscriptions/count", subscriptions.to_string()),
        ("$SYS/broker/log/bytes", stats.log_bytes.to_string()),
        ("$SYS/broker/log/end", engine.end().to_string()),
        ("$SYS/broker/overload/level", context.pressure.level().as_u8().to_string()),
    ];
    let topics = Resource::ALL.map(|resource| format!("$SYS/broker/overload/{}", resource.label()));
    for (resource, topic) in Resource::ALL.into_iter().zip(&topics) {
        values.push((topic, format!("{:.2}", pressures.get(resource))));
    }
    context.sys_topics.replace(&values, now_ms);
    if let Some(batch) = context.sys_topics.batch(|topic| context.live.read(|router| router.wants(topic))) {
        let _ = context.dispatchers.borrow().dispatch(&batch);
    }
}
