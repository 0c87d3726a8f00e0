//! JSON as tables for people.
//!
//! Topics, names and payloads come from devices, and a terminal obeys what it is sent: control characters are shown, never printed.

use std::fmt::Write as _;

use serde_json::Value;

/// Characters of a cell; the rest is cut, and said to be.
const CELL_MAX: usize = 60;

/// A heading, and where in an item the cell is: keys parted by `.`.
pub(crate) type Column = (&'static str, &'static str);

/// A line for each item under a line of headings. Columns of numbers are set to the right.
pub(crate) fn table(columns: &[Column], items: &[Value]) -> String {
    let cell = |item: &Value, place: &str| {
        let mut value = item;
        for key in place.split('.') {
            value = value.get(key).unwrap_or(&Value::Null);
        }
        (clipped(&printable(value)), value.is_number())
    };
    let columns: Vec<Vec<(String, bool)>> = columns
        .iter()
        .map(|(heading, place)| {
            let cells: Vec<_> = items.iter().map(|item| cell(item, place)).collect();
            let right = cells.iter().any(|(_, right)| *right);
            [((*heading).to_owned(), right)].into_iter().chain(cells).collect()
        })
        .collect();
    let widths: Vec<usize> = columns
        .iter()
        .map(|cells| cells.iter().map(|(cell, _)| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in 0..=items.len() {
        let mut line = String::new();
        for (cells, width) in columns.iter().zip(&widths) {
            // A String takes everything it is given.
            let _ = match cells.get(row) {
                Some((cell, true)) => write!(line, "{cell:>width$}  "),
                Some((cell, false)) => write!(line, "{cell:<width$}  "),
                None => Ok(()),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A line for each key of one item.
pub(crate) fn sheet(item: &Value) -> String {
    let Some(item) = item.as_object() else { return format!("{}\n", printable(item)) };
    let width = item.keys().map(|key| key.chars().count()).max().unwrap_or(0);
    item.iter().map(|(key, value)| format!("{key:<width$}  {}\n", printable(value))).collect()
}

/// A value in one line.
pub(crate) fn printable(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            if items.is_empty() { "-".to_owned() } else { items.join(" ") }
        }
        value => value.to_string(),
    };
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match is_safe(letter) {
            true => shown.push(letter),
            false => shown.extend(letter.escape_default()),
        }
    }
    shown
}

/// Neither a control character nor one that turns the direction of writing.
fn is_safe(letter: char) -> bool {
    !letter.is_control()
        && !matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(CELL_MAX) {
        Some(_) => text.chars().take(CELL_MAX - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_as_wide_as_they_must_and_numbers_stand_right() {
        let items = [
            json!({"name": "a", "lag": 5, "event": {"topic": "x/y"}, "topics": ["d/#", "e/#"]}),
            json!({"name": "billing", "lag": 1234, "event": {}, "topics": []}),
        ];
        let columns = [("NAME", "name"), ("LAG", "lag"), ("TOPIC", "event.topic"), ("TOPICS", "topics")];
        let expected = "\
NAME      LAG  TOPIC  TOPICS
a           5  x/y    d/# e/#
billing  1234  -      -
";
        assert_eq!(table(&columns, &items), expected);
        assert_eq!(table(&columns[..1], &[]), "NAME\n");
    }

    #[test]
    fn a_terminal_is_sent_nothing_that_it_would_obey() {
        let payload = json!({"payload": "red \u{1b}[31m\r\n\u{202e}"});
        assert_eq!(sheet(&payload), "payload  red \\u{1b}[31m\\r\\n\\u{202e}\n");
        assert_eq!(printable(&json!("21 °C 温度")), "21 °C 温度");
    }

    #[test]
    fn a_long_cell_is_cut_and_says_so() {
        let shown = table(&[("P", "p")], &[json!({"p": "ä".repeat(61)})]);
        assert_eq!(shown, format!("P\n{}…\n", "ä".repeat(59)));
    }
}
