//! What may be asked: every path and method, its keys, and what comes back.

mod whole;

use serde_json::{Value, json};

/// Where an operation's keys stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Query,
    Body,
}

/// What a key's value looks like.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    Text,
    Integer,
    Flag,
    /// `500ms`, `30s`, `7d`.
    Duration,
    Durations,
    /// Bytes, or `64MiB`.
    Size,
    Texts,
    Integers,
    OneOf(&'static [&'static str]),
    /// A place in a stream.
    From,
}

impl Shape {
    pub(super) fn schema(self) -> Value {
        match self {
            Self::Text => json!({ "type": "string" }),
            Self::Integer => json!({ "type": "integer", "minimum": 0 }),
            Self::Flag => json!({ "type": "boolean" }),
            Self::Duration => json!({ "type": "string", "examples": ["500ms", "30s", "7d"] }),
            Self::Durations => json!({ "type": "array", "items": Self::Duration.schema() }),
            Self::Size => json!({ "type": ["integer", "string"], "examples": [1_048_576, "64MiB"] }),
            Self::Texts => json!({ "type": "array", "items": { "type": "string" } }),
            Self::Integers => json!({ "type": "array", "items": Self::Integer.schema() }),
            Self::OneOf(words) => json!({ "type": "string", "enum": words }),
            Self::From => json!({
                "type": ["string", "integer"],
                "examples": ["earliest", "latest", 7, "2026-01-01T00:00:00Z", "-15m"],
            }),
        }
    }
}

/// A key of a query or of a body.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) required: bool,
    pub(super) meaning: &'static str,
}

const fn may(name: &'static str, shape: Shape, meaning: &'static str) -> Field {
    Field { name, shape, required: false, meaning }
}

const fn must(name: &'static str, shape: Shape, meaning: &'static str) -> Field {
    Field { name, shape, required: true, meaning }
}

