//! The Topic Filter: what a subscription asks for.

use std::fmt;

use super::{TopicError, TopicName};
use crate::codec::primitives::has_nul;

/// A Topic Filter: 1 to 65,535 bytes, no U+0000, wildcards only where they belong [MQTT-4.7.1-1], [MQTT-4.7.1-2].
///
/// `$share/<name>/<filter>` is an ordinary filter here: whoever serves Shared Subscriptions takes it apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicFilter<'a>(&'a str);

impl<'a> TopicFilter<'a> {
    /// Checks a Topic Filter.
    ///
    /// # Errors
    /// [`TopicError`], never `WildcardInName`.
    pub fn parse(filter: &'a str) -> Result<Self, TopicError> {
        match filter.len() {
            0 => return Err(TopicError::Empty),
            1..=0xFFFF => {}
            _ => return Err(TopicError::TooLong),
        }
        if has_nul(filter) {
            return Err(TopicError::NulCharacter);
        }
        let mut levels = filter.split('/');
        while let Some(level) = levels.next() {
            let misplaced = match level {
                "#" => levels.next().is_some(),
                "+" => false,
                _ => level.contains(['#', '+']),
            };
            if misplaced {
                return Err(TopicError::MisplacedWildcard);
            }
        }
        Ok(Self(filter))
    }

    /// For a string that [`TopicFilter::parse`] has accepted before.
    pub(crate) const fn parsed_before(filter: &'a str) -> Self {
        Self(filter)
    }

    /// The filter.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Its levels: what stands between the `/`, empty ones included.
    pub fn levels(self) -> impl Iterator<Item = &'a str> + Clone {
        self.0.split('/')
    }

    /// Whether more than one Topic Name can match.
    #[must_use]
    pub fn has_wildcards(self) -> bool {
        self.0.contains(['#', '+'])
    }

    /// Whether this asks for a Shared Subscription, well-formed or not.
    #[must_use]
    pub fn is_shared(self) -> bool {
        self.0.starts_with("$share/")
    }

    /// Whether a message on `topic` is what this filter asks for. Levels are compared byte by byte [MQTT-4.7.3-4]; a filter
    /// that starts with a wildcard asks for no topic that starts with `$` [MQTT-4.7.2-1].
    #[must_use]
    pub fn matches(self, topic: TopicName<'_>) -> bool {
        if self.0.starts_with(['#', '+']) && topic.as_str().starts_with('$') {
            return false;
        }
        let mut topic_levels = topic.levels();
        for wanted in self.levels() {
            if wanted == "#" {
                return true; // also the parent level: `a/#` asks for `a`
            }
            match topic_levels.next() {
                Some(level) if wanted == "+" || wanted == level => {}
                _ => return false,
            }
        }
        topic_levels.next().is_none()
    }
}

impl fmt::Display for TopicFilter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(filter: &str, topic: &str) -> bool {
        TopicFilter::parse(filter).unwrap().matches(TopicName::parse(topic).unwrap())
    }

    #[test]
    fn mqtt_4_7_1_wildcards_fill_their_level() {
        for filter in ["a/b#", "a/#/b", "#/", "##", "a+", "a/+b", "+a/b", "a/+#", "#+", "++"] {
            assert_eq!(TopicFilter::parse(filter), Err(TopicError::MisplacedWildcard), "{filter}");
        }
        for filter in ["#", "+", "/", "a/#", "+/+/#", "/+", "+/", "a/+/b", "$SYS/#", "$share/g/+/#"] {
            assert_eq!(TopicFilter::parse(filter).map(TopicFilter::as_str), Ok(filter));
        }
    }

    #[test]
    fn mqtt_4_7_3_bounds_of_a_filter() {
        assert_eq!(TopicFilter::parse(""), Err(TopicError::Empty));
        assert_eq!(TopicFilter::parse("\0"), Err(TopicError::NulCharacter));
        assert_eq!(TopicFilter::parse(&"x".repeat(65_536)), Err(TopicError::TooLong));
        assert!(TopicFilter::parse(&"x".repeat(65_535)).is_ok());
    }

    #[test]
    fn matching_as_the_text_has_it() {
        for (filter, topic) in [
            ("sport/tennis/player1/#", "sport/tennis/player1"),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
            ("sport/#", "sport"),
            ("#", "a/b/c"),
            ("#", "/"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("sport/+", "sport/"),
            ("a//+", "a//b"),
            ("$SYS/#", "$SYS/monitor/x"),
            ("$SYS/monitor/+", "$SYS/monitor/Clients"),
            ("é/+", "é/x"),
        ] {
            assert!(matches(filter, topic), "{filter} {topic}");
        }
        for (filter, topic) in [
            ("+", "/finance"),
            ("sport/+", "sport"),
            ("sport/+", "sport/a/b"),
            ("sport/#", "sports"),
            ("a/b", "a"),
            ("a", "a/b"),
            ("a", "A"),
            ("a", "/a"),
            ("a/", "a"),
        ] {
            assert!(!matches(filter, topic), "{filter} {topic}");
        }
    }

    #[test]
    fn mqtt_4_7_2_1_leading_wildcards_leave_dollar_topics_alone() {
        for filter in ["#", "+/monitor/Clients", "+/#"] {
            assert!(!matches(filter, "$SYS/monitor/Clients"), "{filter}");
        }
        assert!(matches("a/#", "a/$b"));
    }

    #[test]
    fn wildcards_and_shares_are_told_apart() {
        let filter = |text| TopicFilter::parse(text).unwrap();
        assert!(
            filter("a/#").has_wildcards() && filter("+/a").has_wildcards() && !filter("a/b").has_wildcards()
        );
        assert!(
            filter("$share/g/a").is_shared()
                && !filter("$shared/g/a").is_shared()
                && !filter("$share").is_shared()
        );
        assert_eq!(filter("a//+").levels().collect::<Vec<_>>(), ["a", "", "+"]);
    }
}
