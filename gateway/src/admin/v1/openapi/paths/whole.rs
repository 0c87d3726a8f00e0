//! What may be asked of the gateway as a whole.

use super::{Answer, Operation, Shape, get, may, post};

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
];
