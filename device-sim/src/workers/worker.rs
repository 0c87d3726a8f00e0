//! The worker's side: reads orders from standard input, tells news on standard output, and turns the engine in between.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use super::frames::{self, Assignment, FrameError, News, Order, Page, Progress};
use super::usage::Meter;
use crate::lean::{Dialers, Engine, LeanError, TcpDialer, monotonic_us};
use crate::plan::Plan;
use crate::process;
use crate::scenario::{Clients, Scenario, ScenarioFaults};

/// Between reports.
pub(crate) const REPORT: Duration = Duration::from_millis(250);
/// Orders that may wait, and news.
const LINE: usize = 16;
/// File descriptors beyond those of the connections.
pub(crate) const SPARE_FILES: u64 = 64;

/// Why a worker ends other than by an order.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    /// The coordinator is gone, or talks nonsense.
    #[error("the coordinator: {0}")]
    Coordinator(String),
    /// The scenario that it was sent cannot be run.
    #[error("the scenario cannot be run: {0}")]
    Scenario(#[from] ScenarioFaults),
    /// The scenario has no lean clients.
    #[error("the scenario has no lean clients")]
    NotLean,
    /// More connections than the operating system allows this process.
    #[error("{wanted} open files are needed and the limit is {limit}")]
    OpenFiles { wanted: u64, limit: u64 },
    /// The engine cannot go on.
    #[error(transparent)]
    Lean(#[from] LeanError),
}

/// The lines to the coordinator.
struct Lines {
    orders: Receiver<Order>,
    news: SyncSender<News>,
}

/// Is a worker until it is told to leave, or the coordinator is gone.
pub(crate) fn run() -> Result<(), WorkerError> {
    let (order_sender, orders) = sync_channel(LINE);
    let (news, told) = sync_channel::<News>(LINE);
    // Not joined: it ends with standard input, which is the coordinator's end.
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        while let Ok(order) = frames::read(&mut input) {
            if order_sender.send(order).is_err() {
                return;
            }
        }
    });
    let teller = thread::spawn(move || -> Result<(), FrameError> {
        let mut output = io::stdout().lock();
        told.iter().try_for_each(|news| frames::write(&mut output, &news))
    });
    let lines = Lines { orders, news };
    let done = serve(&lines);
    if let Err(error) = &done {
        let _ = lines.news.send(News::Failed(error.to_string()));
    }
    drop(lines);
    // What is left is told before this ends.
    let _ = teller.join();
    done
}

fn serve(lines: &Lines) -> Result<(), WorkerError> {
    let gone = || WorkerError::Coordinator("is gone".to_owned());
    let mut meter = Meter::new();
    let Order::Assign(assignment) = lines.orders.recv().map_err(|_| gone())? else {
        return Err(WorkerError::Coordinator("sent something else before a part in the run".to_owned()));
    };
    let mut engine = engine(*assignment)?;
    meter.made();
    let mut report_at_us = 0;
    let mut waiting = None;
    loop {
        match lines.orders.try_recv() {
            Ok(Order::Assign(_)) => {}
            Ok(Order::Connect) => engine.connect(),
            Ok(Order::Start { at_us, end_us }) => {
                engine.start(at_us, end_us);
                meter.start();
            }
            Ok(Order::End { end_us }) => engine.end(end_us),
            Ok(Order::Page { from, to }) => {
                lines.news.send(News::Page(page(&engine, from, to))).map_err(|_| gone())?;
            }
            Ok(Order::Leave) => {
                engine.leave();
                return Ok(());
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Err(gone()),
        }
        engine.turn()?;
        let now_us = monotonic_us();
        if now_us >= report_at_us {
            report_at_us = now_us + REPORT.as_micros() as u64;
            let news = waiting.take().unwrap_or_else(|| progress(&mut engine, &mut meter));
            match lines.news.try_send(news) {
                Ok(()) => {}
                // Not read yet: what was counted and timed since then comes with the next one.
                Err(TrySendError::Full(news)) => waiting = Some(news),
                Err(TrySendError::Disconnected(_)) => return Err(gone()),
            }
        }
    }
}

fn engine(assignment: Assignment) -> Result<Engine, WorkerError> {
    let scenario = Scenario::parse(&assignment.scenario)?.varied(assignment.variant);
    let Clients::Lean(lean) = scenario.fleet.clients.clone() else { return Err(WorkerError::NotLean) };
    let wanted = files(lean.largest_part().into(), scenario.subscribers.len() as u64);
    process::allow_open_files(wanted).map_err(|limit| WorkerError::OpenFiles { wanted, limit })?;
    if lean.is_own(assignment.number) {
        // In the field its clients are other machines, and take no processor from anybody here.
        process::give_way();
    }
    let plan = Plan {
        scenario,
        host: assignment.devices.ip().to_string(),
        port: assignment.devices.port(),
        seed: assignment.seed,
        epoch: assignment.epoch,
    };
    let dialer = |broker| Box::new(TcpDialer { broker, sources: lean.source_addresses.clone() });
    let dialers =
        Dialers { devices: dialer(assignment.devices), subscribers: dialer(assignment.subscribers) };
    Ok(Engine::new(plan, &lean, assignment.number, &assignment.checkers, dialers)?)
}

/// Files that a worker with so many connections needs at most.
pub(crate) fn files(connections: u64, subscribers: u64) -> u64 {
    connections + subscribers + SPARE_FILES
}

fn progress(engine: &mut Engine, meter: &mut Meter) -> News {
    let is_done = engine.is_done();
    let (tally, times) = engine.report();
    meter.connected(tally.connected);
    meter.late(&times);
    let usage = meter.read(engine.ledger_bytes());
    News::Progress(Box::new(Progress { tally, times, usage, is_done }))
}

fn page(engine: &Engine, from: u32, to: u32) -> Page {
    let arrived = engine.arrived(from..to).into_iter().map(|page| (page.place, page.devices)).collect();
    Page { published: engine.published(from..to), arrived, counts: engine.arrived_counts() }
}
