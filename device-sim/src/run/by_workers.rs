//! A run with lean clients: the phases of a run, carried out by worker processes.

use std::collections::HashMap;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::conductor::Conducting;
use super::drain::Drain;
use super::judging::judged;
use super::stage::{Addresses, Stage};
use super::{RunError, told, unreachable};
use crate::admin::Desk;
use crate::class::Class;
use crate::lean::{Tally, Timing, monotonic_us};
use crate::ledger::{Merger, Outstanding, Received};
use crate::mqtt::Broker;
use crate::plan::Plan;
use crate::process;
use crate::qos::{ByQoS, QoS};
use crate::report::Report;
use crate::roster::identities;
use crate::scenario::{LeanClients, topic};
use crate::shared::{Phase, Shared, expectations};
use crate::stop::Stop;
use crate::subscriber;
use crate::workers::frames::{News, Order, Page, Progress};
use crate::workers::team::{Team, TeamError};
use crate::workers::worker::{REPORT, files};

/// How often waiting looks again.
const LOOK: Duration = Duration::from_millis(20);
/// How far ahead the moment is at which all workers begin: the order has to reach them.
const HEAD_START: Duration = Duration::from_millis(50);
/// How long subscribers may take to say goodbye.
const FAREWELL: Duration = Duration::from_millis(500);
/// About what the halves of the devices of one page take, bytes.
const PAGE_BYTES: u64 = 4 << 20;
/// How long a page may take to come.
const PAGE_PATIENCE: Duration = Duration::from_secs(60);

/// What the coordinator knows of its workers.
struct Coordinator<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    /// Its name in the report.
    broker: &'a str,
    team: Team,
    /// What each told last.
    told: Vec<Tally>,
    done: Vec<bool>,
    /// How often each has told how far it is.
    reports: Vec<u32>,
}

/// Carries a plan with lean clients out.
///
/// # Errors
/// See [`RunError`].
pub(crate) async fn execute(
    plan: &Plan,
    lean: &LeanClients,
    shared: &Arc<Shared>,
    stage: Stage,
    desk: Desk,
    addresses: &Addresses,
    mut stop: watch::Receiver<Stop>,
) -> Result<Report, RunError> {
    check_open_files(plan, lean)?;
    let name = addresses.broker.to_string();
    let resolve = |broker: &Broker| {
        let found = (broker.host.as_str(), broker.port).to_socket_addrs().ok();
        let nowhere = || format!("there is no address of {}", broker.host);
        found
            .and_then(|mut found| found.next())
            .ok_or_else(|| unreachable(&name, shared, Duration::ZERO, Some(nowhere())))
    };
    let team = Team::start(plan, lean, resolve(&addresses.devices)?, resolve(&addresses.subscribers)?)?;
    // The other subscribers are honest clients, here.
    let (goodbye, hear_goodbye) = watch::channel(false);
    let mut honest = JoinSet::new();
    subscriber::spawn_all(&mut honest, plan, &addresses.subscribers, shared, &stage.orders(), &hear_goodbye);
    let count = team.len();
    let mut run = Coordinator {
        plan,
        shared,
        broker: &name,
        team,
        told: vec![Tally::default(); count],
        done: vec![false; count],
        reports: vec![0; count],
    };

    let patience = plan.scenario.run.connect_timeout;
    run.wait_connected(&mut stop, patience, |shared| shared.subscribers.iter().all(|one| one.is_ready()))
        .await?;
    run.team.tell(&Order::Connect)?;
    let wanted = shared.connections_at(0);
    let ramp = Duration::from_secs_f64(wanted as f64 / plan.scenario.fleet.connect_rate);
    run.wait_connected(&mut stop, ramp + patience, |shared| shared.stats.connected.get() >= wanted).await?;

    run.start()?;
    let conducting = Conducting::begin(stage, shared);
    let published_for = run.publish(&mut stop).await?;
    shared.enter(Phase::Draining);
    if plan.scenario.run.duration.is_none_or(|duration| published_for < duration) {
        conducting.cut_short();
    }
    run.drain(&mut stop).await?;
    let (stage, recoveries) = conducting.finish().await?;
    let cpu = shared.workers().iter().map(|worker| worker.cpu_s).sum();
    run.collect().await?;
    let report = Report::new(plan, shared, published_for, Duration::from_secs_f64(cpu));
    let report = judged(report, plan, shared, desk, &name, recoveries).await;
    shared.enter(Phase::Done);
    run.team.dismiss().await;
    let _ = goodbye.send(true);
    let farewell = async { while honest.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
        honest.shutdown().await;
    }
    drop(stage);
    Ok(report)
}

