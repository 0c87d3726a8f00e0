//! Cases that have failed, as short as they were found.

use super::Case;
use super::ops::{End, Op, Publish, ViewFate, Which};
use crate::engine::{BacklogLimits, LetterLimits, Rules, ShareStrategy, WhenFull};

const RULES: Rules = Rules {
    backlog: BacklogLimits { messages_max: 100_000, bytes_max: 1 << 40 },
    share: ShareStrategy::RoundRobin,
    when_full: WhenFull::DropOldest,
    losses: 0,
    consumers_max: 0,
    letters: LetterLimits { bytes_max: 1 << 20, count_max: 10 },
};

/// Takes the steps, and once more what was done since the last checkpoint.
fn holds(rules: Rules, mut ops: Vec<Op>) {
    ops.push(Op::Restart {
        end: End::Crash,
        view: ViewFate::Missing,
        damages_checkpoint: false,
        rules,
        saves: true,
    });
    Case { rules, ops }.run().unwrap();
}

fn published(topic: usize) -> Op {
    let event = Publish { topic, qos: 2, retain: false, len: 70 };
    Op::Publish { publisher: 3, events: vec![event], acknowledge: None }
}

fn opened(client: usize) -> Op {
    Op::Open { client, clean: false, lasts: true }
}

/// Without Retained Messages.
fn subscribed(client: usize, filter: usize, qos: u8) -> Op {
    Op::Subscribe { client, filter, options: 0x20 | qos, id: 0 }
}

fn ends_sessions_at(messages_max: u64) -> Rules {
    let backlog = BacklogLimits { messages_max, ..RULES.backlog };
    Rules { backlog, when_full: WhenFull::EndSession, ..RULES }
}

/// In a restored table groups are founded in the order of their names; the numbers of the messages followed from that order.
#[test]
fn a_replay_gives_the_messages_of_two_groups_the_numbers_they_had() {
    let (one, other) = (8, 6);
    let ops = vec![subscribed(4, one, 2), subscribed(4, other, 2), Op::Checkpoint, published(5)];
    holds(RULES, ops);
}

/// In a restored table sessions are entered in the order of their names; which of them ended first followed from that order.
#[test]
fn a_replay_ends_two_sessions_for_one_message_in_the_order_they_were_ended_in() {
    let (group, own) = (6, 2);
    let mut ops = [1, 0, 2].map(opened).to_vec();
    ops.extend([1, 0, 2].map(|client| subscribed(client, group, 1)));
    ops.extend([1, 0].map(|client| subscribed(client, own, 1)));
    // One for each member, and then what fills two of them.
    ops.extend([6, 6, 6, 0, 0].map(published));
    ops.extend([Op::Checkpoint, published(0)]);
    holds(ends_sessions_at(3), ops);
}

/// Up to where a connection has sent is not in the log.
#[test]
fn a_replay_passes_on_what_was_passed_on_whatever_was_sent_meanwhile() {
    let (group, own) = (6, 2);
    let ops = [
        opened(0),
        opened(2),
        subscribed(0, group, 2),
        published(6),
        subscribed(2, group, 2),
        subscribed(0, own, 2),
        published(0),
        Op::Checkpoint,
        Op::Sent { client: 0 },
        published(0),
    ];
    holds(ends_sessions_at(2), ops.to_vec());
}

/// What the view's thread was too busy to take was not saved with what came later, and no later start knew of it.
#[test]
fn a_save_that_was_refused_is_made_up_for() {
    let events = |topic| vec![Publish { topic, qos: 1, retain: true, len: 70 }];
    let busy = Op::BusySave { events: events(0), client: 0, which: Which::Oldest(1000), more: events(1) };
    let ops =
        vec![opened(0), subscribed(0, 0, 1), published(0), Op::Checkpoint, published(1), busy, published(0)];
    // With the view as it was saved, and without it.
    let kept = Op::Restart {
        end: End::Crash,
        view: ViewFate::Kept,
        damages_checkpoint: false,
        rules: RULES,
        saves: true,
    };
    holds(RULES, [ops.clone(), vec![kept]].concat());
    holds(RULES, ops);
}

/// What the log was to be trimmed of was given up first, and went to nobody.
#[test]
fn a_session_that_ends_to_make_room_in_the_log_leaves_all_of_its_group_to_others() {
    let group = 6;
    let mut ops: Vec<Op> = [0, 1].map(opened).into();
    ops.extend([subscribed(0, group, 1), published(6), published(6), subscribed(1, group, 1)]);
    ops.push(Op::Cut { client: 0, permille: 1000 });
    holds(ends_sessions_at(100), ops);
}

/// One start found the only checkpoint damaged and did without; the next one trusted it again, and had the log trimmed that stood in for it.
#[test]
fn a_checkpoint_that_was_found_damaged_is_not_trusted_by_a_later_start() {
    let restart = |view, damages_checkpoint| Op::Restart {
        end: End::Crash,
        view,
        damages_checkpoint,
        rules: RULES,
        saves: false,
    };
    let upkeep = || Op::Retain { checkpoints: false, fails: false };
    let ops = vec![
        published(6),
        published(3),
        published(6),
        upkeep(),
        restart(ViewFate::Missing, true),
        restart(ViewFate::Kept, false),
        upkeep(),
    ];
    holds(RULES, ops);
}
