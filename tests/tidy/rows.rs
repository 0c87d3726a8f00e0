//! Which room may import which, which library is named where, and what pure code may not name.

/// The rows of a crate and the rooms in each. Imports go down only; neighbours in a row never import each other.
pub(crate) type Rows = &'static [(&'static str, &'static [&'static str])];

/// Where a crate's code is, and its rows.
pub(crate) const CRATES: [(&str, Rows); 2] = [("gateway/src/", GATEWAY), ("device-sim/src/", DEVICE_SIM)];

const GATEWAY: Rows = &[
    ("1", &["config", "telemetry", "clock", "tasks", "pool", "decisions", "http_client"]),
    ("2", &["auth", "admission", "event_view", "lens", "router", "spans"]),
    ("3", &["engine"]),
    ("4", &["registry", "sys_topics", "ingest", "delivery", "stream"]),
    ("4½", &["consumer", "presence"]),
    ("5", &["connection", "sinks"]),
    ("6", &["listener", "admin"]),
    ("7", &["app"]),
    ("8", &["cli", "reload", "service"]),
    ("9", &["main"]),
];

const DEVICE_SIM: Rows = &[
    ("1", &["capture", "class", "command", "curve", "fleets", "process", "qos", "random"]),
    ("2", &["envelope", "ledger", "model", "stop"]),
    ("3", &["payload"]),
    ("4", &["scenario"]),
    ("5", &["mqtt", "network", "plan", "schedule"]),
    ("6", &["roster", "timeline"]),
    ("7", &["host", "shared"]),
    ("8", &["edge", "fleet", "metrics", "report", "subscriber"]),
    ("9", &["admin", "gates", "lean", "live"]),
    ("10", &["workers"]),
    ("11", &["run"]),
    ("12", &["rated"]),
    ("13", &["bench", "demo", "record", "replay"]),
    ("14", &["cli"]),
    ("15", &["main"]),
];

/// Libraries that may be named behind one door only: the crate's name as imported, and the paths that may.
pub(crate) const DOORS: [(&str, &[&str]); 19] = [
    ("anyhow", &["gateway/src/main.rs", "device-sim/src/main.rs"]),
    ("axum", &["gateway/src/admin/"]),
    ("clap", &["gateway/src/main.rs", "gateway/src/cli/", "device-sim/src/"]),
    ("clap_complete", &["gateway/src/cli/"]),
    ("clap_mangen", &["gateway/src/cli/"]),
    (
        "hyper",
        &[
            "gateway/src/admin/",
            "gateway/src/config/sinks.rs",
            "gateway/src/config/telemetry.rs",
            "gateway/src/http_client.rs",
            "gateway/src/sinks/webhook/",
            "gateway/src/spans/export.rs",
        ],
    ),
    ("hyper_rustls", &["gateway/src/http_client.rs"]),
    ("hyper_util", &["gateway/src/admin/", "gateway/src/http_client.rs"]),
    ("prost", &["gateway/src/spans/", "device-sim/", "tests/end_to_end/traces.rs"]),
    ("prost_reflect", &["device-sim/src/payload/protobuf.rs", "device-sim/tests/payloads.rs"]),
    ("ring", &["gateway/src/sinks/webhook/", "gateway/src/sinks/postgres/tls.rs"]),
    ("rumqttd", &["device-sim/src/edge/broker.rs"]),
    (
        "rustls",
        &["gateway/src/listener/tls", "gateway/src/http_client.rs", "gateway/src/sinks/postgres/tls.rs"],
    ),
    ("sled", &["gateway/storage/"]),
    ("tokio_postgres", &["gateway/src/sinks/postgres/", "gateway/src/config/"]),
    ("tokio_postgres_rustls", &["gateway/src/sinks/postgres/"]),
    ("tokio_rustls", &["gateway/src/listener/tls"]),
    ("ureq", &["gateway/src/cli/"]),
    ("utoipa", &["gateway/src/admin/", "gateway/src/event_view.rs"]),
];

/// What code under a path may not name: a run of path segments, wherever in a path it stands.
pub(crate) const FORBIDDEN: [(&str, &[&str]); 5] = [
    (
        "gateway/protocol/src/",
        &["std::net", "std::fs", "std::thread", "std::process", "SystemTime", "Instant::now"],
    ),
    ("gateway/storage/src/", &["std::net", "gateway_protocol"]),
    ("gateway/src/auth", &["tokio", "std::net", "std::fs", "std::thread", "Instant::now", "SystemTime"]),
    ("gateway/src/admission", &["tokio", "std::net", "std::fs", "std::thread", "Instant::now", "SystemTime"]),
    ("gateway/src/router", &["tokio", "std::net", "std::fs", "std::thread", "Instant::now", "SystemTime"]),
];
