//! Topic templates: `devices/{site}/{device}/telemetry`.

/// A Topic Name with placeholders: `{site}` and `{device}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicTemplate(String);

const PLACEHOLDERS: [&str; 2] = ["{site}", "{device}"];

impl TopicTemplate {
    /// Checks a template: a Topic Name [MQTT-4.7.1-1, MQTT-4.7.3-1] once its placeholders are filled in.
    ///
    /// # Errors
    /// A sentence for the person who wrote it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = PLACEHOLDERS.iter().fold(text.to_owned(), |rest, known| rest.replace(known, ""));
        if let Some(start) = rest.find(['{', '}']) {
            let odd = rest.get(start..).unwrap_or_default();
            return Err(format!("unknown placeholder at `{odd}`; there are {}", PLACEHOLDERS.join(" and ")));
        }
        if text.is_empty() || text.len() > 1_024 || rest.contains(['+', '#', '\0']) || text.starts_with('$') {
            return Err(format!("`{text}` does not make a Topic Name: 1 to 1024 bytes, no + # or leading $"));
        }
        Ok(TopicTemplate(text.to_owned()))
    }

    /// The topic of one device.
    pub fn fill(&self, site: &str, device: &str) -> String {
        self.0.replace("{site}", site).replace("{device}", device)
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
        assert_eq!(template.fill("site-02", "dev-00007"), "devices/site-02/dev-00007/telemetry");
        assert!(TopicTemplate::parse("a/{room}").unwrap_err().contains("`{room}`"));
        for wrong in ["", "a/+", "a/#", "$SYS/x", "a/{device"] {
            assert!(TopicTemplate::parse(wrong).is_err(), "{wrong}");
        }
    }
}
