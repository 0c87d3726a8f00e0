//! `/v1/clients`: connections and sessions by Client Identifier, and how connections ended.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use gateway_protocol::ReasonCode;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::Operations;
use crate::admin::problem::{Kind, Problem};
use crate::admin::v1::fields::{Fields, InBody, InQuery};
use crate::admin::v1::paths::{Named, limit};
use crate::clock::rfc_3339;
use crate::engine::DurableSession;
use crate::presence::{Past, Present};

/// Bytes of a Client Identifier.
const CLIENT_ID_MAX: usize = 65_535;

/// A client in a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(in crate::admin) struct ClientView {
    client_id: String,
    /// `connected`; `offline`: its session goes on without it; `gone`: nothing is kept of it but how its connections ended.
    state: &'static str,
    /// When its connection was accepted.
    connected_since: Option<String>,
    /// Where it is connected from.
    address: Option<String>,
    /// `5`, `3.1.1` or `3.1`.
    protocol: Option<&'static str>,
    /// Keep Alive in force; 0: none.
    keep_alive_secs: Option<u16>,
    /// `durable`: it outlives the connection; `connection`: it ends with it.
    session: Option<&'static str>,
    /// How long a durable session outlives its connection.
    session_expiry_secs: Option<u32>,
    /// Messages that a durable session has not acknowledged.
    pending: Option<u64>,
    /// How its last connection ended, where that is known.
    last_end: Option<EndView>,
}

/// One client.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(in crate::admin) struct ClientDetail {
    #[serde(flatten)]
    client: ClientView,
    /// Of a durable session; those of others are known to their connection alone.
    subscriptions: Vec<SubscriptionView>,
    pending_bytes: u64,
    /// How its last connections ended and which attempts were refused, the newest first.
    history: Vec<EndView>,
    /// Since when ends of connections are remembered: the start of the gateway.
    history_since: String,
}

/// A subscription of a durable session.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(in crate::admin) struct SubscriptionView {
    filter: String,
    qos: u8,
    no_local: bool,
}

/// How a connection ended, or several in a row for the same reason.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(in crate::admin) struct EndView {
    /// When; of several the last one.
    time: String,
    /// How many in a row.
    count: u32,
    /// When the first of them ended.
    first_time: String,
    /// When the last of them was accepted.
    connected_since: Option<String>,
    /// `ended`, or `refused` where it was not accepted.
    kind: &'static str,
    /// Who ended it: `client`, `network` or `gateway`.
    by: &'static str,
    /// Why, in one word.
    reason: &'static str,
    /// The MQTT 5 Reason Code, where there is one.
    reason_code: Option<u8>,
    /// What that means, for people.
    meaning: &'static str,
    /// Where the client was.
    address: Option<String>,
}

impl From<Past> for EndView {
    fn from(past: Past) -> Self {
        Self {
            time: rfc_3339(past.ended_ms),
            count: past.count,
            first_time: rfc_3339(past.first_ms),
            connected_since: (past.since_ms > 0).then(|| rfc_3339(past.since_ms)),
            kind: past.cause.kind(),
            by: past.cause.by(),
            reason: past.cause.reason(),
            reason_code: past.cause.reason_code(),
            meaning: past.cause.meaning(),
            address: past.address.get().map(|address| address.to_string()),
        }
    }
}

const fn protocol(version: u8) -> &'static str {
    match version {
        5 => "5",
        3 => "3.1",
        _ => "3.1.1",
    }
}

