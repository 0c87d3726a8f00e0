//! The state machine against a naive book of what was handed out, settled and durable, under random operations and crashes.

mod book;
mod cases;

use super::{Core, Gone, Rules, WorkerId};
use crate::engine::{Cause, Order};
use book::Book;
use proptest::prelude::*;

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    /// Time passes, and what is due is dealt with.
    Wait(u64),
    Join(u32),
    Credit(usize, u32),
    Leave(usize),
    Lose(usize),
    Read(u64),
    HandOut,
    /// A change is sent to the log.
    Send,
    /// The oldest change sent becomes durable.
    Stored,
    Ack(usize),
    /// An attempt before the last one is acknowledged.
    AckLate(usize),
    Nak(usize, Option<u64>),
    Reject(usize),
    Extend(usize),
    NotPickedUp,
    Load,
    Bury,
    /// The log fails, and is open again.
    Fail,
    /// Everything but what is durable is gone.
    Crash(usize),
    Pause(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let any_one = 0usize..64;
    prop_oneof![
        4 => (0u64..60).prop_map(Step::Wait),
        2 => (0u32..6).prop_map(Step::Join),
        2 => (any_one.clone(), 0u32..6).prop_map(|(worker, credit)| Step::Credit(worker, credit)),
        1 => any_one.clone().prop_map(Step::Leave),
        1 => any_one.clone().prop_map(Step::Lose),
        5 => (1u64..8).prop_map(Step::Read),
        8 => Just(Step::HandOut),
        6 => Just(Step::Send),
        8 => Just(Step::Stored),
        8 => any_one.clone().prop_map(Step::Ack),
        1 => any_one.clone().prop_map(Step::AckLate),
        2 => (any_one.clone(), proptest::option::of(0u64..50)).prop_map(|(at, delay)| Step::Nak(at, delay)),
        1 => any_one.clone().prop_map(Step::Reject),
        1 => any_one.clone().prop_map(Step::Extend),
        1 => Just(Step::NotPickedUp),
        4 => Just(Step::Load),
        2 => Just(Step::Bury),
        1 => Just(Step::Fail),
        1 => any_one.prop_map(Step::Crash),
        1 => any::<bool>().prop_map(Step::Pause),
    ]
}

fn rules() -> impl Strategy<Value = Rules> {
    let order = prop_oneof![Just(Order::None), Just(Order::Key)];
    let backoff = proptest::collection::vec(0u64..40, 0..3);
    (order, 1u64..80, 0u32..4, backoff, 1u32..12, 0u32..4).prop_map(
        |(order, ack_wait_ms, max_deliver, backoff_ms, max_ack_pending, hang_limit)| Rules {
            order,
            ack_wait_ms,
            max_deliver,
            backoff_ms,
            max_ack_pending,
            hang_limit,
            paused: false,
            read_ahead_bytes: 64,
        },
    )
}

fn run(rules: Rules, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut book = Book::new(rules);
    for step in steps {
        match step {
            Step::Wait(ms) => book.wait(ms)?,
            Step::Join(credit) => book.join(credit),
            Step::Credit(worker, credit) => book.credit(worker, credit),
            Step::Leave(worker) => book.leave(worker, true),
            Step::Lose(worker) => book.leave(worker, false),
            Step::Read(count) => book.read(count),
            Step::HandOut => book.hand_out()?,
            Step::Send => book.send(),
            Step::Stored => book.stored()?,
            Step::Ack(at) => book.ack(at, 0)?,
            Step::AckLate(at) => book.ack(at, 1)?,
            Step::Nak(at, delay) => book.nak(at, delay),
            Step::Reject(at) => book.reject(at),
            Step::Extend(at) => book.extend(at),
            Step::NotPickedUp => book.drop_next = true,
            Step::Load => book.load(),
            Step::Bury => book.bury()?,
            Step::Fail => book.fail_log()?,
            Step::Crash(kept) => book.crash(kept)?,
            Step::Pause(paused) => book.pause(paused),
        }
        book.check()?;
    }
    book.finish()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_nor_early_nor_too_often(rules in rules(), steps in proptest::collection::vec(step(), 1..250)) {
        run(rules, steps)?;
    }
}
