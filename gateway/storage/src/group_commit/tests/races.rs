//! Many submitters at once, and power cuts at any moment.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::{Rig, bell, event, options, payloads};
use crate::compression::Compression;
use crate::entry::Event;
use crate::group_commit::{
    CommitState, CommittedGroup, Durable, GroupCommit, GroupCommitOptions, SubmitError, Ticket, Urgency,
};
use crate::log::contract::read_all;
use crate::log::{Log, MemoryLog};
use crate::offset::Offset;
use crate::staging::Staging;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Several threads submit batches of random sizes; every ticket is covered in order, and what comes out is what
    /// went in, in the order of each thread.
    #[test]
    fn whatever_is_submitted_comes_out_once_and_in_order(
        plans in proptest::collection::vec(proptest::collection::vec((1_usize..6, 0_usize..60, any::<bool>()), 1..20), 1..5),
        group_bytes_max in 100_usize..2000,
        compressed in any::<bool>(),
    ) {
        let rig = Rig::file(GroupCommitOptions {
            group_bytes_max,
            lazy_delay: Duration::from_micros(200),
            compression: if compressed { Compression::Lz4 } else { Compression::None },
            ..options()
        });
        let tickets: HashMap<String, Ticket> = thread::scope(|scope| {
            let threads: Vec<_> = plans
                .iter()
                .enumerate()
                .map(|(thread, plan)| scope.spawn({
                    let commit = rig.commit.clone();
                    move || run_plan(&commit, thread, plan)
                }))
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        rig.commit.shutdown();
        let mut next = Offset::ZERO;
        let mut seen: HashMap<String, Vec<usize>> = HashMap::new();
        let mut last_durable = None;
        for group in rig.groups.try_iter() {
            prop_assert_eq!(group.batch.first(), next);
            next = group.batch.end();
            prop_assert!(last_durable < Some(group.durable));
            for payload in payloads(&group.batch) {
                let ticket = tickets[&payload];
                prop_assert!(group.durable.covers(ticket));
                prop_assert!(last_durable.is_none_or(|before: Durable| !before.covers(ticket)));
                let (thread, number) = payload.split('-').next().unwrap().split_once(':').unwrap();
                seen.entry(thread.to_owned()).or_default().push(number.parse().unwrap());
            }
            last_durable = Some(group.durable);
        }
        prop_assert_eq!(next.get() as usize, tickets.len());
        for (thread, plan) in plans.iter().enumerate() {
            let entries: usize = plan.iter().map(|(entries, _, _)| entries).sum();
            prop_assert_eq!(&seen[&thread.to_string()], &(0..entries).collect::<Vec<_>>());
        }
        // And the log holds the same.
        let mut read = 0;
        let mut from = Offset::ZERO;
        while let Some(page) = rig.reader.read_page(from, 500).unwrap() {
            read += page.batch.len();
            prop_assert!(payloads(&page.batch).iter().all(|payload| tickets.contains_key(payload)));
            from = page.next;
        }
        prop_assert_eq!(read, tickets.len());
    }
}

/// Submits what a plan says: entries, size of the payloads, urgency.
fn run_plan(commit: &GroupCommit, thread: usize, plan: &[(usize, usize, bool)]) -> Vec<(String, Ticket)> {
    let (waker, _, woken) = bell();
    let mut staging = Staging::new();
    let mut tickets = Vec::new();
    let (mut number, mut last) = (0, None);
    for (entries, size, lazy) in plan {
        let urgency = if *lazy { Urgency::Lazy } else { Urgency::Now };
        let names: Vec<String> = (number..number + entries)
            .map(|number| format!("{thread}:{number}-{}", "x".repeat(*size)))
            .collect();
        number += entries;
        for name in &names {
            staging.push_event(&event(name)).unwrap();
        }
        let ticket = loop {
            match commit.submit(&mut staging, urgency, &waker, last) {
                Ok(ticket) => break ticket,
                Err(SubmitError::Full) => woken.recv().unwrap(),
                Err(other) => panic!("{other}"),
            }
        };
        last = Some(ticket);
        tickets.extend(names.into_iter().map(|name| (name, ticket)));
    }
    tickets
}

#[test]
fn at_whatever_moment_the_power_fails_what_was_acknowledged_is_there() {
    let log = MemoryLog::new();
    let handle = log.handle();
    let acknowledged = Arc::new(AtomicU64::new(0));
    let sink = {
        let (acknowledged, handle) = (Arc::clone(&acknowledged), handle.clone());
        Box::new(move |group: CommittedGroup| {
            acknowledged.store(group.batch.end().get(), Ordering::SeqCst);
            assert!(handle.crash(0).next_offset() >= group.batch.end());
        })
    };
    let commit = GroupCommit::start(Box::new(log), options(), Box::new(|| 1), sink).unwrap();
    let submitter = {
        let commit = commit.clone();
        thread::spawn(move || {
            for offset in 0..3000 {
                let payload = crate::log::contract::payload(offset);
                let mut staging = Staging::new();
                staging.push_event(&Event { payload: &payload, ..event("") }).unwrap();
                commit.submit(&mut staging, Urgency::Now, &bell().0, None).unwrap();
            }
        })
    };
    let mut torn = 0;
    while !submitter.is_finished() {
        let promised = acknowledged.load(Ordering::SeqCst);
        let survived = handle.crash(torn % 300);
        assert!(survived.next_offset().get() >= promised);
        let (read, skipped) = read_all(survived.reader().as_ref(), promised.saturating_sub(20), 1 << 16);
        assert!(
            skipped.is_empty() && read.last().is_none_or(|last| last + 1 == survived.next_offset().get())
        );
        torn += 37;
    }
    submitter.join().unwrap();
    commit.shutdown();
    assert_eq!(handle.crash(0).next_offset(), Offset::new(3000));
    assert_eq!(commit.state(), CommitState::Stopped, "the sink's assertion held");
}
