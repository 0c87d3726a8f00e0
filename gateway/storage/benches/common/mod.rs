//! What the benchmarks share: a log under group commit, producers, and what a process has used.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use gateway_storage::{
    CommittedGroup, Event, GroupCommit, GroupCommitOptions, Log, LogReader, ReceiptCell, SegmentsLog,
    SegmentsOptions, Staging, SubmitError, Ticket, Urgency,
};
use rustix::time::{ClockId, clock_gettime};

pub(crate) const PAYLOAD_BYTES: usize = 240;
pub(crate) const TOPIC: &str = "devices/pump-0042/pressure";
pub(crate) const PRODUCERS: usize = 4;
pub(crate) const BATCH: usize = 32;

/// Group commit over files, with whoever contributed woken and receipts published. Removes its directory at the end.
pub(crate) struct Rig {
    pub(crate) commit: GroupCommit,
    pub(crate) reader: Arc<dyn LogReader>,
    pub(crate) receipts: Arc<ReceiptCell>,
    dir: PathBuf,
}

impl Rig {
    pub(crate) fn new(dir: &Path, segments: SegmentsOptions, options: GroupCommitOptions) -> Self {
        let (log, _) = SegmentsLog::open(dir, segments).unwrap();
        let reader = log.reader();
        let receipts = Arc::new(ReceiptCell::new());
        let sink = {
            let receipts = Arc::clone(&receipts);
            Box::new(move |group: CommittedGroup| {
                receipts.publish(group.durable);
                group.contributors.into_iter().for_each(Waker::wake);
            })
        };
        let commit = GroupCommit::start(Box::new(log), options, Box::new(|| 1), sink).unwrap();
        Self { commit, reader, receipts, dir: dir.into() }
    }

    /// Waits until what this ticket stands for is durable; the waker must have been this thread's.
    pub(crate) fn wait_for(&self, ticket: Ticket) {
        while !self.receipts.load().is_some_and(|durable| durable.covers(ticket)) {
            thread::park();
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.commit.shutdown();
        std::fs::remove_dir_all(&self.dir).unwrap();
    }
}

/// Submits batches of these payloads, in turn, until told to stop, and then waits for the last one.
pub(crate) fn produce(rig: &Rig, payloads: &Payloads, stop: &AtomicBool) {
    let (mut staging, waker, mut last, mut next) = (Staging::new(), unparker(), None, 0);
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..BATCH {
            staging.push_event(&event(payloads.get(next))).unwrap();
            next += 1;
        }
        last = Some(submit(&rig.commit, &mut staging, &waker, last));
    }
    if let Some(last) = last {
        rig.wait_for(last);
    }
}

pub(crate) fn submit(
    commit: &GroupCommit,
    staging: &mut Staging,
    waker: &Waker,
    last: Option<Ticket>,
) -> Ticket {
    loop {
        match commit.submit(staging, Urgency::Now, waker, last) {
            Ok(ticket) => return ticket,
            Err(SubmitError::Full) => thread::park(),
            Err(other) => panic!("the log of a benchmark does not fail: {other}"),
        }
    }
}

pub(crate) fn event(payload: &[u8]) -> Event<'_> {
    Event {
        client_id: "pump-0042",
        topic: TOPIC,
        qos: 1,
        retain: false,
        received_ms: 1_767_225_600_123,
        expires_at_ms: 0,
        properties: &[],
        payload,
    }
}

/// Payloads of [`PAYLOAD_BYTES`] each.
pub(crate) struct Payloads(pub(crate) Vec<u8>);

impl Payloads {
    /// One of them, in turn.
    pub(crate) fn get(&self, number: usize) -> &[u8] {
        let at = number * PAYLOAD_BYTES % self.0.len();
        self.0.get(at..at + PAYLOAD_BYTES).unwrap_or_default()
    }
}

pub(crate) fn unparker() -> Waker {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    Waker::from(Arc::new(Unpark(thread::current())))
}

/// Processor time of the whole process.
pub(crate) fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
