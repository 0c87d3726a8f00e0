use proptest::prelude::*;
use rmp::encode::ByteBuf;

use super::wire::EventV1;
use super::*;
use crate::batch::Batch;
use crate::frame::{self, FRAME_HEADER_LEN, FrameHeader};
use crate::log::GroupInfo;
use crate::offset::Offset;
use crate::staging::{StageError, Staging};

/// One entry of every kind, in the order of their numbers.
fn one_of_every_kind() -> [Entry<'static>; 23] {
    [
        Entry::Event(Event {
            client_id: "pump-1",
            topic: "devices/pump-1/préssure",
            qos: 1,
            retain: true,
            received_ms: 1_767_225_600_123,
            expires_at_ms: 0,
            properties: &[0x01, 0x01],
            payload: b"{\"bar\":3.2}",
        }),
        Entry::SessionOpened {
            client_id: "pump-1",
            at_ms: 1_767_225_600_000,
            clean_start: false,
            expiry_secs: u32::MAX,
            state: &[1, 2, 3],
        },
        Entry::SessionClosed { client_id: "pump-1", at_ms: 1_767_225_601_000, expiry_secs: 300, state: &[] },
        Entry::SessionRemoved { client_id: "pump-1", at_ms: 1_767_225_602_000, cause: 200 },
        Entry::Subscribed {
            client_id: "app",
            filter: "devices/+/#",
            options: 0x2d,
            subscription_id: 268_435_455,
        },
        Entry::Unsubscribed { client_id: "app", filter: "devices/+/#" },
        Entry::Acknowledged { client_id: "app", runs: &[0xff; 40] },
        Entry::PublishReceived { client_id: "pump-1", packet_id: 65_535 },
        Entry::PublishReleased { client_id: "pump-1", packet_id: 1 },
        Entry::DeliveryReceived { client_id: "app", runs: &[7; 12] },
        Entry::WillSet { client_id: "pump-1", delay_secs: 30, will: &[4, 5, 6] },
        Entry::WillDue { client_id: "pump-1", at_ms: 1_767_225_604_000 },
        Entry::WillCleared { client_id: "pump-1" },
        Entry::RetainedRemoved { topic: "devices/pump-1/state", offset: 999_999 },
        Entry::RulesChanged { rules: &[8, 9] },
        Entry::BacklogCut { client_id: "app", before: 1_000_000_000_000 },
        Entry::StreamSet { name: "telemetry", at_ms: 1_767_225_605_000, spec: &[1, 2, 3, 4] },
        Entry::StreamRemoved { name: "telemetry", at_ms: 1_767_225_606_000 },
        Entry::ConsumerSet { name: "billing", at_ms: 1_767_225_607_000, spec: &[5, 6] },
        Entry::ConsumerRemoved { name: "billing", at_ms: 1_767_225_608_000 },
        Entry::ConsumerProgress { name: "billing", at_ms: 1_767_225_609_000, progress: &[7; 33] },
        Entry::DeadLettered { name: "billing", at_ms: 1_767_225_610_000, letter: &[0xee; 50] },
        Entry::DeadLettersChanged { name: "billing", at_ms: 1_767_225_611_000, change: &[9] },
    ]
}

fn group_of_every_kind() -> Vec<u8> {
    group(&one_of_every_kind())
}

fn group(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut staging = Staging::new();
    for entry in entries {
        staging.push(entry).unwrap();
    }
    let mut frame = vec![0; FRAME_HEADER_LEN];
    frame.extend_from_slice(staging.bytes());
    let entries = entries.len() as u32;
    let info = GroupInfo { first: Offset::new(1_000_000), entries, time_ms: 1_767_225_603_000 };
    assert!(frame::seal(&mut frame, &info, 0x0123_4567_89ab_cdef));
    frame
}

