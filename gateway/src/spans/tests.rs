//! Who is traced, how a delivery finds its publish, and what is dropped.

use super::*;
use gateway_protocol::property::{PropertiesBuf, Property};

const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const NOT_SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

fn event(properties: &[u8]) -> Event<'_> {
    Event {
        client_id: "meter",
        topic: "devices/meter/out",
        qos: 1,
        retain: false,
        received_ms: 1_700_000_000_123,
        expires_at_ms: 0,
        properties,
        payload: b"1",
    }
}

fn spans(ratio: f64, parent_based: bool, limit: usize) -> Spans {
    let sampling = Sampling::new(ratio, parent_based);
    Spans { on: Some(Arc::new(Inner { queue: Arc::new(Queue::new(limit)), sampling })) }
}

#[expect(clippy::vec_box, reason = "as the queue has them")]
fn ended(spans: &Spans) -> Vec<Box<Span>> {
    spans.on.as_ref().unwrap().queue.take()
}

fn saying(value: &str) -> Vec<u8> {
    let mut list = PropertiesBuf::new();
    list.push(Property::UserProperty { name: "traceparent", value }).unwrap();
    list.push(Property::UserProperty { name: "tracestate", value: "a=1" }).unwrap();
    list.as_properties().raw().to_vec()
}

#[test]
fn a_part_of_the_publishes_that_do_not_say_it_themselves_is_traced() {
    for (ratio, expected) in
        [(0.0, 0..=0), (0.01, 800..=1_200), (0.5, 49_000..=51_000), (1.0, 100_000..=100_000)]
    {
        let spans = spans(ratio, true, 1);
        let traced = (0..100_000).filter(|_| spans.publish(&event(&[])).is_some()).count();
        assert!(expected.contains(&traced), "{traced} of 100,000 at {ratio}");
    }
    assert!(Spans::default().publish(&event(&saying(SAMPLED))).is_none(), "nothing is, when it is off");
}

#[test]
fn the_flag_of_a_publisher_decides_unless_the_ratio_is_to() {
    let is_traced = |ratio, parent_based, value| {
        let spans = spans(ratio, parent_based, 16);
        let properties = saying(value);
        let publish = spans.publish(&event(&properties)).is_some();
        assert_eq!(spans.context_in(&properties).is_some(), publish, "deliveries are as the publish is");
        publish
    };
    assert!(is_traced(0.0, true, SAMPLED));
    assert!(!is_traced(1.0, true, NOT_SAMPLED));
    assert!(!is_traced(0.0, false, SAMPLED));
    assert!(is_traced(1.0, false, NOT_SAMPLED));
    assert!(!is_traced(1.0, true, "nonsense"));
}

#[test]
fn a_delivery_is_under_its_publish_whoever_began_the_trace() {
    let spans = spans(1.0, true, 16);
    let properties = saying(SAMPLED);
    let publish = spans.publish(&event(&properties)).unwrap();
    assert!(publish.context_to_add().is_none(), "the publisher has said it");
    publish.end("stored");
    let delivered = Delivered { client_id: "reader", qos: 0, offset: Some(7), ..Delivered::default() };
    spans.deliver(&event(&properties), &delivered).unwrap().end("sent");
    let [publish, deliver] = &ended(&spans)[..] else { panic!() };
    assert_eq!(publish.parent, Some(SpanId([0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7])));
    assert_eq!((deliver.trace_id, deliver.parent), (publish.trace_id, Some(publish.id)));
    assert_eq!((deliver.trace_state.as_deref(), deliver.offset), (Some("a=1"), Some(7)));
    assert_eq!((&*deliver.client_id, deliver.qos), ("reader", 0));

    let publish = spans.publish(&event(&[])).unwrap();
    let mut list = PropertiesBuf::new();
    publish.context_to_add().unwrap().append(&mut list).unwrap();
    publish.end("stored");
    spans.deliver(&event(list.as_properties().raw()), &delivered).unwrap().end("sent");
    let [publish, deliver] = &ended(&spans)[..] else { panic!() };
    assert_eq!(publish.parent, None);
    assert_eq!((deliver.trace_id, deliver.parent), (publish.trace_id, Some(publish.id)));
}

#[test]
fn a_span_that_is_dropped_has_failed_and_one_takes_time() {
    let spans = spans(1.0, true, 16);
    drop(spans.publish(&event(&[])));
    let [span] = &ended(&spans)[..] else { panic!() };
    assert_eq!((span.outcome, span.has_failed), ("interrupted", true));
    assert!(span.start_ns > 1_600_000_000_000_000_000 && span.end_ns >= span.start_ns);
}

#[test]
fn open_spans_and_waiting_ones_are_bounded_each_for_itself() {
    let spans = spans(1.0, true, 4);
    let open: Vec<_> = (0..10).filter_map(|_| spans.publish(&event(&[]))).collect();
    assert_eq!(open.len(), 4);
    drop(open);
    assert!(spans.publish(&event(&[])).is_some_and(|span| span.context_to_add().is_some()), "room again");
    assert_eq!(ended(&spans).len(), 4, "the fifth found no room");
    drop(spans.publish(&event(&[])));
    assert_eq!(ended(&spans).len(), 1);
}

#[test]
fn names_are_cut_between_characters() {
    let topic = "ä".repeat(300);
    let spans = spans(1.0, true, 4);
    drop(spans.publish(&Event { topic: &topic, ..event(&[]) }));
    assert_eq!(&*ended(&spans)[0].topic, "ä".repeat(128));
}
