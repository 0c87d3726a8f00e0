//! What is answered when something is not done: a problem document ([RFC 9457]).
//!
//! The kinds are a closed list, and each has one status. Programs go by `type`; `detail` and `faults` are for people.
//!
//! [RFC 9457]: https://www.rfc-editor.org/rfc/rfc9457

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
/// How long to wait before a repetition, for those problems that pass by themselves.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");
/// Faults listed in one document.
const FAULTS_MAX: usize = 32;

/// Every way in which a request can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing is at this path.
    NotFound,
    /// Something is, but not for this method.
    MethodNotAllowed,
    /// The gateway has no stream of this name.
    NoSuchStream,
    /// The gateway has no consumer of this name.
    NoSuchConsumer,
    /// The consumer has no such dead letter.
    NoSuchDeadLetter,
    /// No client of this Client Identifier is known.
    NoSuchClient,
    /// Query or body do not say what they should; `faults` lists everything that is wrong.
    Invalid,
    /// The body is larger than is taken.
    TooLarge,
    /// A request that changes something is not declared as JSON.
    NotJson,
    /// It comes from a web page of somebody else's, or to a name that is not this gateway's.
    Foreign,
    /// It contradicts what is there: the configuration file's own consumer, a stream in use.
    Conflict,
    /// As many as there may be are there already.
    LimitReached,
    /// Too many of these are under way; later.
    Busy,
    /// The log takes nothing now, so nothing was changed.
    NotStored,
    /// The configuration that was to be read has faults.
    ConfigInvalid,
    /// The gateway is being stopped.
    Stopping,
    /// A fault of the gateway.
    Internal,
}

impl Kind {
    const fn status(self) -> StatusCode {
        match self {
            Self::NotFound
            | Self::NoSuchStream
            | Self::NoSuchConsumer
            | Self::NoSuchDeadLetter
            | Self::NoSuchClient => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Foreign => StatusCode::FORBIDDEN,
            Self::Conflict | Self::LimitReached | Self::ConfigInvalid => StatusCode::CONFLICT,
            Self::Busy | Self::NotStored | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// As in `type`, and as the label of the counter.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::NoSuchStream => "no-such-stream",
            Self::NoSuchConsumer => "no-such-consumer",
            Self::NoSuchDeadLetter => "no-such-dead-letter",
            Self::NoSuchClient => "no-such-client",
            Self::Invalid => "invalid",
            Self::TooLarge => "too-large",
            Self::NotJson => "not-json",
            Self::Foreign => "foreign",
            Self::Conflict => "conflict",
            Self::LimitReached => "limit-reached",
            Self::Busy => "busy",
            Self::NotStored => "not-stored",
            Self::ConfigInvalid => "config-invalid",
            Self::Stopping => "stopping",
            Self::Internal => "internal",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::NotFound => "Nothing is here",
            Self::MethodNotAllowed => "Not by this method",
            Self::NoSuchStream => "No such stream",
            Self::NoSuchConsumer => "No such consumer",
            Self::NoSuchDeadLetter => "No such dead letter",
            Self::NoSuchClient => "No such client",
            Self::Invalid => "The request is not valid",
            Self::TooLarge => "The body is too large",
            Self::NotJson => "Content-Type has to be application/json",
            Self::Foreign => "Not from here",
            Self::Conflict => "Not as things are",
            Self::LimitReached => "No more of these",
            Self::Busy => "Too many at once",
            Self::NotStored => "The log takes nothing now",
            Self::ConfigInvalid => "The configuration has faults",
            Self::Stopping => "The gateway is being stopped",
            Self::Internal => "The gateway failed",
        }
    }
}

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Fault {
    /// The key of the body or of the query.
    pub(super) at: String,
    /// What is wrong with it, and what would be right.
    pub(super) detail: String,
}

/// A request that was not done, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) kind: Kind,
    pub(super) detail: String,
    pub(super) faults: Vec<Fault>,
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), faults: Vec::new() }
    }

    /// All that is wrong with a request; a hostile one does not get an answer as long as itself.
    pub(super) fn invalid(mut faults: Vec<Fault>) -> Self {
        let detail = match faults.len() {
            1 => "1 fault; nothing was changed".to_owned(),
            count => format!("{count} faults; nothing was changed"),
        };
        faults.truncate(FAULTS_MAX);
        Self { kind: Kind::Invalid, detail, faults }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct Document {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    faults: Vec<Fault>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        super::metrics::refused(self.kind.name());
        let status = self.kind.status();
        let mut response = Json(Document {
            r#type: format!("urn:gateway:problem:{}", self.kind.name()),
            title: self.kind.title(),
            status: status.as_u16(),
            detail: self.detail,
            faults: self.faults,
        })
        .into_response();
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, PROBLEM_JSON);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}
