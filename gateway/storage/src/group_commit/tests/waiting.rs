//! How long submitters wait: seen from outside while they do, counted when they have, and made longer on purpose.

use std::thread;
use std::time::{Duration, Instant};

use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

use super::{NEVER, Rig, options, payloads, staged};
use crate::group_commit::Urgency;

#[test]
fn the_oldest_submission_that_somebody_waits_for_is_seen_until_it_is_committed() {
    let rig = Rig::memory(options());
    assert!(rig.commit.waiting().is_none());
    rig.submit("rides along", Urgency::Lazy).unwrap();
    assert!(rig.commit.waiting().is_none(), "nobody waits for it");
    rig.faults.stall_sync();
    let before = Instant::now();
    let first = rig.submit("a", Urgency::Now).unwrap();
    rig.faults.wait_until_stalled();
    let waiting = rig.commit.waiting().expect("its sync stands");
    assert_eq!(waiting.ticket, first);
    assert!(waiting.since >= before);
    rig.submit("b", Urgency::Now).unwrap();
    assert_eq!(rig.commit.waiting().expect("both").ticket, first, "the older one");
    rig.faults.release_sync();
    rig.next_group();
    rig.next_group();
    // The second group was handed on, so it is committed.
    assert!(rig.commit.waiting().is_none());
    let longest = rig.commit.take_longest_sojourn();
    assert!(longest > 0 && u128::from(longest) <= before.elapsed().as_nanos(), "{longest} ns");
    assert_eq!(rig.commit.take_longest_sojourn(), 0, "told once");
}

#[test]
fn a_group_lingers_for_company_and_goes_on_without_when_none_comes() {
    let rig = Rig::memory(options());
    let linger = Duration::from_millis(200);
    rig.commit.linger(linger);
    let began = Instant::now();
    for payload in ["a", "b", "c"] {
        rig.submit(payload, Urgency::Now).unwrap();
        thread::yield_now();
    }
    assert_eq!(payloads(&rig.next_group().batch), ["a", "b", "c"], "one group for all three");
    assert!(began.elapsed() >= linger);
    rig.commit.linger(Duration::ZERO);
    rig.submit("d", Urgency::Now).unwrap();
    assert_eq!(payloads(&rig.next_group().batch), ["d"]);
}

#[test]
fn what_is_to_go_at_once_ends_the_lingering_for_all_of_its_group() {
    let rig = Rig::memory(options());
    rig.commit.linger(NEVER);
    rig.submit("a", Urgency::Now).unwrap();
    rig.submit("b", Urgency::AtOnce).unwrap();
    assert_eq!(payloads(&rig.next_group().batch), ["a", "b"]);
    rig.submit("c", Urgency::AtOnce).unwrap();
    assert_eq!(payloads(&rig.next_group().batch), ["c"], "it waits for nobody");
    let submit = |payload, urgency, last| {
        rig.commit.submit(&mut staged(&[payload]), urgency, Waker::noop(), last).unwrap()
    };
    let last = submit("d", Urgency::Now, None);
    submit("e", Urgency::AtOnce, Some(last));
    let group = rig.next_group();
    assert_eq!(payloads(&group.batch), ["d", "e"], "whatever the same client has in the group");
    assert_eq!(group.contributors.len(), 1, "it is woken once");
}

#[test]
fn those_who_submitted_at_once_are_woken_before_the_others() {
    struct Named(&'static str, Arc<Mutex<Vec<&'static str>>>);
    impl Wake for Named {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }
    let rig = Rig::memory(options());
    let woken = Arc::new(Mutex::new(Vec::new()));
    let submit = |name, urgency| {
        let waker = Waker::from(Arc::new(Named(name, woken.clone())));
        rig.commit.submit(&mut staged(&[name]), urgency, &waker, None).unwrap();
    };
    rig.faults.stall_sync();
    rig.submit("under way", Urgency::Now).unwrap();
    rig.faults.wait_until_stalled();
    submit("a", Urgency::Now);
    submit("b", Urgency::Lazy);
    submit("c", Urgency::AtOnce);
    submit("d", Urgency::Now);
    submit("e", Urgency::AtOnce);
    rig.faults.release_sync();
    rig.next_group();
    let group = rig.next_group();
    assert_eq!(payloads(&group.batch), ["a", "b", "c", "d", "e"], "the log has them as they came");
    group.contributors.into_iter().for_each(Waker::wake);
    let woken = woken.lock().unwrap();
    assert_eq!(woken[..2], ["c", "e"]);
    assert_eq!(woken.len(), 5, "{woken:?}");
}
