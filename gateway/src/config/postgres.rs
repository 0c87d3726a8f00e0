//! Where a database is, who connects, and what of the connection is protected: the URL of a sink of `type = "postgres"`.
//!
//! `sslmode` and `sslrootcert` mean here what they say, and forms that protect less than they seem to are refused: `prefer` and `allow` go on in
//! the clear when somebody in the middle wishes so, and `verify-ca` takes any certificate of the authority for the database's.

use super::fault::FaultKind;
use super::reader::Refusal;
use std::path::PathBuf;
use std::time::Duration;

/// What of a connection to a database is protected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PostgresTls {
    /// Nothing: no TLS.
    #[default]
    Disable,
    /// It is encrypted. Who answers is not known: nothing is said of whose certificate it is.
    Require,
    /// It is encrypted, and who answers has a certificate for the host's name from an authority in this PEM file, or one that this
    /// machine trusts.
    VerifyFull {
        /// The file; `None`: the machine's.
        ca_file: Option<PathBuf>,
    },
}

/// Reads a URL, or `key=value` pairs.
pub(super) fn parse(text: &str) -> Result<(tokio_postgres::Config, PostgresTls), Refusal> {
    let invalid = |message: String| Refusal::new(FaultKind::Invalid, message);
    let (rest, mode, root) = match text.starts_with("postgresql://") || text.starts_with("postgres://") {
        true => of_url(text),
        false => of_pairs(text),
    };
    let tls = match (mode.as_deref(), root) {
        (None | Some("disable"), None) => PostgresTls::Disable,
        (Some("require"), None) => PostgresTls::Require,
        (Some("verify-full"), root) => {
            PostgresTls::VerifyFull { ca_file: root.filter(|root| root != "system").map(PathBuf::from) }
        }
        (Some("disable" | "require") | None, Some(_)) => {
            return Err(invalid("has an sslrootcert, which goes with sslmode=verify-full alone".to_owned()));
        }
        (Some(mode), _) => {
            return Err(invalid(format!(
                "has sslmode={mode}, which protects less than it seems to: say disable, require or verify-full"
            )));
        }
    };
    let mut config: tokio_postgres::Config =
        rest.parse().map_err(|error: tokio_postgres::Error| invalid(error.to_string()))?;
    if config.get_hosts().is_empty() {
        return Err(invalid("names no host".to_owned()));
    }
    config.ssl_mode(match tls {
        PostgresTls::Disable => tokio_postgres::config::SslMode::Disable,
        PostgresTls::Require | PostgresTls::VerifyFull { .. } => tokio_postgres::config::SslMode::Require,
    });
    // A host that swallows packets is not waited for as long as the kernel would.
    config.connect_timeout(Duration::from_secs(5)).application_name("mqtt-gateway");
    config.keepalives_idle(Duration::from_secs(10)).tcp_user_timeout(Duration::from_secs(20));
    Ok((config, tls))
}

/// A URL without `sslmode` and `sslrootcert`, and those two.
fn of_url(text: &str) -> (String, Option<String>, Option<String>) {
    let Some((url, query)) = text.split_once('?') else { return (text.to_owned(), None, None) };
    let (mut mode, mut root) = (None, None);
    let is_other = |pair: &&str| match pair.split_once('=') {
        Some(("sslmode", value)) => {
            mode = Some(decoded(value));
            false
        }
        Some(("sslrootcert", value)) => {
            root = Some(decoded(value));
            false
        }
        _ => true,
    };
    let others: Vec<&str> = query.split('&').filter(is_other).collect();
    let rest = if others.is_empty() { url.to_owned() } else { format!("{url}?{}", others.join("&")) };
    (rest, mode, root)
}

/// `%2F` is `/`. What is no such form stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        match after.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(b'%');
                rest = after;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Pairs without `sslmode` and `sslrootcert`, and those two. Values may stand in single quotes, with a backslash before what is meant as it is.
fn of_pairs(text: &str) -> (String, Option<String>, Option<String>) {
    let (mut mode, mut root, mut others) = (None, None, Vec::new());
    let mut letters = text.chars().peekable();
    loop {
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        let (mut raw, mut plain, mut is_quoted) = (String::new(), String::new(), false);
        while let Some(letter) = letters.next_if(|letter| is_quoted || !letter.is_whitespace()) {
            raw.push(letter);
            match letter {
                '\'' => is_quoted = !is_quoted,
                '\\' => {
                    if let Some(meant) = letters.next() {
                        raw.push(meant);
                        plain.push(meant);
                    }
                }
                letter => plain.push(letter),
            }
        }
        match plain.split_once('=') {
            _ if raw.is_empty() => break,
            Some(("sslmode", value)) => mode = Some(value.to_owned()),
            Some(("sslrootcert", value)) => root = Some(value.to_owned()),
            _ => others.push(raw),
        }
    }
    (others.join(" "), mode, root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_postgres::config::{Host, SslMode};

    fn full(ca_file: Option<&str>) -> PostgresTls {
        PostgresTls::VerifyFull { ca_file: ca_file.map(PathBuf::from) }
    }

    #[test]
    fn what_is_protected_is_said_in_both_forms() {
        for (text, tls) in [
            ("postgresql://u:p%40@db/x", PostgresTls::Disable),
            ("postgresql://u:p%40@db/x?sslmode=disable", PostgresTls::Disable),
            ("postgres://u:p%40@db/x?sslmode=require&connect_timeout=2", PostgresTls::Require),
            ("postgresql://u:p%40@db/x?sslmode=verify-full", full(None)),
            ("postgresql://u:p%40@db/x?sslmode=verify-full&sslrootcert=system", full(None)),
            (
                "postgresql://u:p%40@db/x?sslrootcert=%2Fetc%2Fa b%25.pem&sslmode=verify-full",
                full(Some("/etc/a b%.pem")),
            ),
            ("host=db user=u password=p@ dbname=x", PostgresTls::Disable),
            ("host=db  sslmode=require user=u password='p@' dbname=x", PostgresTls::Require),
            (
                r"sslmode='verify-full' host=db user=u password=p@ dbname=x sslrootcert='/etc/it\'s a.pem'",
                full(Some("/etc/it's a.pem")),
            ),
        ] {
            let (config, found) = parse(text).unwrap_or_else(|_| panic!("{text}"));
            assert_eq!(found, tls, "{text}");
            assert_eq!(config.get_hosts(), [Host::Tcp("db".into())], "{text}");
            let who = (config.get_user(), config.get_password(), config.get_dbname());
            assert_eq!(who, (Some("u"), Some(&b"p@"[..]), Some("x")), "{text}");
            let mode = if tls == PostgresTls::Disable { SslMode::Disable } else { SslMode::Require };
            assert_eq!(config.get_ssl_mode(), mode, "{text}");
        }
    }

    #[test]
    fn what_protects_less_than_it_seems_to_is_refused() {
        for text in [
            "postgresql://db/x?sslmode=prefer",
            "postgresql://db/x?sslmode=allow",
            "postgresql://db/x?sslmode=verify-ca&sslrootcert=/a.pem",
            "postgresql://db/x?sslmode=require&sslrootcert=/a.pem",
            "postgresql://db/x?sslrootcert=/a.pem",
            "host=db sslmode=",
            "host=db sslmode=Require",
            "sslmode=require",
            "postgresql://db/x?nothing=1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
