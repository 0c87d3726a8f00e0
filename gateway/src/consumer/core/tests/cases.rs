//! Single promises, one at a time.

use super::*;
use crate::consumer::core::{Hand, Settled};
use crate::engine::OpenItem;

fn plain() -> Rules {
    Rules {
        order: Order::None,
        ack_wait_ms: 1000,
        max_deliver: 3,
        backoff_ms: vec![100, 200],
        max_ack_pending: 100,
        hang_limit: 3,
        paused: false,
        read_ahead_bytes: 1 << 20,
    }
}

/// A core that was offered `count` events, each of a key of its own.
fn offered(rules: Rules, count: u64) -> Core<u64> {
    let mut core = Core::restore(rules, 0, [], 0);
    for offset in 0..count {
        core.offer(offset, offset, 10, offset);
    }
    core
}

/// Hands out, and makes it durable at once.
fn hand_out(core: &mut Core<u64>, now: u64) -> Vec<Hand<u64>> {
    while let Some((offset, _)) = core.wanted(0) {
        core.give(offset, offset, 10, offset);
    }
    core.hand_out(now);
    let mut out = Vec::new();
    let number = core.change(0).number;
    core.confirm(number, now, &mut out);
    for hand in &out {
        assert!(core.pick_up(hand.worker, hand.offset, hand.attempt));
    }
    out
}

#[test]
fn equal_workers_get_equal_work() {
    let mut core = offered(Rules { max_ack_pending: 10_000, ..plain() }, 3000);
    let workers: Vec<WorkerId> = (0..7).map(|_| core.join("w", 16, 0)).collect();
    let mut got = [0u32; 7];
    let mut held: Vec<Vec<Hand<u64>>> = (0..7).map(|_| Vec::new()).collect();
    let mut random = 7u64;
    for now in 0..400 {
        for hand in hand_out(&mut core, now) {
            let at = workers.iter().position(|worker| *worker == hand.worker).unwrap();
            got[at] += 1;
            held[at].push(hand);
        }
        for (worker, held) in workers.iter().zip(&mut held) {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            for hand in held.drain(..usize::try_from(random >> 61).unwrap().min(held.len())) {
                assert_eq!(core.ack(hand.offset, hand.attempt, now), Settled::Done);
            }
            core.set_credit(*worker, 16 - u32::try_from(held.len()).unwrap());
        }
    }
    assert_eq!(got.iter().sum::<u32>(), 3000);
    let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
    assert!(f64::from(*most) <= f64::from(*least) * 1.2, "{got:?}");
}

#[test]
fn failures_wait_longer_and_longer_and_end_in_a_dead_letter() {
    let mut core = offered(plain(), 1);
    core.join("w", 10, 0);
    let first = hand_out(&mut core, 0);
    assert_eq!((first[0].attempt, first[0].due_ms), (1, 1000));
    assert_eq!(core.next_timeout(), Some(1000));
    assert!(core.expire(999).failed.is_empty());
    assert_eq!(core.expire(1000).failed, [(0, Cause::Timeout)]);
    assert_eq!(core.next_timeout(), Some(1100), "the first wait");
    core.expire(1100);
    assert_eq!(hand_out(&mut core, 1100)[0].attempt, 2);
    assert_eq!(core.nak(0, 1, None, 1150), Settled::Stale, "of another attempt");
    assert_eq!(core.nak(0, 2, None, 1200), Settled::Done);
    core.expire(1399);
    assert!(hand_out(&mut core, 1399).is_empty());
    core.expire(1400);
    assert_eq!(hand_out(&mut core, 1400)[0].attempt, 3);
    assert_eq!(core.nak(0, 3, Some(0), 1500), Settled::Done);
    assert!(hand_out(&mut core, 1500).is_empty(), "three is the most");
    let (offset, item, content) = core.dead(0).unwrap();
    assert_eq!((offset, item.attempts, item.cause, *content), (0, 3, Some(Cause::Nak), 0));
    core.dead_lettered(0);
    assert_eq!(core.counts(), (0, 0, None));
}

#[test]
fn a_crash_forgets_neither_attempts_nor_leases() {
    let mut core = offered(plain(), 2);
    core.join("w", 10, 0);
    core.hand_out(0);
    let progress = core.change(0).progress;
    assert_eq!(progress.read_to, 2);
    let mut again = Core::restore(plain(), progress.read_to, progress.opened, 10);
    again.join("v", 10, 10);
    assert!(hand_out(&mut again, 500).is_empty(), "the worker may be at it still");
    assert_eq!(again.ack(1, 1, 600), Settled::Done, "it was");
    assert_eq!(again.expire(1000).failed, [(0, Cause::WorkerLost)]);
    again.expire(1100);
    let second = hand_out(&mut again, 1100);
    assert_eq!((second.len(), second[0].offset, second[0].attempt), (1, 0, 2));
}

