//! Readers that are too slow, and readers that ask for what is gone.

use super::*;
use crate::clock;
use crate::engine::{
    BacklogLimits, DedupOptions, EngineOptions, LetterLimits, Rules, ShareStrategy, StreamOptions, WhenFull,
};
use crate::telemetry::{Metrics, captured};
use gateway_storage::log::segments::disk::RealDisk;
use gateway_storage::{
    Checkpoints, Event, GroupCommitOptions, MemoryLog, Reserve, Staging, Urgency, View, ViewOptions,
};
use std::task::Waker;
use std::time::Duration;

/// An engine with a stream of 20,000 bytes at most.
fn engine(dir: &std::path::Path) -> Engine {
    let (view, _) = View::open(dir.join("view"), ViewOptions::default()).unwrap();
    let options = EngineOptions {
        view_save_interval: Duration::from_millis(1),
        streams: vec![StreamOptions {
            name: "telemetry".into(),
            topics: vec!["devices/#".into()],
            max_age_ms: 3_600_000,
            max_bytes: 20_000,
        }],
        rules: Rules {
            backlog: BacklogLimits { messages_max: 1000, bytes_max: 1 << 20 },
            share: ShareStrategy::RoundRobin,
            when_full: WhenFull::DropNewest,
            losses: 0,
            consumers_max: 0,
            letters: LetterLimits::default(),
        },
        letters_max_age_ms: 1,
        dedup: DedupOptions::default(),
        segment_bytes: 1 << 20,
        recent_bytes: 1 << 20,
        commit: GroupCommitOptions::default(),
    };
    let checkpoints = Checkpoints::open(dir.join("checkpoint"), Arc::new(RealDisk)).unwrap();
    let log = Box::new(MemoryLog::new());
    Engine::start(log, view, checkpoints, Reserve::none(), options, Box::new(|_| {})).unwrap()
}

/// Stores 300 events of the stream, which has room for some 200, and moves its beginning.
async fn publish(engine: &Engine) {
    let event = Event {
        client_id: "p",
        topic: "devices/1",
        qos: 1,
        retain: false,
        received_ms: 1,
        expires_at_ms: 0,
        properties: &[],
        payload: &[7; 50],
    };
    let mut staging = Staging::new();
    for _ in 0..300 {
        staging.push_event(&event).unwrap();
    }
    let mut ticket = None;
    std::future::poll_fn(|cx| {
        if ticket.is_none() {
            ticket = Some(engine.submit(&mut staging, Urgency::Now, cx.waker(), None).unwrap());
        }
        let is_stored = engine.receipt().is_some_and(|receipt| receipt.covers(ticket.unwrap()));
        if is_stored { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    engine.retain(clock::unix_ms());
}

fn open(engine: &Engine, from: From) -> StreamCursor {
    let filter = TopicFilter::parse("devices/#").unwrap();
    let address = StreamAddress { name: "telemetry", from, filter };
    StreamCursor::open(engine, "meter-db", "$stream/telemetry/x", &address, QoS::AtMostOnce, 0).unwrap()
}

/// The offset that the cursor has next.
fn next(cursor: &mut StreamCursor, engine: &Engine) -> u64 {
    match cursor.poll_next(engine, &mut Context::from_waker(Waker::noop())) {
        Next::Event(batch, index) => batch.offset_of(index).unwrap().get(),
        _ => panic!("the event is in memory"),
    }
}

/// Offsets skipped so far for `reason`.
fn skipped(reason: &str) -> u64 {
    let series = format!("gateway_stream_offsets_skipped_total{{reason=\"{reason}\"}} ");
    let text = Metrics::install().unwrap().render();
    text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn what_a_reader_passes_over_is_counted_and_said_once() {
    Metrics::install().unwrap();
    metrics::describe();
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    let floor = || engine.stream_floor(0).get();

    // The stream begins behind the entry with the rules.
    let mut slow = open(&engine, From::Earliest);
    publish(&engine).await;
    let first = floor();
    assert!(first > 50, "{first}");
    let said = captured(|| assert_eq!(next(&mut slow, &engine), first));
    assert_eq!((said.as_str(), skipped("overtaken")), ("", 0), "it began with what is kept");

    slow.advance();
    publish(&engine).await;
    let second = floor();
    let said = captured(|| assert_eq!(next(&mut slow, &engine), second));
    let passed = second - first - 1;
    assert_eq!(skipped("overtaken"), passed);
    assert!(said.contains(" WARN ") && said.contains("too slow"), "{said}");
    assert!(said.contains("client_id=\"meter-db\"") || said.contains("client_id=meter-db"), "{said}");
    assert!(said.contains(&format!("offsets={passed}")), "{said}");

    publish(&engine).await;
    let third = floor();
    let said = captured(|| assert_eq!(next(&mut slow, &engine), third));
    assert_eq!((said.as_str(), skipped("overtaken")), ("", third - first - 1), "said once, counted always");

    let mut late = open(&engine, From::Offset(Offset::new(10)));
    let said = captured(|| assert_eq!(next(&mut late, &engine), third));
    assert_eq!((skipped("not_kept"), skipped("overtaken")), (third - 10, third - first - 1));
    assert!(said.contains(" INFO ") && said.contains("not kept any more"), "{said}");
    let said = captured(|| {
        assert_eq!(next(&mut late, &engine), third, "asked again without having advanced");
        assert_eq!(next(&mut open(&engine, From::Offset(Offset::new(third + 5))), &engine), third + 5);
    });
    assert_eq!((said.as_str(), skipped("not_kept"), skipped("damaged")), ("", third - 10, 0));
    engine.shutdown();
}
