//! Names in paths, and pages of lists.

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use serde::Serialize;

use super::fields::Fields;
use crate::admin::problem::{Fault, Kind, Problem};

/// Items of one page.
pub(super) const PAGE_MAX: u64 = 1000;
const PAGE_DEFAULT: u64 = 100;

/// The name of a stream or of a consumer, as it stands in the path.
pub(super) struct Named(pub(super) String);
/// A consumer and an offset.
pub(super) struct NamedAt(pub(super) String, pub(super) u64);

impl<S: Sync + Send> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(name) = Path::<String>::from_request_parts(parts, state).await.map_err(no_name)?;
        Ok(Self(name))
    }
}

impl<S: Sync + Send> FromRequestParts<S> for NamedAt {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<(String, u64)>::from_request_parts(parts, state).await;
        let Path((name, offset)) = path.map_err(no_name)?;
        Ok(Self(name, offset))
    }
}

fn no_name(rejection: PathRejection) -> Problem {
    Problem::invalid(vec![Fault { at: "path".to_owned(), detail: rejection.body_text() }])
}

/// Whether something new may be called so.
pub(super) fn is_name(text: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(valid)
}

/// Refuses a name that nothing new may have.
pub(super) fn check_name(fields: &mut Fields, name: &str) {
    if !is_name(name) {
        fields.fault("name", "a name is 1 to 64 of a-z, 0-9, - and _");
    }
}

pub(super) fn no_such_stream(name: &str) -> Problem {
    Problem::new(Kind::NoSuchStream, format!("there is no stream named \"{name}\""))
}

pub(super) fn no_such_consumer(name: &str) -> Problem {
    Problem::new(Kind::NoSuchConsumer, format!("there is no consumer named \"{name}\""))
}

/// How many items a page may have.
pub(super) fn limit(fields: &mut Fields) -> usize {
    let limit = fields.integer("limit", 1..=PAGE_MAX).unwrap_or(PAGE_DEFAULT);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Which part of a list of names is wanted: those after a name, so many at most.
pub(super) struct PageOf {
    after: Option<String>,
    limit: usize,
}

impl PageOf {
    pub(super) fn read(mut fields: Fields) -> Result<Self, Problem> {
        let after = fields.text("after", 0..=256);
        let limit = limit(&mut fields);
        fields.finish()?;
        Ok(Self { after, limit })
    }

    /// That part of `all`, which are in the order of their names, and what to say as `after` for the next.
    pub(super) fn cut<T: Serialize>(
        self,
        mut all: Vec<T>,
        name: impl Fn(&T) -> &str,
    ) -> (Vec<T>, Option<String>) {
        if let Some(after) = &self.after {
            all.retain(|item| name(item) > after.as_str());
        }
        let more = all.len() > self.limit;
        all.truncate(self.limit);
        let next = all.last().filter(|_| more).map(|last| name(last).to_owned());
        (all, next)
    }
}