/// Of a worker, and of this process: honest subscribers, and a network that is spoilt runs through it.
fn check_open_files(plan: &Plan, lean: &LeanClients) -> Result<(), RunError> {
    let members = plan.scenario.subscribers.iter().map(|one| u64::from(one.members)).sum();
    let worker = files(lean.largest_part().into(), members);
    let here = members + Stage::files(plan, lean.connections.into(), members) + files(0, 0);
    let wanted = worker.max(here);
    process::allow_open_files(wanted).map_err(|limit| RunError::OpenFiles { wanted, limit })
}

impl Coordinator<'_> {
    /// Takes in what the workers tell for a moment.
    async fn listen(&mut self) -> Result<(), RunError> {
        let until = Instant::now() + LOOK;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            match self.team.hear(left).await? {
                Some((number, News::Progress(progress))) => self.take_in(number, *progress),
                Some(_) => {}
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn take_in(&mut self, number: usize, progress: Progress) {
        let shared = self.shared;
        for times in &progress.times {
            let latencies = match times.of {
                Timing::Lag => Some(&shared.lag),
                Timing::DueToPuback => Some(&shared.due_to_puback),
                Timing::SentToPuback => Some(&shared.sent_to_puback),
                Timing::Watched(place) => shared.watched.get(place).map(|(_, latencies)| latencies),
                Timing::Delivery(place) => shared.subscribers.get(place).map(|one| &one.latencies),
            };
            if let Some(latencies) = latencies {
                latencies.merge(&times.warm_up, false);
                latencies.merge(&times.counted, true);
            }
        }
        shared.note_worker(number, progress.usage);
        if let Some(reports) = self.reports.get_mut(number) {
            *reports += 1;
        }
        let Some(before) = self.told.get_mut(number) else { return };
        told::add_all(shared, before, &progress.tally);
        *before = progress.tally;
        if let Some(done) = self.done.get_mut(number) {
            *done = progress.is_done;
        }
        shared.ledger.tell_outstanding(self.outstanding());
    }

    /// What is still to come, by the counters: exact as long as nothing was given up.
    fn outstanding(&self) -> Outstanding {
        let sum = |of: &dyn Fn(&Tally) -> u64| self.told.iter().map(of).sum::<u64>();
        let mut outstanding = Outstanding {
            // Those that were given up stay unfinished for ever.
            unfinished: sum(&|tally| tally.in_flight + tally.given_up),
            ..Outstanding::default()
        };
        for (place, subscriber) in self.shared.subscribers.iter().enumerate() {
            let expected = |qos: QoS| sum(&|tally| tally.expected.get(place).map_or(0, |sums| sums[qos]));
            let missing = |qos: QoS| expected(qos).saturating_sub(subscriber.delivered[qos].get());
            outstanding.best_effort += missing(QoS::AtMostOnce);
            match subscriber.spec.qos {
                QoS::AtLeastOnce => outstanding.promised += missing(QoS::AtLeastOnce),
                QoS::AtMostOnce => outstanding.best_effort += missing(QoS::AtLeastOnce),
            }
        }
        outstanding
    }

    async fn wait_connected(
        &mut self,
        stop: &mut watch::Receiver<Stop>,
        patience: Duration,
        done: impl Fn(&Shared) -> bool,
    ) -> Result<(), RunError> {
        let began = Instant::now();
        loop {
            self.listen().await?;
            if let Some((name, reason)) = self.shared.refused_subscription() {
                return Err(RunError::Subscription { name, reason });
            }
            if done(self.shared) {
                return Ok(());
            }
            if *stop.borrow_and_update() != Stop::No {
                return Err(RunError::Stopped);
            }
            if began.elapsed() >= patience {
                return Err(unreachable(self.broker, self.shared, patience, self.shared.last_error()));
            }
        }
    }

    fn end_us(&self) -> u64 {
        self.plan.scenario.run.duration.map_or(u64::MAX, |duration| duration.as_micros() as u64)
    }

    /// The time begins.
    fn start(&mut self) -> Result<(), RunError> {
        let at = std::time::Instant::now() + HEAD_START;
        let at_us = monotonic_us() + HEAD_START.as_micros() as u64;
        self.shared.clock.start_at(at);
        self.team.tell(&Order::Start { at_us, end_us: self.end_us() })?;
        self.shared.enter(Phase::Publishing);
        Ok(())
    }

    /// Publishes until the duration is over or someone wants to stop; how long that was.
    async fn publish(&mut self, stop: &mut watch::Receiver<Stop>) -> Result<Duration, RunError> {
        let end_us = self.end_us();
        while *stop.borrow_and_update() == Stop::No && self.shared.clock.now_us() < end_us {
            self.listen().await?;
        }
        let end_us = self.shared.clock.now_us().min(end_us);
        self.team.tell(&Order::End { end_us })?;
        // Workers that are behind hand out what was due before anyone asks what is outstanding.
        self.done.fill(false);
        while !self.done.iter().all(|done| *done) && *stop.borrow_and_update() != Stop::Now {
            self.listen().await?;
        }
        Ok(Duration::from_micros(end_us))
    }

    async fn drain(&mut self, stop: &mut watch::Receiver<Stop>) -> Result<(), RunError> {
        let mut drain = Drain::new(self.plan.scenario.run.drain_timeout);
        self.reports.fill(0);
        while !drain.is_over(self.shared, self.workers_time()) && *stop.borrow_and_update() != Stop::Now {
            self.listen().await?;
        }
        Ok(())
    }

    /// How long all workers have looked since their reports were last counted from 0. One that has no CPU reports seldom.
    fn workers_time(&self) -> Duration {
        REPORT * self.reports.iter().copied().min().unwrap_or(0)
    }

    /// Brings the halves of the ledger together, some devices at a time, and tells the sums.
    async fn collect(&mut self) -> Result<(), RunError> {
        let subscribers = self.shared.subscribers.len();
        let devices = self.plan.scenario.fleet.devices;
        let mut merger = Merger::new(subscribers);
        let mut identities = identities(self.plan);
        let may_shed = self.plan.scenario.expect.shed_only.as_ref();
        let mut shed_elsewhere = 0;
        let bytes: u64 = self.shared.workers().iter().map(|worker| worker.ledger_bytes).sum();
        let each = (bytes / u64::from(devices.max(1))).max(64);
        let at_once = u32::try_from((PAGE_BYTES / each).max(1)).unwrap_or(u32::MAX);
        let mut from = 0;
        while from < devices {
            let to = from.saturating_add(at_once).min(devices);
            let mut published: HashMap<u32, Vec<u64>> = HashMap::new();
            let mut arrived: Vec<HashMap<u32, Vec<u64>>> = vec![HashMap::new(); subscribers];
            for page in self.pages(from, to).await? {
                published.extend(page.published);
                for (place, rows) in page.arrived {
                    if let Some(arrived) = arrived.get_mut(place) {
                        arrived.extend(rows);
                    }
                }
                for (place, counts) in page.counts.iter().filter(|_| to == devices) {
                    merger.subscriber(*place, counts);
                }
            }
            let here = self.shared.ledger.arrived();
            for (device, identity) in (from..to).zip(&mut identities) {
                let published = published.get(&device).map_or(&[][..], Vec::as_slice);
                let arrived: Vec<&[u64]> = arrived
                    .iter()
                    .zip(&here)
                    .map(|(rows, here)| rows.get(&device).map_or(here.words(device as usize), Vec::as_slice))
                    .collect();
                let expectations = expectations(self.plan, &identity.topic);
                let missing = merger.device(identity.cohort.class, published, &arrived, &expectations);
                let may = |filter: &String| topic::matches(filter, &identity.topic);
                if may_shed.is_some_and(|filters| !filters.iter().any(may)) {
                    shed_elsewhere += missing;
                }
            }
            from = to;
        }
        let here = self.shared.ledger.arrived();
        for (place, half) in here.iter().enumerate() {
            merger.subscriber(place, half.counts());
        }
        let totals = merger.into_totals();
        let unknown = |sums: &ByQoS<Received>| sums.qos0.unknown + sums.qos1.unknown;
        for class in Class::ALL {
            let received = &totals[class].received;
            for ((state, received), half) in self.shared.subscribers.iter().zip(received).zip(&here) {
                // Whoever is here counted at once what no device can have published.
                let more = unknown(received).saturating_sub(unknown(&half.counts()[class]));
                state.corrupt.add(more);
                state.corrupt_of[class].add(more);
            }
        }
        drop(here);
        self.shared.ledger.tell_totals(totals, shed_elsewhere);
        Ok(())
    }

    /// One page of every worker.
    async fn pages(&mut self, from: u32, to: u32) -> Result<Vec<Page>, RunError> {
        self.team.tell(&Order::Page { from, to })?;
        let began = Instant::now();
        let mut pages = Vec::new();
        while pages.len() < self.team.len() {
            match self.team.hear(LOOK).await? {
                Some((number, News::Progress(progress))) => self.take_in(number, *progress),
                Some((_, News::Page(page))) => pages.push(page),
                Some(_) | None => {}
            }
            if began.elapsed() > PAGE_PATIENCE {
                let why = format!("no ledger came within {PAGE_PATIENCE:?}");
                return Err(TeamError::Failed { number: 0, count: self.team.len(), why }.into());
            }
        }
        Ok(pages)
    }
}
