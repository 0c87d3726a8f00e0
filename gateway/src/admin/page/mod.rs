//! The live page at `/`: what an operator looks at. A few files of this binary's own, fed by the API under `/v1`.
//!
//! It loads nothing from elsewhere and may not: its Content-Security-Policy allows its own scripts, styles and requests, nothing inline, no
//! frame around it. It is as open as the API: whoever reaches the admin listener sees it.

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    // A page of another version would ask for what this one does not have.
    (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
];

pub(super) fn router() -> Router {
    const HTML: &str = "text/html; charset=utf-8";
    const CSS: &str = "text/css; charset=utf-8";
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    Router::new()
        .route("/", get(async || page(HTML, include_str!("index.html"))))
        .route("/page.css", get(async || page(CSS, include_str!("page.css"))))
        .route("/plot.js", get(async || page(SCRIPT, include_str!("plot.js"))))
        .route("/topics.js", get(async || page(SCRIPT, include_str!("topics.js"))))
        .route("/page.js", get(async || page(SCRIPT, include_str!("page.js"))))
}

fn page(kind: &'static str, text: &'static str) -> Response {
    (HEADERS, [(header::CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response()
}
