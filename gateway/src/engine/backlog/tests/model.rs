//! Random steps on a backlog and on plain sets.

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Push { gap: u64, count: u64, profile: u32, bytes: u64 },
    Acknowledge(u64, u64),
    Receive(u64, u64),
    DropOldest(u64, u64, u64),
    DropBefore(u64, u64),
    Save,
    PageOut(Option<u64>),
    Restore,
}

fn sent_ends() -> impl Strategy<Value = u64> {
    prop_oneof![Just(u64::MAX), 0u64..9000]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (prop_oneof![Just(0), 1u64..3000], 1u64..900, 0u32..4, 0u64..5000)
            .prop_map(|(gap, count, profile, bytes)| Step::Push { gap, count, profile, bytes }),
        3 => (0u64..2500, 1u64..2500).prop_map(|(from, len)| Step::Acknowledge(from, len)),
        1 => (0u64..2500, 1u64..40).prop_map(|(from, len)| Step::Receive(from, len)),
        1 => (0u64..500, 0u64..100_000, sent_ends())
            .prop_map(|(messages, bytes, sent_end)| Step::DropOldest(messages, bytes, sent_end)),
        1 => (0u64..100_000, sent_ends()).prop_map(|(before, sent_end)| Step::DropBefore(before, sent_end)),
        2 => Just(Step::Save),
        2 => proptest::option::of(0u64..9000).prop_map(Step::PageOut),
        1 => Just(Step::Restore),
    ];
    proptest::collection::vec(step, 1..40)
}

#[derive(Default)]
struct Model {
    /// Offset, profile and whether it is received, by sequence.
    pending: BTreeMap<u64, (u64, u32, bool)>,
    /// Given up and not acknowledged: what has to be remembered, and what may be.
    open: BTreeSet<u64>,
    perhaps_open: BTreeSet<u64>,
    end: u64,
    offset: u64,
}

