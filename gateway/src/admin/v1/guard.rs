//! What a browser can be talked into, and is refused.
//!
//! The admin listener has no authentication: who reaches it may use it. A web page of somebody else's must not, so a request is refused
//! if it says that it comes from another site, if it is addressed to a name (which a foreign page can have pointed at this address: DNS
//! rebinding), or if it would change something without being declared as JSON (which a page cannot do without asking first, and is
//! never allowed to). Programs send none of these headers; they address the gateway by its address or as `localhost`.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::admin::problem::{Kind, Problem};

const SEC_FETCH_SITE: &str = "sec-fetch-site";

pub(super) async fn guard(request: Request, next: Next) -> Response {
    match check(request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn check(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let host = match headers.get(header::HOST) {
        None => None,
        Some(host) => {
            let host = host.to_str().ok().filter(|host| is_address(host));
            Some(host.ok_or_else(|| foreign("Host has to be the gateway's address or localhost"))?)
        }
    };
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
        if origin.is_none() || origin != host {
            return Err(foreign("Origin is not the gateway itself"));
        }
    }
    if let Some(site) = headers.get(SEC_FETCH_SITE)
        && site != "same-origin"
        && site != "none"
    {
        return Err(foreign("Sec-Fetch-Site says that another site asks"));
    }
    if matches!(*method, Method::POST | Method::PUT | Method::PATCH) && !is_json(headers) {
        return Err(Problem::new(
            Kind::NotJson,
            format!("{method} needs the header Content-Type: application/json, with and without a body"),
        ));
    }
    Ok(())
}

fn foreign(detail: &str) -> Problem {
    Problem::new(Kind::Foreign, detail)
}

/// Whether a Host is an IP address or `localhost`, with or without a port.
fn is_address(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => match v6.split_once(']') {
            Some((name, port)) if port.is_empty() || is_port(port) => name,
            _ => return false,
        },
        None => match host.find(':') {
            Some(at) if is_port(host.get(at..).unwrap_or_default()) => host.get(..at).unwrap_or_default(),
            Some(_) => return false,
            None => host,
        },
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(method: Method, headers: &[(&'static str, &'static str)]) -> Option<Kind> {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        check(&method, &headers.collect()).err().map(|problem| problem.kind)
    }

    #[test]
    fn programs_and_the_gateways_own_pages_may() {
        for host in ["127.0.0.1:9464", "localhost", "LOCALHOST:1", "[::1]:9464", "[::1]", "10.1.2.3:9464"] {
            assert_eq!(verdict(Method::GET, &[("host", host)]), None, "{host}");
        }
        assert_eq!(verdict(Method::GET, &[]), None);
        let own = [
            ("host", "127.0.0.1:9464"),
            ("origin", "http://127.0.0.1:9464"),
            ("sec-fetch-site", "same-origin"),
            ("content-type", "Application/JSON; charset=utf-8"),
        ];
        assert_eq!(verdict(Method::POST, &own), None);
        assert_eq!(verdict(Method::GET, &[("sec-fetch-site", "none")]), None, "typed by a person");
        assert_eq!(verdict(Method::DELETE, &[("host", "127.0.0.1")]), None);
    }

    #[test]
    fn a_name_that_somebody_pointed_here_is_refused() {
        for host in
            ["gateway.example", "localhost.example:9464", "127.0.0.1.example", "127.0.0.1:x", "[::1", ""]
        {
            assert_eq!(verdict(Method::GET, &[("host", host)]), Some(Kind::Foreign), "{host}");
        }
    }

    #[test]
    fn a_page_of_another_site_is_refused_whatever_it_asks() {
        let host = ("host", "127.0.0.1:9464");
        for origin in ["https://evil.example", "null", "http://127.0.0.1:8000", "https://127.0.0.1:9464"] {
            assert_eq!(verdict(Method::GET, &[host, ("origin", origin)]), Some(Kind::Foreign), "{origin}");
        }
        assert_eq!(verdict(Method::POST, &[("origin", "http://127.0.0.1:9464")]), Some(Kind::Foreign));
        for site in ["cross-site", "same-site", "?"] {
            assert_eq!(
                verdict(Method::GET, &[host, ("sec-fetch-site", site)]),
                Some(Kind::Foreign),
                "{site}"
            );
        }
    }

    #[test]
    fn what_changes_something_is_declared_as_json() {
        for method in [Method::POST, Method::PUT, Method::PATCH] {
            assert_eq!(verdict(method.clone(), &[]), Some(Kind::NotJson));
            for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"] {
                let headers = [("content-type", kind)];
                assert_eq!(verdict(method.clone(), &headers), Some(Kind::NotJson), "{method} {kind}");
            }
        }
    }
}
