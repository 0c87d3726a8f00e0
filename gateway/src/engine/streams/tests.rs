use super::*;
use gateway_storage::Entry;

fn options(name: &str, topic: &str) -> StreamOptions {
    StreamOptions { name: name.into(), topics: vec![topic.into()], max_age_ms: 1000, max_bytes: 1 << 20 }
}

fn set(streams: &Streams, wanted: &StreamOptions) -> bool {
    let spec = StreamSpec::of(wanted).encode();
    let entry = Entry::StreamSet { name: &wanted.name, at_ms: 1, spec: &spec };
    streams.apply(&entry, &mut streams.usage())
}

fn remove(streams: &Streams, name: &str) -> bool {
    streams.apply(&Entry::StreamRemoved { name, at_ms: 1 }, &mut streams.usage())
}

#[test]
fn a_stream_is_made_altered_and_removed_and_its_number_is_not_used_again() {
    let streams = Streams::new(&[options("configured", "c/#")]);
    let epoch = streams.epoch();
    assert!(set(&streams, &options("made", "m/#")));
    assert!(streams.epoch() > epoch);
    assert_eq!((streams.id("configured"), streams.id("made")), (Some(0), Some(1)));
    assert_eq!(*streams.keeping("m/1"), [1]);
    streams.usage().count(1, Offset::new(5), 60);
    streams.get(1).unwrap().raise_floor(Offset::new(3));

    assert!(set(&streams, &options("made", "n/#")));
    assert_eq!((streams.keeping("m/1").len(), &*streams.keeping("n/1")), (0, &[1][..]));
    assert_eq!(streams.floor(1), Offset::new(3), "it goes on where it was");
    assert_eq!(streams.usage().get(1).unwrap().kept_from(Offset::ZERO), (100, 1));

    assert!(remove(&streams, "made"));
    assert!(!remove(&streams, "made"), "it is gone already");
    assert_eq!((streams.id("made"), streams.keeping("n/1").len()), (None, 0));
    assert!(set(&streams, &options("made", "n/#")));
    assert_eq!(streams.id("made"), Some(2));
    assert_eq!(streams.usage().get(2).unwrap().kept_from(Offset::ZERO), (0, 0), "it counts anew");
}

#[test]
fn a_configured_stream_stands_before_one_that_was_made() {
    let streams = Streams::new(&[options("a", "configured/#")]);
    assert!(!set(&streams, &options("a", "made/#")));
    assert_eq!((streams.keeping("configured/1").len(), streams.keeping("made/1").len()), (1, 0));
    assert!(!remove(&streams, "a"));
    assert!(streams.is_configured("a"));
    assert!(!remove(&streams, "a") && streams.is_configured("a"), "and is not removed by an entry");
}

#[test]
fn there_are_no_more_than_so_many_and_none_with_another_name() {
    let streams = Streams::default();
    for number in 0..STREAMS_MAX + 3 {
        set(&streams, &options(&format!("s{number}"), "a"));
    }
    assert_eq!(streams.all().len(), STREAMS_MAX);
    assert!(set(&streams, &options("s0", "b")), "one that is there is altered");
    for name in ["", "A", "a b", "a/b", "a\0b"] {
        remove(&streams, "s1");
        assert!(!set(&streams, &options(name, "a")), "{name}");
    }
    let entry = Entry::StreamSet { name: "s1", at_ms: 1, spec: b"\x01" };
    assert!(!streams.apply(&entry, &mut streams.usage()), "illegible");
}
