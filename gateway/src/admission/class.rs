//! Which events are given up first: `bulk`, then `normal`, never `critical`.
//!
//! Rules come from the configuration and never change. The first that fits decides; an event that none fits is `normal`. Which rules fit a
//! Client Identifier is found out once for each connection and is a word of bits; a topic is then held against those rules alone.
//! An answer depends on nothing else, so it may be cached by topic for as long as the connection lasts.

use crate::config::{ClassRule, EventClass, SlowSubscriber};
use gateway_protocol::{TopicFilter, TopicName};

/// How much an event matters under pressure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Given up first.
    Bulk,
    /// What is said nothing about.
    #[default]
    Normal,
    /// Never shed, never throttled by the ladder; static limits still hold.
    Critical,
}

impl Class {
    /// All classes, those that are given up first first.
    pub const ALL: [Self; 3] = [Self::Bulk, Self::Normal, Self::Critical];

    /// One word, for labels and log lines.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Normal => "normal",
            Self::Critical => "critical",
        }
    }
}

impl From<EventClass> for Class {
    fn from(class: EventClass) -> Self {
        match class {
            EventClass::Bulk => Self::Bulk,
            EventClass::Normal => Self::Normal,
            EventClass::Critical => Self::Critical,
        }
    }
}

/// The rules that fit a Client Identifier, a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Membership(u64);

/// All rules, in the order of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    class: Class,
    /// Topic Filters, checked where the configuration was read. None: every topic.
    topics: Vec<Box<str>>,
    /// Patterns. None: every client.
    clients: Vec<Box<str>>,
    slow_subscriber: Option<SlowSubscriber>,
}

impl Classes {
    /// How many rules there may be: one for each bit of a [`Membership`].
    pub const RULES_MAX: usize = 64;

    /// Rules out of the configuration, which has [`Classes::RULES_MAX`] at most.
    #[must_use]
    pub fn new(rules: &[ClassRule]) -> Self {
        let boxed = |texts: &[String]| texts.iter().map(|text| text.as_str().into()).collect();
        let rules = rules.iter().take(Self::RULES_MAX).map(|rule| Rule {
            class: rule.class.into(),
            topics: boxed(&rule.topics),
            clients: boxed(&rule.clients),
            slow_subscriber: rule.slow_subscriber,
        });
        Self { rules: rules.collect() }
    }

    /// Whether everything is `normal`, so that nobody needs to ask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Which rules may apply to events of this client. To be asked once for each connection.
    #[must_use]
    pub fn membership(&self, client_id: &str) -> Membership {
        let fits = |rule: &Rule| {
            rule.clients.is_empty() || rule.clients.iter().any(|pattern| matches(pattern, client_id))
        };
        let bits = self.rules.iter().enumerate().filter(|(_, rule)| fits(rule)).map(|(at, _)| 1_u64 << at);
        Membership(bits.sum())
    }

    /// What happens when a client with these rules reads too slowly: as the first of them that says something about it.
    #[must_use]
    pub fn slow_subscriber(&self, membership: Membership) -> Option<SlowSubscriber> {
        self.fitting(membership).find_map(|rule| rule.slow_subscriber)
    }

    fn fitting(&self, membership: Membership) -> impl Iterator<Item = &Rule> {
        let mut left = membership.0;
        std::iter::from_fn(move || {
            let at = left.trailing_zeros() as usize;
            left &= left.checked_sub(1)?;
            self.rules.get(at)
        })
    }

    /// The class of an event on this topic, of a client with these rules.
    #[must_use]
    pub fn of(&self, membership: Membership, topic: &str) -> Class {
        let Ok(name) = TopicName::parse(topic) else { return Class::Normal };
        let fits =
            |rule: &&Rule| rule.topics.is_empty() || rule.topics.iter().any(|filter| is_match(filter, name));
        self.fitting(membership).find(fits).map_or(Class::Normal, |rule| rule.class)
    }
}

fn is_match(filter: &str, name: TopicName<'_>) -> bool {
    TopicFilter::parse(filter).is_ok_and(|filter| filter.matches(name))
}