/// The bytes of format version 1: the kinds it began with, and those of streams and consumers. A change here breaks every log there is:
/// it needs a new version, not a new file.
const GOLDEN: [(&str, std::ops::Range<usize>); 2] = [
    (include_str!("../../golden/group-v1.hex"), 0..16),
    (include_str!("../../golden/group-v1-consumers.hex"), 16..23),
];

#[test]
fn groups_with_an_entry_of_every_kind_have_the_bytes_they_always_had() {
    for (golden, kinds) in GOLDEN {
        let golden: String = golden.split_whitespace().collect();
        let written = group(&one_of_every_kind()[kinds]);
        let written: String = written.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(written, golden);
    }
}

#[test]
fn the_golden_groups_read_back_as_what_was_written() {
    for (golden, kinds) in GOLDEN {
        let golden: String = golden.split_whitespace().collect();
        let bytes: Vec<u8> = (0..golden.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&golden[at..at + 2], 16).unwrap())
            .collect();
        let salt = 0x0123_4567_89ab_cdef;
        let header = FrameHeader::parse(&bytes, salt).unwrap();
        let count = kinds.len() as u32;
        assert_eq!((header.entries, header.first), (count, Offset::new(1_000_000)));
        assert_eq!(header.end(), Offset::new(1_000_000 + u64::from(count)));
        assert_eq!((header.time_ms, header.frame_len()), (1_767_225_603_000, bytes.len()));
        assert!(header.is_whole(&bytes, salt));
        assert!(FrameHeader::parse(&bytes, salt + 1).is_none(), "another log's salt");
        let mut at = FRAME_HEADER_LEN;
        for expected in &one_of_every_kind()[kinds] {
            let index = index_entry(&bytes[at..], at as u32).unwrap();
            assert_eq!(index.entry_in(&bytes, "").as_ref(), Some(expected));
            assert_eq!(index.kind, expected.kind());
            at += index.len as usize;
        }
        assert_eq!(at, bytes.len());
    }
}

#[test]
fn a_single_flipped_bit_anywhere_is_noticed() {
    let whole = group_of_every_kind();
    let salt = 0x0123_4567_89ab_cdef;
    for bit in 0..whole.len() * 8 {
        let mut frame = whole.clone();
        frame[bit / 8] ^= 1 << (bit % 8);
        let header = FrameHeader::parse(&frame, salt);
        assert!(header.is_none_or(|header| !header.is_whole(&frame, salt)), "bit {bit}");
    }
}

#[test]
fn entry_limits_are_held_at_staging() {
    let mut staging = Staging::new();
    let long = "x".repeat(STRING_BYTES_MAX + 1);
    let Entry::Event(event) = one_of_every_kind()[0] else { panic!() };
    assert!(matches!(staging.push_event(&Event { topic: &long, ..event }), Err(StageError::TooLarge)));
    assert!(matches!(staging.push_event(&Event { client_id: &long, ..event }), Err(StageError::TooLarge)));
    assert!(matches!(staging.push_event(&Event { qos: 3, ..event }), Err(StageError::BadQos { qos: 3 })));
    let unsubscribed = Entry::Unsubscribed { client_id: "a", filter: &long };
    assert!(matches!(staging.push(&unsubscribed), Err(StageError::TooLarge)));
    let large = vec![0; ENTRY_BYTES_MAX];
    assert!(matches!(staging.push_event(&Event { payload: &large, ..event }), Err(StageError::TooLarge)));
    let acknowledged = Entry::Acknowledged { client_id: "a", runs: &large };
    assert!(matches!(staging.push(&acknowledged), Err(StageError::TooLarge)));
    assert_eq!((staging.len(), staging.byte_len()), (0, 0), "nothing of it is staged");

    staging.push_event(&Event { topic: &long[1..], client_id: &long[1..], ..event }).unwrap();
    let batch = staging.into_batch();
    assert_eq!(batch.event(0).unwrap().topic.len(), STRING_BYTES_MAX);
}