/// What comes back.
pub(super) enum Answer {
    Nothing,
    One(&'static str),
    /// A list under a key, and where the next page begins.
    Page(&'static str, &'static str),
    /// That the end has begun.
    Draining,
    Count(&'static str),
    Word(&'static str),
    /// Server-Sent Events.
    Events,
    /// An object to a line.
    Lines,
    /// This description.
    Description,
}

/// One method of one path.
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    pub(super) place: Place,
    pub(super) fields: &'static [Field],
    pub(super) statuses: &'static [u16],
    pub(super) answer: Answer,
}

const fn get(
    path: &'static str,
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    fields: &'static [Field],
    answer: Answer,
) -> Operation {
    Operation { method: "get", path, id, tag, summary, place: Place::Query, fields, statuses: &[200], answer }
}

const fn post(
    path: &'static str,
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    fields: &'static [Field],
    answer: Answer,
) -> Operation {
    Operation { method: "post", place: Place::Body, ..get(path, id, tag, summary, fields, answer) }
}

const fn put(
    path: &'static str,
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    fields: &'static [Field],
    answer: Answer,
) -> Operation {
    Operation { method: "put", statuses: &[200, 201], ..post(path, id, tag, summary, fields, answer) }
}

const fn patch(
    path: &'static str,
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    fields: &'static [Field],
    answer: Answer,
) -> Operation {
    Operation { method: "patch", ..post(path, id, tag, summary, fields, answer) }
}

const fn delete(path: &'static str, id: &'static str, tag: &'static str, summary: &'static str) -> Operation {
    Operation { method: "delete", statuses: &[204], ..get(path, id, tag, summary, &[], Answer::Nothing) }
}

const AFTER: Field = may("after", Shape::Text, "What `next` of the page before said.");
const LIMIT: Field = may("limit", Shape::Integer, "Items of the page, 1 to 1000; 100 if nothing is said.");
const IDS: Field = must("ids", Shape::Texts, "Hand-outs, as `next` gives them; 1 to 1000.");
const FILTER: Field = may("filter", Shape::Text, "A Topic Filter.");
const ACK_WAIT: Field =
    may("ack_wait", Shape::Duration, "How long a worker may take; 30s if nothing is said.");
const MAX_DELIVER: Field =
    may("max_deliver", Shape::Integer, "Attempts, 0 for no end; 5 if nothing is said.");
const BACKOFF: Field = may("backoff", Shape::Durations, "Time before the second, third, ... attempt.");
const MAX_ACK_PENDING: Field =
    may("max_ack_pending", Shape::Integer, "Events handed out at one time; 1000 if nothing is said.");
const ORDER: Field =
    may("order", Shape::OneOf(&["none", "key"]), "`key`: one event of each publisher and topic at a time.");
const CONSUMER: Field = must("consumer", Shape::Text, "Whose dead letters.");
const ALL_OF_THEM: Field = may("all", Shape::Flag, "True: all of them. Exactly one way of saying which.");
const OFFSETS: Field = may("offsets", Shape::Integers, "Those at these offsets.");
const CAUSE: Field = may("cause", Shape::Text, "Those given up for this cause.");
const TOPIC: Field = may("topic", Shape::Text, "Those whose topics this Topic Filter matches.");
const OF_CONSUMER: Field = may("consumer", Shape::Text, "Those of this consumer.");

/// Every operation.
pub(super) fn all() -> impl Iterator<Item = &'static Operation> {
    whole::ALL.iter().chain(REST)
}

const REST: &[Operation] = &[
    get(
        "/v1/clients",
        "listClients",
        "clients",
        "Clients by Client Identifier",
        &[
            may("search", Shape::Text, "Those whose Client Identifier has this in it, in whatever case."),
            may(
                "state",
                Shape::OneOf(&["current", "connected", "offline", "gone", "all"]),
                "`current`, connected or with a session, if nothing is said.",
            ),
            AFTER,
            LIMIT,
        ],
        Answer::Page("clients", "ClientView"),
    ),
    get(
        "/v1/clients/{client_id}",
        "showClient",
        "clients",
        "One client, and how its last connections ended",
        &[],
        Answer::One("ClientDetail"),
    ),
    post(
        "/v1/clients/{client_id}/kick",
        "kickClient",
        "clients",
        "Closes a client's connection (0x98 Administrative action)",
        &[],
        Answer::Word("kicked"),
    ),
    get(
        "/v1/retained",
        "listRetained",
        "retained",
        "Retained Messages by topic",
        &[TOPIC, AFTER, LIMIT],
        Answer::Page("retained", "RetainedView"),
    ),
    get(
        "/v1/streams",
        "listStreams",
        "streams",
        "Streams by name",
        &[AFTER, LIMIT],
        Answer::Page("streams", "StreamView"),
    ),
    get("/v1/streams/{name}", "showStream", "streams", "One stream", &[], Answer::One("StreamView")),
    put(
        "/v1/streams/{name}",
        "setStream",
        "streams",
        "Makes a stream, or makes it different",
        &[
            must("topics", Shape::Texts, "Topic Filters of what it keeps, 1 to 64."),
            must("max_age", Shape::Duration, "How long events are kept."),
            must("max_bytes", Shape::Size, "How many bytes are kept."),
        ],
        Answer::One("StreamView"),
    ),
    delete("/v1/streams/{name}", "removeStream", "streams", "Removes a stream; what it kept is gone"),
    get(
        "/v1/streams/{name}/watch",
        "watchStream",
        "streams",
        "Server-Sent Events `event`: a sample of a stream's events as they come",
        &[FILTER, may("rate", Shape::Integer, "Events shown in a second, 1 to 1000; 50 if nothing is said.")],
        Answer::Events,
    ),
    get(
        "/v1/consumers",
        "listConsumers",
        "consumers",
        "Consumers by name",
        &[AFTER, LIMIT],
        Answer::Page("consumers", "ConsumerView"),
    ),
    get(
        "/v1/consumers/{name}",
        "showConsumer",
        "consumers",
        "One consumer",
        &[],
        Answer::One("ConsumerView"),
    ),
    put(
        "/v1/consumers/{name}",
        "setConsumer",
        "consumers",
        "Makes a consumer, or makes it different",
        &[
            must("stream", Shape::Text, "The stream it reads."),
            may("from", Shape::From, "Where a new one begins; `latest` if nothing is said."),
            FILTER,
            ACK_WAIT,
            MAX_DELIVER,
            BACKOFF,
            MAX_ACK_PENDING,
            ORDER,
        ],
        Answer::One("ConsumerView"),
    ),
    patch(
        "/v1/consumers/{name}",
        "alterConsumer",
        "consumers",
        "Makes a consumer different; what is not named stays",
        &[
            FILTER,
            ACK_WAIT,
            MAX_DELIVER,
            BACKOFF,
            MAX_ACK_PENDING,
            ORDER,
            may("paused", Shape::Flag, "Whether it hands out nothing."),
        ],
        Answer::One("ConsumerView"),
    ),
    delete("/v1/consumers/{name}", "removeConsumer", "consumers", "Removes a consumer, and its dead letters"),
    post(
        "/v1/consumers/{name}/pause",
        "pauseConsumer",
        "consumers",
        "Has a consumer hand out nothing",
        &[],
        Answer::One("ConsumerView"),
    ),
    post(
        "/v1/consumers/{name}/resume",
        "resumeConsumer",
        "consumers",
        "Has a paused consumer go on",
        &[],
        Answer::One("ConsumerView"),
    ),
    post(
        "/v1/consumers/{name}/reset",
        "resetConsumer",
        "consumers",
        "Has a consumer begin anew elsewhere in its stream",
        &[must("to", Shape::From, "Where.")],
        Answer::One("ConsumerView"),
    ),
    get(
        "/v1/consumers/{name}/next",
        "nextEvents",
        "work",
        "Takes events; waits for the first of them",
        &[
            may("max", Shape::Integer, "How many at most, 1 to 1000; 100 if nothing is said."),
            may("wait", Shape::Duration, "How long to wait for the first, up to 1m."),
            may("worker", Shape::Text, "Who takes them; the address of the connection if nothing is said."),
        ],
        Answer::Page("events", "EventView"),
    ),
    post(
        "/v1/consumers/{name}/ack",
        "ackEvents",
        "work",
        "Says that events are done with",
        &[IDS],
        Answer::One("Settled"),
    ),
    post(
        "/v1/consumers/{name}/nak",
        "nakEvents",
        "work",
        "Says that the work on events failed, and is to be tried again",
        &[
            IDS,
            may(
                "delay",
                Shape::Duration,
                "Not before this has passed; the consumer's backoff if nothing is said.",
            ),
        ],
        Answer::One("Settled"),
    ),
    post(
        "/v1/consumers/{name}/reject",
        "rejectEvents",
        "work",
        "Says that events cannot be worked on: they become dead letters",
        &[
            IDS,
            may(
                "cause",
                Shape::OneOf(&["payload_format_invalid", "implementation_specific", "unspecified"]),
                "Why; `unspecified` if nothing is said.",
            ),
            may("note", Shape::Text, "A word for people."),
        ],
        Answer::One("Settled"),
    ),
    post(
        "/v1/consumers/{name}/extend",
        "extendLeases",
        "work",
        "Says that the work goes on",
        &[IDS],
        Answer::One("Settled"),
    ),
    get(
        "/v1/consumers/{name}/watch",
        "watchConsumer",
        "work",
        "Server-Sent Events `event` and `status`: looks on, takes nothing",
        &[
            may("from", Shape::Integer, "Begins with this offset rather than with what comes next."),
            may(
                "pace",
                Shape::Text,
                "Events in a second, \"1000/s\", or times as fast as they came, \"10x\".",
            ),
        ],
        Answer::Events,
    ),
    get(
        "/v1/dead-letters",
        "listDeadLetters",
        "dead letters",
        "Dead letters by consumer and offset",
        &[OF_CONSUMER, CAUSE, TOPIC, AFTER, LIMIT],
        Answer::Page("dead_letters", "LetterView"),
    ),
    get(
        "/v1/dead-letters/{consumer}/{offset}",
        "showDeadLetter",
        "dead letters",
        "One dead letter",
        &[],
        Answer::One("LetterView"),
    ),
    get(
        "/v1/dead-letters/export",
        "exportDeadLetters",
        "dead letters",
        "All of them, an object to a line",
        &[OF_CONSUMER, CAUSE, TOPIC],
        Answer::Lines,
    ),
    post(
        "/v1/dead-letters/redrive",
        "redriveDeadLetters",
        "dead letters",
        "Has dead letters delivered again to their consumer",
        &[
            CONSUMER,
            ALL_OF_THEM,
            OFFSETS,
            CAUSE,
            TOPIC,
            may("rate", Shape::Integer, "How many in a second; 100 if nothing is said."),
        ],
        Answer::Count("redriven"),
    ),
    post(
        "/v1/dead-letters/purge",
        "purgeDeadLetters",
        "dead letters",
        "Removes dead letters for good",
        &[CONSUMER, ALL_OF_THEM, OFFSETS, CAUSE, TOPIC],
        Answer::Count("purged"),
    ),
    get("/v1/sinks", "listSinks", "sinks", "Sinks by name", &[], Answer::Page("sinks", "SinkStatus")),
    get(
        "/v1/decisions",
        "listDecisions",
        "decisions",
        "What did not go through and why, newest first",
        &[
            may("client", Shape::Text, "Only of this Client Identifier."),
            may("reason", Shape::Text, "Only with this reason."),
            may("action", Shape::Text, "Only with this action."),
            may("since", Shape::Text, "Not older: an RFC 3339 time, or a time ago like \"-15m\"."),
            AFTER,
            LIMIT,
        ],
        Answer::Description,
    ),
    get(
        "/v1/decisions/watch",
        "watchDecisions",
        "decisions",
        "Server-Sent Events `decision`: the same as they are made",
        &[
            may("client", Shape::Text, "Only of this Client Identifier."),
            may("reason", Shape::Text, "Only with this reason."),
            may("action", Shape::Text, "Only with this action."),
            may("since", Shape::Text, "Not older: an RFC 3339 time, or a time ago like \"-15m\"."),
        ],
        Answer::Events,
    ),
];