impl ClientView {
    fn of(
        client_id: &str,
        present: Option<Present>,
        session: Option<&DurableSession>,
        last_end: Option<Past>,
    ) -> Self {
        let (expiry, pending) = session
            .map(|session| session.state())
            .map_or((None, None), |state| (Some(state.expiry_secs), Some(state.backlog.pending())));
        Self {
            client_id: client_id.to_owned(),
            state: match (present, session) {
                (Some(_), _) => "connected",
                (None, Some(_)) => "offline",
                (None, None) => "gone",
            },
            connected_since: present.map(|present| rfc_3339(present.since_ms)),
            address: present.and_then(|present| present.address.get()).map(|address| address.to_string()),
            protocol: present.map(|present| protocol(present.version)),
            keep_alive_secs: present.map(|present| present.keep_alive_secs),
            session: match (present, session) {
                (_, Some(_)) => Some("durable"),
                (Some(_), None) => Some("connection"),
                (None, None) => None,
            },
            session_expiry_secs: expiry,
            pending,
            last_end: last_end.map(EndView::from),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Connected,
    Offline,
    Gone,
    /// Connected or with a session.
    Current,
    All,
}

const WHICH: [(&str, Which); 5] = [
    ("connected", Which::Connected),
    ("offline", Which::Offline),
    ("gone", Which::Gone),
    ("current", Which::Current),
    ("all", Which::All),
];

struct Query {
    search: Option<String>,
    which: Which,
    after: Option<String>,
    limit: usize,
}

impl Query {
    fn read(mut fields: Fields) -> Result<Self, Problem> {
        let search = fields.text("search", 1..=CLIENT_ID_MAX);
        let which = fields.choice("state", &WHICH).unwrap_or(Which::Current);
        let after = fields.text("after", 0..=CLIENT_ID_MAX);
        let limit = limit(&mut fields);
        fields.finish()?;
        Ok(Self { search: search.map(|text| text.to_lowercase()), which, after, limit })
    }

    fn wants(&self, client_id: &str) -> bool {
        let after = self.after.as_deref().is_none_or(|after| client_id > after);
        let found = |search: &String| client_id.to_lowercase().contains(search.as_str());
        after && self.search.as_ref().is_none_or(found)
    }
}

pub(super) async fn list(
    State(operations): State<Operations>,
    InQuery(fields): InQuery,
) -> Result<Response, Problem> {
    let query = Query::read(fields)?;
    // There may be a great many to look at.
    let (clients, next) = tokio::task::spawn_blocking(move || page(&operations, &query))
        .await
        .map_err(|_| Problem::new(Kind::Internal, "the list was cut short"))?;
    Ok(Json(json!({ "clients": clients, "next": next })).into_response())
}

fn page(operations: &Operations, query: &Query) -> (Vec<ClientView>, Option<String>) {
    let context = &operations.context;
    // One more than is wanted: then there is another page.
    let room = query.limit + 1;
    let mut found: BTreeMap<Box<str>, Option<Present>> = BTreeMap::new();
    let add = |found: &mut BTreeMap<Box<str>, Option<Present>>, client_id: &str, present| {
        found.entry(client_id.into()).or_insert(present);
        if found.len() > room {
            found.pop_last();
        }
    };
    if matches!(query.which, Which::Connected | Which::Current | Which::All) {
        for (client_id, present) in
            context.presence.page(query.after.as_deref(), room, |client_id| query.wants(client_id))
        {
            add(&mut found, &client_id, Some(present));
        }
    }
    if matches!(query.which, Which::Offline | Which::Current | Which::All) {
        for session in context.engine.sessions() {
            if query.wants(&session.client_id) && context.presence.get(&session.client_id).is_none() {
                add(&mut found, &session.client_id, None);
            }
        }
    }
    if matches!(query.which, Which::Gone | Which::All) {
        for client_id in context.presence.known(query.after.as_deref(), |client_id| query.wants(client_id)) {
            if context.presence.get(&client_id).is_none() && context.engine.session(&client_id).is_none() {
                add(&mut found, &client_id, None);
            }
        }
    }
    let more = found.len() > query.limit;
    let view = |(client_id, present): (Box<str>, Option<Present>)| {
        let session = context.engine.session(&client_id);
        let last_end = context.presence.history(&client_id).first().copied();
        ClientView::of(&client_id, present, session.as_deref(), last_end)
    };
    let clients: Vec<_> = found.into_iter().take(query.limit).map(view).collect();
    let next = clients.last().filter(|_| more).map(|last| last.client_id.clone());
    (clients, next)
}

pub(super) async fn show(
    State(operations): State<Operations>,
    Named(client_id): Named,
    InQuery(fields): InQuery,
) -> Result<Response, Problem> {
    fields.finish()?;
    let context = &operations.context;
    let present = context.presence.get(&client_id);
    let session = context.engine.session(&client_id);
    let history = context.presence.history(&client_id);
    if present.is_none() && session.is_none() && history.is_empty() {
        return Err(no_such_client(&client_id));
    }
    let (subscriptions, pending_bytes) = session.as_deref().map_or((Vec::new(), 0), |session| {
        let state = session.state();
        let subscriptions = state.subscriptions.iter().map(|(filter, grant)| SubscriptionView {
            filter: filter.to_string(),
            qos: grant.qos as u8,
            no_local: grant.no_local,
        });
        (subscriptions.collect(), state.backlog.pending_bytes())
    });
    let detail = ClientDetail {
        client: ClientView::of(&client_id, present, session.as_deref(), history.first().copied()),
        subscriptions,
        pending_bytes,
        history: history.into_iter().map(EndView::from).collect(),
        history_since: rfc_3339(crate::clock::started_unix_ms()),
    };
    Ok(Json(detail).into_response())
}

/// Asks its connection to close. It closes within moments; its session stays.
pub(super) async fn kick(
    State(operations): State<Operations>,
    Named(client_id): Named,
    InBody(fields): InBody,
) -> Result<Response, Problem> {
    fields.finish()?;
    let seat = operations.context.presence.seat(&client_id).ok_or_else(|| {
        let detail = format!("no client named \"{client_id}\" is connected");
        Problem::new(Kind::NoSuchClient, detail)
    })?;
    seat.ask_to_close(ReasonCode::AdministrativeAction);
    tracing::info!(%client_id, "kicked by an operator");
    Ok(Json(json!({ "kicked": client_id })).into_response())
}

fn no_such_client(client_id: &str) -> Problem {
    let detail = format!(
        "no client named \"{client_id}\" is connected, has a session, or was here since the gateway started"
    );
    Problem::new(Kind::NoSuchClient, detail)
}