/// Whether `text` is `pattern`, in which `*` stands for any text, none included. Takes at most the product of the lengths.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut read) = (0, 0);
    // Where the last star is, and up to where it has eaten.
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, read));
            at += 1;
        } else if pattern.get(at).is_some() && pattern.get(at) == text.get(read) {
            at += 1;
            read += 1;
        } else if let Some((star_at, eaten)) = star {
            star = Some((star_at, eaten + 1));
            at = star_at + 1;
            read = eaten + 1;
        } else {
            return false;
        }
    }
    pattern.iter().skip(at).all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(class: EventClass, topics: &[&str], clients: &[&str]) -> ClassRule {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        ClassRule { class, topics: owned(topics), clients: owned(clients), slow_subscriber: None }
    }

    #[test]
    fn the_first_rule_that_fits_client_and_topic_decides() {
        let classes = Classes::new(&[
            rule(EventClass::Critical, &["devices/+/alarm", "safety/#"], &[]),
            rule(EventClass::Bulk, &["devices/+/debug"], &["lab-*", "test"]),
            rule(EventClass::Critical, &[], &["pump-*"]),
            rule(EventClass::Bulk, &["devices/#"], &["pump-*"]),
        ]);
        let class = |client: &str, topic: &str| classes.of(classes.membership(client), topic);
        assert_eq!(class("oven-7", "devices/oven-7/alarm"), Class::Critical);
        assert_eq!(class("oven-7", "safety"), Class::Critical);
        assert_eq!(class("oven-7", "devices/oven-7/debug"), Class::Normal);
        assert_eq!(class("lab-7", "devices/lab-7/debug"), Class::Bulk);
        assert_eq!(class("test", "devices/x/debug"), Class::Bulk);
        assert_eq!(class("lab-7", "devices/lab-7/alarm"), Class::Critical);
        assert_eq!(class("pump-1", "devices/pump-1/flow"), Class::Critical);
        assert_eq!(class("pump", "devices/pump/flow"), Class::Normal);
        assert_eq!(class("pump-1", "no/topic/#"), Class::Normal);
    }

    #[test]
    fn the_first_rule_that_says_something_of_slow_subscribers_decides() {
        let mut rules = [
            rule(EventClass::Bulk, &["x/#"], &[]),
            rule(EventClass::Normal, &[], &["board-*"]),
            rule(EventClass::Normal, &[], &["board-1*"]),
        ];
        rules[1].slow_subscriber = Some(SlowSubscriber::Disconnect);
        rules[2].slow_subscriber = Some(SlowSubscriber::Drop);
        let classes = Classes::new(&rules);
        let policy = |client: &str| classes.slow_subscriber(classes.membership(client));
        assert_eq!(policy("board-17"), Some(SlowSubscriber::Disconnect));
        assert_eq!(policy("oven-7"), None);
    }

    #[test]
    fn without_rules_everything_is_normal() {
        let classes = Classes::default();
        assert!(classes.is_empty());
        assert_eq!(classes.of(classes.membership("a"), "b"), Class::Normal);
    }

    #[test]
    fn sixty_four_rules_have_a_bit_each() {
        let rules: Vec<_> =
            (0..80).map(|at| rule(EventClass::Bulk, &[], &[&format!("c{at}") as &str])).collect();
        let classes = Classes::new(&rules);
        assert_eq!(classes.membership("c63"), Membership(1 << 63));
        assert_eq!(classes.of(classes.membership("c63"), "t"), Class::Bulk);
        assert_eq!(classes.membership("c64"), Membership(0));
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "abc"),
            ("a*", "a"),
            ("a*c", "abcbc"),
            ("*b*", "abc"),
            ("a*b*c", "a-b-b-c"),
            ("", ""),
            ("**", "x"),
            ("é*é", "étété"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a", "b"), ("a*", "ba"), ("a*c", "abcb"), ("", "a"), ("a", ""), ("*a", "ab")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        // Many stars against a text that almost fits take no exponential time.
        assert!(!matches(&format!("{}b", "*a".repeat(60)), &"a".repeat(5_000)));
    }
}