#[test]
fn a_cleared_staging_area_is_empty_and_gives_unusual_memory_back() {
    let mut staging = Staging::new();
    let Entry::Event(event) = one_of_every_kind()[0] else { panic!() };
    staging.push_event(&Event { payload: &vec![7; 2 << 20], ..event }).unwrap();
    staging.push(&one_of_every_kind()[5]).unwrap();
    assert_eq!((staging.len(), staging.events()), (2, 1));
    staging.clear();
    assert_eq!((staging.len(), staging.events(), staging.byte_len(), staging.is_empty()), (0, 0, 0, true));
    staging.push_event(&event).unwrap();
    assert!(staging.into_batch().memory_bytes() < 1 << 20);
}

#[test]
fn unknown_kinds_and_shapes_are_told_apart_from_rubbish() {
    let decode = |bytes: &[u8]| decode_entry(bytes).unwrap_err();
    assert!(matches!(decode(&[]), EntryError::NotAnEntry));
    assert!(matches!(decode(&[0x93]), EntryError::NotAnEntry));
    assert!(matches!(decode(&[0x83, 5, 0xa0, 0xa0]), EntryError::NotAnEntry));
    assert!(matches!(decode(&[0x93, 0xcc, 0x05]), EntryError::NotAnEntry));
    assert!(matches!(decode(&[0x93, 99, 0xa0, 0xa0]), EntryError::UnknownKind { kind: 99 }));
    let shape = decode(&[0x94, 5, 0xa0, 0xa0, 0xa0]);
    assert!(matches!(shape, EntryError::UnknownShape { kind: EntryKind::Unsubscribed, found: 4, known: 3 }));
    assert!(shape.to_string().ends_with("a newer gateway has written this log"));
    assert!(matches!(decode(&[0x93, 5, 0xa0, 0x05]), EntryError::Malformed { .. }));
    assert!(matches!(decode(&[0x93, 5, 0xa1, 0xff, 0xa0]), EntryError::Malformed { .. }), "UTF-8");
    // An unsubscription cut short, and one with a field no entry has (nil).
    assert!(matches!(index_entry(&[0x93, 5, 0xa0, 0xa5, b'x'], 0), Err(EntryError::Unwalkable { .. })));
    assert!(matches!(index_entry(&[0x93, 5, 0xa0, 0xc0], 0), Err(EntryError::Unwalkable { .. })));
    let mut event = ByteBuf::new();
    rmp_serde::encode::write(
        event.as_mut_vec(),
        &EventV1 {
            kind: 0,
            client_id: "a",
            topic: "t",
            qos: 3,
            retain: false,
            received_ms: 1,
            expires_at_ms: 0,
            properties: &[],
            payload: &[],
        },
    )
    .unwrap();
    assert!(matches!(index_entry(event.as_vec(), 0), Err(EntryError::OutOfRange { field: "qos", .. })));
}

#[test]
fn a_batch_of_several_groups_knows_offsets_times_and_holes() {
    use crate::batch::GroupSpan;
    let mut staging = Staging::new();
    for entry in &one_of_every_kind()[..7] {
        staging.push(entry).unwrap();
    }
    let spans = vec![
        GroupSpan { first_index: 0, first: Offset::new(10), time_ms: 100 },
        GroupSpan { first_index: 3, first: Offset::new(20), time_ms: 200 },
        GroupSpan { first_index: 5, first: Offset::new(22), time_ms: 300 },
    ];
    let batch = Batch::new(staging.bytes().to_vec(), staging.index().to_vec(), spans);
    assert_eq!((batch.first(), batch.end(), batch.len()), (Offset::new(10), Offset::new(24), 7));
    let offsets: Vec<_> = (0..7).map(|index| batch.offset_of(index).unwrap().get()).collect();
    assert_eq!(offsets, [10, 11, 12, 20, 21, 22, 23]);
    let times: Vec<_> = (0..8).map(|index| batch.time_ms(index)).collect();
    assert_eq!(times, [100, 100, 100, 200, 200, 300, 300, 0]);
    for (index, offset) in offsets.into_iter().enumerate() {
        assert_eq!(batch.index_of(Offset::new(offset)), Some(index));
    }
    for hole in [0, 9, 13, 19, 24, u64::MAX] {
        assert_eq!(batch.index_of(Offset::new(hole)), None);
    }
    let from: Vec<_> = [0, 11, 13, 19, 20, 24].map(|offset| batch.index_from(Offset::new(offset))).into();
    assert_eq!(from, [0, 1, 3, 3, 3, 7]);
    assert_eq!((batch.offset_of(7), batch.entry(7), batch.kind(7)), (None, None, None));
    assert!(batch.event(0).is_some() && batch.event(1).is_none());
    assert_eq!(batch.kind(6), Some(EntryKind::Acknowledged));
}

