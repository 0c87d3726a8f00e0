//! How a receiver knows that a batch comes from this gateway and was not seen before: `t=SECONDS,v1=HEX`, where `HEX` is the
//! HMAC-SHA256 of `SECONDS`, a full stop, and the body, under the shared secret. A receiver compares in constant time and turns
//! away what is older than it cares for.

use ring::hmac;
use std::fmt::Write;

/// The value of the header for a body that is sent at `at_secs`, in seconds since the Unix epoch.
pub(super) fn of(secret: &[u8], at_secs: u64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut context = hmac::Context::with_key(&key);
    context.update(at_secs.to_string().as_bytes());
    context.update(b".");
    context.update(body);
    let mut text = format!("t={at_secs},v1=");
    for byte in context.sign().as_ref() {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_another_implementation_makes_of_it() {
        // printf '1700000000.{"events":[]}' | openssl dgst -sha256 -hmac secret
        assert_eq!(
            of(b"secret", 1_700_000_000, br#"{"events":[]}"#),
            "t=1700000000,v1=3947de27ec923573170fccda604ddfb25583ff98dc51e96cca2e11c59545026a"
        );
    }

    #[test]
    fn another_time_another_body_or_another_secret_is_another_signature() {
        let first = of(b"secret", 1, b"x");
        assert_ne!(first, of(b"secret", 2, b"x"));
        assert_ne!(first, of(b"secret", 1, b"y"));
        assert_ne!(first, of(b"Secret", 1, b"x"));
    }
}