#[test]
fn what_a_worker_gives_back_goes_to_another_at_once() {
    let mut core = offered(plain(), 4);
    let (first, second) = (core.join("a", 4, 0), core.join("b", 0, 0));
    assert_eq!(hand_out(&mut core, 0).len(), 4);
    core.leave(first, 10);
    core.set_credit(second, 4);
    let again = hand_out(&mut core, 10);
    assert_eq!(again.iter().map(|hand| (hand.worker, hand.attempt)).collect::<Vec<_>>(), [(second, 2); 4]);
}

#[test]
fn a_failed_event_goes_to_another_worker_if_there_is_one() {
    let mut core = offered(Rules { backoff_ms: Vec::new(), ..plain() }, 1);
    let (first, second) = (core.join("a", 9, 0), core.join("b", 9, 0));
    let one = hand_out(&mut core, 0)[0].worker;
    core.nak(0, 1, None, 0);
    let two = hand_out(&mut core, 0)[0].worker;
    assert_eq!([one, two], [first, second]);
    core.leave(first, 0);
    core.nak(0, 2, None, 0);
    assert_eq!(hand_out(&mut core, 0)[0].worker, second, "nobody else is there");
}

#[test]
fn a_late_acknowledgement_counts_because_the_work_is_done() {
    let mut core = offered(plain(), 1);
    core.join("a", 9, 0);
    hand_out(&mut core, 0);
    core.expire(1000);
    assert_eq!(core.ack(0, 1, 1050), Settled::Late);
    assert_eq!(core.ack(0, 1, 1060), Settled::Stale);
    core.expire(1100);
    assert!(hand_out(&mut core, 1100).is_empty());
    assert_eq!((core.totals().acked, core.totals().acked_late), (1, 1));
}

#[test]
fn a_worker_that_is_silent_for_too_long_hangs_and_one_that_speaks_does_not() {
    let mut core = offered(Rules { max_deliver: 0, backoff_ms: vec![60_000], ..plain() }, 2);
    let (silent, speaks) = (core.join("silent", 1, 0), core.join("speaks", 1, 0));
    assert_eq!(hand_out(&mut core, 0).len(), 2);
    core.expire(1000);
    assert_eq!(core.ack(1, 1, 1500), Settled::Late);
    core.set_credit(speaks, 1);
    for now in [1000, 2999] {
        assert_eq!(core.expire(now).hanging, []);
    }
    let hanging = core.expire(3000).hanging;
    assert!(hanging.contains(&silent), "{hanging:?}");
}

#[test]
fn of_each_key_one_is_under_way() {
    let mut core = Core::restore(Rules { order: Order::Key, ..plain() }, 0, [], 0);
    for (offset, key) in [(0, 1), (1, 1), (2, 2), (3, 1)] {
        core.offer(offset, key, 10, offset);
    }
    core.join("w", 9, 0);
    let offsets = |hands: Vec<Hand<u64>>| hands.iter().map(|hand| hand.offset).collect::<Vec<_>>();
    assert_eq!(offsets(hand_out(&mut core, 0)), [0, 2]);
    core.ack(0, 1, 0);
    assert_eq!(offsets(hand_out(&mut core, 0)), [1]);
    core.nak(1, 1, Some(50), 0);
    assert!(hand_out(&mut core, 0).is_empty(), "what follows waits for it");
    core.expire(50);
    assert_eq!(offsets(hand_out(&mut core, 50)), [1]);
    core.ack(1, 2, 50);
    assert_eq!(offsets(hand_out(&mut core, 50)), [3]);
}

#[test]
fn neither_failed_events_nor_fresh_ones_keep_the_others_back() {
    let mut core = offered(Rules { max_deliver: 0, backoff_ms: Vec::new(), ..plain() }, 40);
    let worker = core.join("w", 2, 0);
    let mut fresh = 0;
    for now in 0..60 {
        for hand in hand_out(&mut core, now) {
            fresh += u32::from(hand.attempt == 1);
            core.nak(hand.offset, hand.attempt, None, now);
        }
        core.set_credit(worker, 2);
    }
    assert_eq!(fresh, 40, "all were tried although all fail");
}

#[test]
fn a_redriven_letter_is_an_item_again_and_wants_its_content_from_the_table() {
    let mut core = offered(plain(), 0);
    core.skip_to(50);
    core.join("w", 9, 0);
    let letter = OpenItem {
        attempts: 0,
        due_ms: 20,
        first_ms: 0,
        worker: "".into(),
        cause: None,
        leased: false,
        is_letter: true,
    };
    core.redrive(7, &letter, 10);
    assert_eq!(core.wanted(0), None, "not before its time");
    core.expire(20);
    assert_eq!(core.wanted(0), Some((7, true)));
    let hands = hand_out(&mut core, 20);
    assert_eq!((hands[0].offset, hands[0].attempt), (7, 1));
    assert_eq!(core.ack(7, 1, 30), Settled::Done);
    assert!(core.change(0).progress.acked.contains(7));
}

