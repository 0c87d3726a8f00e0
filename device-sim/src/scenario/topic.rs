//! Topic templates: `devices/{site}/{device}/telemetry`.

use crate::payload::sparkplug;

/// A Topic Name with placeholders, such as `{site}` and `{device}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicTemplate(String);

/// What a template can be filled with. Each value is one level of a topic, or a part of one.
#[derive(Clone, Copy, Debug)]
pub struct Filling<'a> {
    /// The site's name.
    pub site: &'a str,
    /// The device's Client Identifier.
    pub device: &'a str,
    /// The cohort's name.
    pub cohort: &'a str,
    /// The model's name.
    pub model: &'a str,
    /// The class of its events.
    pub class: &'a str,
}

const PLACEHOLDERS: [&str; 5] = ["{site}", "{device}", "{cohort}", "{model}", "{class}"];

const EXAMPLE: Filling<'static> =
    Filling { site: "site-00", device: "dev-00000", cohort: "c", model: "m", class: "normal" };

impl TopicTemplate {
    /// Checks a template: a Topic Name [MQTT-4.7.1-1, MQTT-4.7.3-1] once its placeholders are filled in.
    ///
    /// # Errors
    /// A sentence for the person who wrote it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = PLACEHOLDERS.iter().fold(text.to_owned(), |rest, known| rest.replace(known, ""));
        if let Some(start) = rest.find(['{', '}']) {
            let odd = rest.get(start..).unwrap_or_default();
            return Err(format!("unknown placeholder at `{odd}`; there are {}", PLACEHOLDERS.join(" ")));
        }
        if text.is_empty() || text.len() > 1_024 || rest.contains(['+', '#', '\0']) || text.starts_with('$') {
            return Err(format!("`{text}` does not make a Topic Name: 1 to 1024 bytes, no + # or leading $"));
        }
        Ok(TopicTemplate(text.to_owned()))
    }

    /// The topic of one device.
    pub fn fill(&self, with: &Filling<'_>) -> String {
        let Filling { site, device, cohort, model, class } = *with;
        let values = [site, device, cohort, model, class];
        PLACEHOLDERS
            .iter()
            .zip(values)
            .fold(self.0.clone(), |topic, (name, value)| topic.replace(name, value))
    }

    /// Whether its topics are those of Sparkplug data.
    pub fn is_sparkplug(&self) -> bool {
        sparkplug::Names::of_data_topic(&self.fill(&EXAMPLE)).is_some()
    }

    /// The template as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a Topic Filter matches a Topic Name; both well-formed, and the filter not starting with `$`.
pub fn matches(filter: &str, topic: &str) -> bool {
    let mut topic_levels = topic.split('/');
    for level in filter.split('/') {
        match (level, topic_levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(topic_level)) if level == topic_level => {}
            _ => return false,
        }
    }
    topic_levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_standard_says() {
        for (filter, topic) in
            [("#", "a"), ("a/#", "a"), ("a/#", "a/b/c"), ("a/+/c", "a/b/c"), ("+", "é"), ("/+", "/a")]
        {
            assert!(matches(filter, topic), "{filter} {topic}");
        }
        for (filter, topic) in [("a", "a/b"), ("a/+", "a"), ("a/+", "a/b/c"), ("+", "/a"), ("b/#", "a/b")] {
            assert!(!matches(filter, topic), "{filter} {topic}");
        }
    }

    #[test]
    fn placeholders_are_filled_in_and_unknown_ones_refused() {
        let template = TopicTemplate::parse("devices/{site}/{device}/telemetry").unwrap();
        let with = Filling { site: "site-02", device: "dev-00007", ..EXAMPLE };
        assert_eq!(template.fill(&with), "devices/site-02/dev-00007/telemetry");
        assert!(TopicTemplate::parse("a/{room}").unwrap_err().contains("`{room}`"));
        for wrong in ["", "a/+", "a/#", "$SYS/x", "a/{device"] {
            assert!(TopicTemplate::parse(wrong).is_err(), "{wrong}");
        }
    }
}