impl Model {
    fn give_up(&mut self, count: u64, sent_end: u64) {
        for _ in 0..count {
            let Some((sequence, (_, profile, _))) = self.pending.pop_first() else { return };
            if sequence < sent_end {
                self.perhaps_open.insert(sequence);
                if profile == 2 {
                    self.open.insert(sequence);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Two backlogs take the same steps. One stays in memory, the other is saved, let go of and restored in between. Both agree with
    /// each other in everything that decides what is added or given up, and with a plain map in what is due.
    #[test]
    fn a_backlog_is_a_map_of_pending_messages_wherever_its_chunks_are(steps in steps()) {
        let limits = BacklogLimits { messages_max: 6000, bytes_max: 9_000_000 };
        let mut model = Model::default();
        let (mut whole, mut paged, mut saved) = (Backlog::default(), Backlog::default(), Saved::new());
        // One who reads along, as a connection does.
        let (mut reader, mut batch, mut next) = (DueReader::default(), DueBatch::default(), 0);
        for step in steps {
            let low = whole.low();
            match step {
                Step::Push { gap, count, profile, bytes } => {
                    for _ in 0..count {
                        model.offset += 1 + gap;
                        let profile = Profile { is_retained: profile == 3, ..numbered(profile) };
                        let offset = Offset::new(model.offset);
                        let added = whole.push(offset, &profile, bytes, &limits);
                        prop_assert_eq!(paged.push(offset, &profile, bytes, &limits), added);
                        if added {
                            let id = profile.subscription_ids.unwrap()[0];
                            model.pending.insert(model.end, (model.offset, id, false));
                            model.end += 1;
                        }
                    }
                }
                Step::Acknowledge(from, len) => {
                    let before = model.pending.len();
                    // What was given up is acknowledged, too.
                    let (from, len) = if from < 500 { (low.saturating_sub(from), len) } else { (low + from, len) };
                    let stays = |sequence: &u64| !(from..from + len).contains(sequence);
                    model.pending.retain(|sequence, _| stays(sequence));
                    model.open.retain(stays);
                    model.perhaps_open.retain(stays);
                    for backlog in [&mut whole, &mut paged] {
                        prop_assert_eq!(backlog.acknowledge(from, len), (before - model.pending.len()) as u64);
                    }
                }
                Step::Receive(from, len) => {
                    for (_, message) in model.pending.range_mut(low + from..low + from + len) {
                        message.2 = true;
                    }
                    whole.receive(low + from, len);
                    paged.receive(low + from, len);
                }
                Step::DropOldest(messages, bytes, sent_end) => {
                    let dropped = whole.drop_oldest(messages, bytes, &limits, sent_end);
                    prop_assert_eq!(paged.drop_oldest(messages, bytes, &limits, sent_end), dropped);
                    prop_assert!(whole.pending() + messages <= limits.messages_max);
                    prop_assert!(whole.pending_bytes() + bytes <= limits.bytes_max);
                    model.give_up(dropped, sent_end);
                }
                Step::DropBefore(offset, sent_end) => {
                    let is_due = whole.has_before(Offset::new(offset));
                    let dropped = whole.drop_before(Offset::new(offset), sent_end);
                    prop_assert_eq!(paged.drop_before(Offset::new(offset), sent_end), dropped);
                    prop_assert_eq!(is_due, dropped > 0);
                    model.give_up(dropped, sent_end);
                    let mut left = model.pending.values().filter(|message| message.1 != 3);
                    prop_assert!(left.all(|message| message.0 >= offset));
                }
                Step::Save => saved.save(&mut paged),
                Step::PageOut(kept) => paged.page_out(kept),
                Step::Restore => {
                    saved.save(&mut paged);
                    paged = saved.restore(&paged);
                }
            }
            for backlog in [&whole, &paged] {
                prop_assert_eq!(backlog.pending(), model.pending.len() as u64);
                prop_assert_eq!(backlog.end(), model.end);
                prop_assert_eq!(backlog.low(), model.pending.keys().next().copied().unwrap_or(model.end));
                let oldest = model.pending.values().filter(|message| message.1 != 3).map(|message| message.0).min();
                match backlog.oldest_offset() {
                    Some(offset) => prop_assert!(oldest.is_none_or(|oldest| offset.get() <= oldest)),
                    None => prop_assert_eq!(oldest, None),
                }
            }
            if paged.fetch(next, &mut reader, &mut batch) == Fetch::Some {
                for run in batch.runs() {
                    for at in 0..u64::from(run.len) {
                        let expected = model.pending.range(next..).next();
                        let expected = expected.map(|(sequence, message)| (*sequence, message.0, message.2));
                        next = run.sequence + at + 1;
                        prop_assert_eq!(Some((next - 1, run.offset.get() + at, run.is_received)), expected);
                    }
                }
            }
            let given_up = whole.given_up_ranges();
            prop_assert_eq!(&given_up, &paged.given_up_ranges());
            let given_up: BTreeSet<u64> = given_up.into_iter().flat_map(|(start, end)| start..end).collect();
            prop_assert!(given_up.is_superset(&model.open) && given_up.is_subset(&model.perhaps_open));
            prop_assert_eq!(whole.identifiers_from(), given_up.first().copied().unwrap_or(whole.low()));
            prop_assert_eq!(whole.pending_bytes(), paged.pending_bytes());
            prop_assert_eq!(whole.oldest_bytes(), paged.oldest_bytes());
        }
        let expected: Vec<_> =
            model.pending.iter().map(|(sequence, (offset, _, received))| (*sequence, *offset, *received)).collect();
        prop_assert_eq!(&due(&whole, &Nowhere), &expected);
        prop_assert_eq!(&due(&paged, &saved.view), &expected);
        saved.save(&mut paged);
        prop_assert_eq!(&due(&saved.restore(&paged), &saved.view), &expected);
    }
}