#[test]
fn a_letter_may_be_redriven_before_its_dying_is_confirmed() {
    let mut core = offered(plain(), 1);
    core.join("w", 9, 0);
    hand_out(&mut core, 0);
    core.reject(0, 1, Cause::Rejected(0x99), 0);
    let letter = OpenItem {
        attempts: 0,
        due_ms: 10,
        first_ms: 0,
        worker: "".into(),
        cause: None,
        leased: false,
        is_letter: true,
    };
    core.redrive(0, &letter, 5);
    core.dead_lettered(0);
    core.expire(10);
    let again = hand_out(&mut core, 10);
    assert_eq!((again.len(), again[0].attempt), (1, 1));
}

#[test]
fn what_is_gone_is_settled_and_counted() {
    let mut core = offered(plain(), 1);
    core.join("w", 9, 0);
    hand_out(&mut core, 0);
    core.gone(0, Gone::Lost);
    core.count_gone(Gone::Missed, 5);
    core.count_gone(Gone::Expired, 2);
    let progress = core.change(0).progress;
    assert!(progress.gone.contains(0));
    assert_eq!((progress.lost, progress.missed, progress.expired), (1, 5, 2));
    assert!(!core.has_change());
}

#[test]
fn a_lower_limit_ends_what_has_failed_more_often() {
    let mut core = offered(plain(), 1);
    core.join("w", 9, 0);
    hand_out(&mut core, 0);
    core.nak(0, 1, None, 0);
    core.set_rules(Rules { max_deliver: 1, ..plain() }, 1);
    assert!(hand_out(&mut core, 200).is_empty());
    assert!(core.dead(0).is_some());
}

#[test]
fn after_a_crash_open_events_get_in_although_ready_ones_fill_the_memory() {
    let rules = Rules {
        order: Order::Key,
        ack_wait_ms: 44,
        max_deliver: 0,
        backoff_ms: Vec::new(),
        max_ack_pending: 7,
        hang_limit: 0,
        paused: false,
        read_ahead_bytes: 64,
    };
    let steps = vec![
        Step::Join(1),
        Step::Read(1),
        Step::HandOut,
        Step::Wait(44),
        Step::NotPickedUp,
        Step::Fail,
        Step::Join(3),
        Step::Read(4),
        Step::Read(7),
        Step::HandOut,
        Step::Read(1),
        Step::HandOut,
        Step::Ack(0),
        Step::Send,
        Step::Stored,
        Step::Join(0),
        Step::Crash(0),
    ];
    run(rules, steps).unwrap();
}

#[test]
fn failed_events_get_in_although_fresh_ones_fill_the_memory_and_have_no_room() {
    let rules =
        Rules { max_deliver: 0, backoff_ms: Vec::new(), max_ack_pending: 4, read_ahead_bytes: 40, ..plain() };
    let mut core = offered(rules, 4);
    let worker = core.join("w", 4, 0);
    assert_eq!(hand_out(&mut core, 0).len(), 4);
    for offset in 4..8 {
        core.offer(offset, offset, 10, offset);
    }
    for offset in 0..4 {
        assert_eq!(core.nak(offset, 1, None, 0), Settled::Done);
    }
    for now in 1..20 {
        core.set_credit(worker, 4);
        for hand in hand_out(&mut core, now) {
            assert_eq!(core.ack(hand.offset, hand.attempt, now), Settled::Done);
        }
    }
    assert_eq!(core.totals().acked, 8);
}

#[test]
fn a_fresh_event_that_has_no_room_keeps_no_failed_one_back() {
    let rules = Rules { order: Order::Key, backoff_ms: Vec::new(), max_ack_pending: 3, ..plain() };
    let mut core = Core::restore(rules, 0, [], 0);
    for (offset, key) in [(0, 1), (1, 2), (2, 1), (3, 3)] {
        core.offer(offset, key, 10, offset);
    }
    core.join("w", 9, 0);
    assert_eq!(hand_out(&mut core, 0).len(), 2, "the last one would pass over one more");
    for offset in [0, 1] {
        assert_eq!(core.nak(offset, 1, None, 0), Settled::Done);
    }
    let again = hand_out(&mut core, 0);
    assert_eq!(again.iter().map(|hand| hand.offset).collect::<Vec<_>>(), [0, 1]);
}
