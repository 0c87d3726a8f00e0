//! `/v1/logging`: what is logged, changed while it runs: by module, and by client.
//!
//! What is set here holds until it is set back, the configuration changes it, or the process ends. The lines of a client are those of a trace,
//! written into the log: its level says how much of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::task::AbortHandle;
use tracing::{debug, info, trace, warn};
use utoipa::ToSchema;

use super::Operations;
use crate::admin::problem::{Kind, Problem};
use crate::admin::v1::fields::{InBody, InQuery};
use crate::admin::v1::paths::Named;
use crate::config::check_log_level;
use crate::lens::{Direction, Following, Importance, Line, Seen, Wanted};
use crate::telemetry::{CLIENT_TARGET, LogLevel};

/// Clients that are logged one by one.
const CLIENTS_MAX: usize = 16;
/// Bytes of directives.
const DIRECTIVES_MAX: usize = 4_096;
/// Lines written together.
const TOGETHER: usize = 64;

/// How much of a client is logged.
const LEVELS: [(&str, Option<Importance>); 4] = [
    ("off", None),
    ("info", Some(Importance::High)),
    ("debug", Some(Importance::Middle)),
    ("trace", Some(Importance::Low)),
];

/// Clients that are logged one by one: their level, and who writes the lines.
#[derive(Debug, Default)]
pub(super) struct ClientLogs(Mutex<BTreeMap<String, (&'static str, AbortHandle)>>);

impl ClientLogs {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (&'static str, AbortHandle)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is logged.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(in crate::admin) struct Logging {
    /// The level in force, or directives by module.
    level: String,
    /// The configured one.
    configured: String,
    /// Clients that are logged one by one, and how much of them.
    clients: BTreeMap<String, &'static str>,
}

fn logging(operations: &Operations, level: &LogLevel) -> Logging {
    let directives = level.directives();
    let clients = operations.client_logs.lock();
    Logging {
        level: directives.in_force().to_owned(),
        configured: directives.configured,
        clients: clients.iter().map(|(client, (level, _))| (client.clone(), *level)).collect(),
    }
}

fn log_level(operations: &Operations) -> Result<&LogLevel, Problem> {
    operations.controls.log_level().ok_or_else(|| {
        Problem::new(Kind::Conflict, "this gateway runs inside another program, which says what is logged")
    })
}

pub(super) async fn show(
    State(operations): State<Operations>,
    InQuery(fields): InQuery,
) -> Result<Response, Problem> {
    fields.finish()?;
    Ok(Json(logging(&operations, log_level(&operations)?)).into_response())
}

pub(super) async fn set(
    State(operations): State<Operations>,
    InBody(mut fields): InBody,
) -> Result<Response, Problem> {
    let directives = fields.text("level", 1..=DIRECTIVES_MAX);
    let directives = fields.required("level", directives);
    if let Some(Err(wrong)) = directives.as_deref().map(check_log_level) {
        fields.fault("level", wrong);
    }
    let directives = fields.finish_with(directives)?;
    change(&operations, Some(&directives))
}

/// The configured level holds again.
pub(super) async fn reset(State(operations): State<Operations>) -> Result<Response, Problem> {
    change(&operations, None)
}

fn change(operations: &Operations, directives: Option<&str>) -> Result<Response, Problem> {
    let level = log_level(operations)?;
    level.set_instead(directives).map_err(|error| Problem::new(Kind::Internal, error.to_string()))?;
    let logging = logging(operations, level);
    info!(level = logging.level, "the log level was changed by an operator");
    Ok(Json(logging).into_response())
}

pub(super) async fn set_client(
    State(operations): State<Operations>,
    Named(client_id): Named,
    InBody(mut fields): InBody,
) -> Result<Response, Problem> {
    let names = LEVELS.map(|(name, importance)| (name, (name, importance)));
    let chosen = fields.choice("level", &names);
    let chosen = fields.required("level", chosen);
    let (name, importance) = fields.finish_with(chosen)?;
    let level = log_level(&operations)?;
    {
        let mut clients = operations.client_logs.lock();
        if let Some(importance) = importance {
            if clients.len() >= CLIENTS_MAX && !clients.contains_key(&client_id) {
                let detail = format!("{CLIENTS_MAX} clients are logged one by one already");
                return Err(Problem::new(Kind::LimitReached, detail));
            }
            let wanted = Wanted { client: Some(client_id.as_str().into()), filter: None };
            let following = operations.context.lens.follow(wanted);
            let following = following.map_err(|error| Problem::new(Kind::Busy, error.to_string()))?;
            let writer = tokio::spawn(write(following, importance)).abort_handle();
            if let Some((_, before)) = clients.insert(client_id.clone(), (name, writer)) {
                before.abort();
            }
        } else if let Some((_, before)) = clients.remove(&client_id) {
            before.abort();
        }
        level
            .with_clients(!clients.is_empty())
            .map_err(|error| Problem::new(Kind::Internal, error.to_string()))?;
    }
    info!(%client_id, level = name, "the log level of a client was changed by an operator");
    Ok(Json(logging(&operations, level)).into_response())
}

async fn write(mut following: Following, least: Importance) {
    loop {
        let Seen { missed, lines } = following.next(TOGETHER).await;
        for line in lines.iter().filter(|line| line.importance() <= least) {
            write_line(line);
        }
        if missed > 0 {
            let client_id = following.wanted().client.as_deref().unwrap_or_default();
            warn!(target: CLIENT_TARGET, client_id, missed, "lines of a client came faster than they are logged");
        }
    }
}

fn write_line(line: &Line) {
    let Line { client, packet, id, qos, topic, bytes, outcome, reason, offset, subscribers, .. } = line;
    let direction = match line.direction {
        Direction::In => "in",
        Direction::Out => "out",
        Direction::Log => "log",
        Direction::Connection => "connection",
    };
    macro_rules! at {
        ($level:ident) => {
            $level!(
                target: CLIENT_TARGET, client_id = &**client, direction, id, qos, topic = topic.as_deref(), bytes,
                outcome, reason = reason.as_deref(), offset, subscribers, "{packet}"
            )
        };
    }
    match line.importance() {
        Importance::High => at!(info),
        Importance::Middle => at!(debug),
        Importance::Low => at!(trace),
    }
}