fn any_event() -> impl Strategy<Value = (String, String, u8, bool, u64, u64, Vec<u8>, Vec<u8>)> {
    let lengths = || prop_oneof![0_usize..40, 120_usize..300, 65_000_usize..70_000];
    let bytes = move || lengths().prop_flat_map(|len| proptest::collection::vec(any::<u8>(), len));
    let number = || prop_oneof![0_u64..300, any::<u64>(), 60_000_u64..70_000];
    (".{0,80}", ".{0,300}", 0_u8..3, any::<bool>(), number(), number(), bytes(), bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// The hand-written encoder against the serde definition: the same bytes, read back as the same event, and the
    /// index noted while writing is the one found while reading.
    #[test]
    fn the_hot_encoder_writes_what_the_serde_definition_writes(
        (client_id, topic, qos, retain, received_ms, expires_at_ms, properties, payload) in any_event(),
    ) {
        let event = Event {
            client_id: &client_id, topic: &topic, qos, retain, received_ms, expires_at_ms,
            properties: &properties, payload: &payload,
        };
        let mut staging = Staging::new();
        staging.push_event(&event).unwrap();
        staging.push_event(&event).unwrap();
        let definition = EventV1 {
            kind: 0, client_id: &client_id, topic: &topic, qos, retain, received_ms, expires_at_ms,
            properties: &properties, payload: &payload,
        };
        let once = rmp_serde::to_vec(&definition).unwrap();
        prop_assert_eq!(staging.bytes(), [once.clone(), once.clone()].concat());
        let second = index_entry(&staging.bytes()[once.len()..], once.len() as u32).unwrap();
        prop_assert_eq!(second, staging.index()[1]);
        prop_assert_eq!(decode_entry(&once).unwrap(), Entry::Event(event));
        let batch = staging.into_batch();
        prop_assert_eq!(batch.event(1), Some(event));
        prop_assert_eq!(batch.entry(0), Some(Entry::Event(event)));
    }

    /// Whatever bytes stand where an entry should be: an error or an entry that lies within them, never a panic.
    #[test]
    fn reading_an_entry_from_any_bytes_ends_in_an_answer(
        kind in 0_u8..25,
        elements in 0x90_u8..0x9b,
        tail in proptest::collection::vec(prop_oneof![any::<u8>(), 0xa0_u8..0xa8, 0xc4_u8..0xd0], 0..60),
    ) {
        let bytes = [&[elements, kind], tail.as_slice()].concat();
        if let Ok(index) = index_entry(&bytes, 0) {
            prop_assert!(index.len as usize <= bytes.len());
            prop_assert!(index.entry_in(&bytes, "").is_some());
        }
    }

    /// Every truncation of a good entry is refused.
    #[test]
    fn a_truncated_entry_is_refused(which in 0_usize..23, cut in any::<proptest::sample::Index>()) {
        let mut staging = Staging::new();
        staging.push(&one_of_every_kind()[which]).unwrap();
        let len = cut.index(staging.byte_len());
        prop_assert!(index_entry(&staging.bytes()[..len], 0).is_err());
    }
}
