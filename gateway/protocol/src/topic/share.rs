//! `$share/<name>/<filter>`: the Topic Filter of a Shared Subscription.

use super::TopicFilter;

/// What the filter of a Shared Subscription begins with.
pub const SHARE_PREFIX: &str = "$share/";

/// A Shared Subscription: a group's name and the filter its members share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedFilter<'a> {
    /// The name of the group [MQTT-4.8.2-2].
    pub share_name: &'a str,
    /// What the group subscribes to.
    pub filter: TopicFilter<'a>,
}

/// The filter begins with `$share/` but is none of a Shared Subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a Shared Subscription is $share/<name>/<filter>, the name not empty and without '+' and '#'")]
pub struct SharedFilterError;

impl<'a> SharedFilter<'a> {
    /// Reads a Topic Filter. `None`: it is not about a Shared Subscription.
    #[must_use]
    pub fn parse(filter: TopicFilter<'a>) -> Option<Result<Self, SharedFilterError>> {
        let rest = filter.as_str().strip_prefix(SHARE_PREFIX)?;
        Some(Self::parse_rest(rest).ok_or(SharedFilterError))
    }

    fn parse_rest(rest: &'a str) -> Option<Self> {
        let (share_name, filter) = rest.split_once('/')?;
        if share_name.is_empty() || share_name.contains(['+', '#']) {
            return None;
        }
        Some(Self { share_name, filter: TopicFilter::parse(filter).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Result<(&str, &str), SharedFilterError>> {
        let filter = TopicFilter::parse(text).expect("a legal filter");
        Some(SharedFilter::parse(filter)?.map(|shared| (shared.share_name, shared.filter.as_str())))
    }

    #[test]
    fn mqtt_4_8_2_1_and_2_a_shared_filter_has_a_name_and_a_filter() {
        assert_eq!(parse("$share/g/a/+/#"), Some(Ok(("g", "a/+/#"))));
        assert_eq!(parse("$share/g//"), Some(Ok(("g", "/"))));
        assert_eq!(parse("$shared/g/a"), None);
        for text in ["$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/#"] {
            assert_eq!(parse(text), Some(Err(SharedFilterError)), "{text}");
        }
    }
}
