//! What may be asked of the gateway as a whole.

use super::{AFTER, Answer, LIMIT, Operation, Shape, delete, get, may, must, post, put};

pub(super) const ALL: &[Operation] = &[
    get("/v1/openapi.json", "describe", "gateway", "This description", &[], Answer::Description),
    get("/v1/status", "status", "gateway", "How the gateway is", &[], Answer::One("Status")),
    get(
        "/v1/live",
        "live",
        "gateway",
        "Server-Sent Events `second`: the figures of each second, for people to look at",
        &[],
        Answer::Events,
    ),
    post(
        "/v1/reload",
        "reload",
        "gateway",
        "Has the configuration read again, as HUP does: what can change at once does, what cannot is named",
        &[],
        Answer::One("Reloaded"),
    ),
    Operation {
        statuses: &[202],
        ..post(
            "/v1/drain",
            "drain",
            "gateway",
            "Has the gateway drain and its process end, as TERM does",
            &[may(
                "server_reference",
                Shape::Text,
                "Where clients of MQTT 5 are told to go instead (0x9C); without it they are told 0x8B.",
            )],
            Answer::Draining,
        )
    },
    get(
        "/v1/trace",
        "trace",
        "gateway",
        "Server-Sent Events `line`: what happens to a client, or on some topics, packet by packet as it happens",
        &[
            may("client", Shape::Text, "Of this Client Identifier. It, or `topic`, or both."),
            may("topic", Shape::Text, "Messages whose topics this Topic Filter matches."),
        ],
        Answer::Events,
    ),
    get(
        "/v1/topics",
        "listTopics",
        "gateway",
        "One level of the tree of topics with rates; they are counted while somebody asks, and for 30 s after",
        &[
            may("prefix", Shape::Text, "What to look below; the first level if nothing is said."),
            AFTER,
            LIMIT,
        ],
        Answer::One("TopicsView"),
    ),
    get("/v1/logging", "showLogging", "gateway", "What is logged", &[], Answer::One("Logging")),
    Operation {
        statuses: &[200],
        ..put(
            "/v1/logging",
            "setLogging",
            "gateway",
            "Has other things logged until they are set back, the configuration changes, or the process ends",
            &[must(
                "level",
                Shape::Text,
                "A level, or directives by module: \"info,gateway::connection=debug\".",
            )],
            Answer::One("Logging"),
        )
    },
    Operation {
        statuses: &[200],
        answer: Answer::One("Logging"),
        ..delete("/v1/logging", "resetLogging", "gateway", "Has logged again what the configuration says")
    },
    Operation {
        statuses: &[200],
        ..put(
            "/v1/logging/clients/{client_id}",
            "setClientLogging",
            "gateway",
            "Has one client logged, at most 16 at one time",
            &[must(
                "level",
                Shape::OneOf(&["off", "info", "debug", "trace"]),
                "`info`: connects, ends, and what did not go through; `debug`: messages, too; `trace`: every packet.",
            )],
            Answer::One("Logging"),
        )
    },
];
