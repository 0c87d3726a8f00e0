use super::*;

pub(super) fn spec() -> ConsumerSpec {
    ConsumerSpec {
        stream: "telemetry".into(),
        filter: "#".into(),
        start: 10,
        ack_wait_ms: 30_000,
        max_deliver: 5,
        backoff_ms: Vec::new(),
        max_ack_pending: 1000,
        order: Order::None,
        paused: false,
        configured: false,
        generation: 1,
    }
}
