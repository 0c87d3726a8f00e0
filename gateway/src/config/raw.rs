//! The first stage: layers of keys laid over one another, nothing judged yet but syntax.
//!
//! Tables merge key by key; anything else is replaced. A value from the environment or from `--set` keeps its text,
//! because only the key that reads it knows whether `1883` was meant as a number or as the name of a directory.

use std::collections::BTreeMap;

use super::fault::{Fault, FaultKind, Source};
use super::{DEFAULT_TOML, LoadOptions};

const PREFIX: &str = "GATEWAY_";
/// Lists that are empty where no layer has them.
const EMPTY_LISTS: [&str; 2] = ["consumer", "sink"];

/// A value in the merged tree, and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) source: Source,
    pub(super) body: Body,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    Table(Table),
    Tables(Vec<Node>),
    Value {
        value: toml::Value,
        /// As it was written in the environment or on the command line.
        text: Option<String>,
    },
}

pub(super) type Table = BTreeMap<String, Node>;

/// All layers merged, and what was wrong with their syntax.
pub(super) fn layers(options: &LoadOptions) -> (Table, Vec<Fault>) {
    let mut faults = Vec::new();
    let mut root = match parse_file(DEFAULT_TOML, Source::Default) {
        Ok(table) => table,
        Err(problem) => {
            faults.push(syntax("the built-in configuration", Source::Default, problem));
            Table::new()
        }
    };
    for list in EMPTY_LISTS {
        let body = Body::Value { value: toml::Value::Array(Vec::new()), text: None };
        root.entry(list.to_owned()).or_insert(Node { source: Source::Default, body });
    }
    if let Some(path) = &options.file {
        let key = path.display().to_string();
        match std::fs::read_to_string(path) {
            Err(error) => faults.push(Fault {
                kind: FaultKind::Unreadable,
                key,
                source: Source::File,
                problem: format!("cannot be read: {error}"),
                accepted: String::new(),
            }),
            Ok(text) => match parse_file(&text, Source::File) {
                Ok(table) => merge(&mut root, table),
                Err(problem) => faults.push(syntax(&key, Source::File, problem)),
            },
        }
    }
    environment(&mut root, &options.environment, &mut faults);
    for set in &options.sets {
        match set.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                let path: Vec<&str> = key.trim().split('.').map(str::trim).collect();
                place(&mut root, &path, value.trim(), Source::CommandLine, &mut faults);
            }
            _ => faults.push(Fault {
                kind: FaultKind::Syntax,
                key: set.clone(),
                source: Source::CommandLine,
                problem: "has no key or no value".to_owned(),
                accepted: "section.key=value".to_owned(),
            }),
        }
    }
    (root, faults)
}

/// The names nearest to `name` are what the operator meant, when near enough to be a slip of the finger.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().max(name.len()) / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

fn environment(root: &mut Table, variables: &[(String, String)], faults: &mut Vec<Fault>) {
    let known = known_paths(root);
    let mut variables: Vec<(String, &str)> = variables
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?.to_ascii_lowercase(), value.as_str())))
        .collect();
    // Sorted, so that GATEWAY_LISTENER is laid before GATEWAY_LISTENER__0__ADDRESS, whatever order they came in.
    variables.sort();
    for (name, value) in &variables {
        if name.contains("__") || root.contains_key(name) {
            let path: Vec<&str> = name.split("__").collect();
            place(root, &path, value, Source::Environment, faults);
        } else if let Some(path) = known.iter().find(|path| path.replace('.', "_") == *name) {
            // GATEWAY_STORAGE_DATA_DIR would otherwise be passed over in silence, as GATEWAY_BIN rightly is.
            let meant = path.replace('.', "__").to_ascii_uppercase();
            faults.push(Fault {
                kind: FaultKind::UnknownKey,
                key: format!("{PREFIX}{}", name.to_ascii_uppercase()),
                source: Source::Environment,
                problem: format!(
                    "two underscores part the section from the key; did you mean {PREFIX}{meant}?"
                ),
                accepted: String::new(),
            });
        }
    }
}

/// `section.key` of every key outside lists.
fn known_paths(root: &Table) -> Vec<String> {
    let sections = root.iter().filter_map(|(section, node)| match &node.body {
        Body::Table(keys) => Some((section, keys)),
        _ => None,
    });
    sections.flat_map(|(section, keys)| keys.keys().map(move |key| format!("{section}.{key}"))).collect()
}

fn parse_file(text: &str, source: Source) -> Result<Table, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error
            .span()
            .and_then(|span| text.get(..span.start))
            .map(|before| before.matches('\n').count() + 1);
        let message = error.message().replace('\n', "; ");
        line.map_or_else(|| message.clone(), |line| format!("line {line}: {message}"))
    })?;
    Ok(table.into_iter().map(|(key, value)| (key, Node::from_toml(value, source))).collect())
}

impl Node {
    fn from_toml(value: toml::Value, source: Source) -> Self {
        let body = match value {
            toml::Value::Table(table) => Body::Table(
                table.into_iter().map(|(key, value)| (key, Self::from_toml(value, source))).collect(),
            ),
            toml::Value::Array(items) if !items.is_empty() && items.iter().all(toml::Value::is_table) => {
                Body::Tables(items.into_iter().map(|item| Self::from_toml(item, source)).collect())
            }
            value => Body::Value { value, text: None },
        };
        Self { source, body }
    }

    /// A value of the environment or the command line: TOML if it reads as TOML, otherwise a string.
    fn from_text(text: &str, source: Source) -> Self {
        match text.parse::<toml::Value>() {
            Ok(value @ (toml::Value::Table(_) | toml::Value::Array(_))) => Self::from_toml(value, source),
            Ok(value) => Self { source, body: Body::Value { value, text: Some(text.to_owned()) } },
            Err(_) => {
                let value = toml::Value::String(text.to_owned());
                Self { source, body: Body::Value { value, text: None } }
            }
        }
    }
}

fn merge(under: &mut Table, over: Table) {
    for (key, node) in over {
        match (under.get_mut(&key), node) {
            (
                Some(Node { body: Body::Table(under), source }),
                Node { body: Body::Table(over), source: layer },
            ) => {
                *source = layer;
                merge(under, over);
            }
            (_, node) => {
                under.insert(key, node);
            }
        }
    }
}

fn place(root: &mut Table, path: &[&str], text: &str, source: Source, faults: &mut Vec<Fault>) {
    if let Err(problem) = assign(root, path, Node::from_text(text, source)) {
        let kind = FaultKind::UnknownKey;
        faults.push(Fault { kind, key: path.join("."), source, problem, accepted: String::new() });
    }
}

/// Puts one value at `path`, whose numbers count into lists.
fn assign(table: &mut Table, path: &[&str], node: Node) -> Result<(), String> {
    match path {
        [] => Err("names no key".to_owned()),
        [key] => {
            table.insert((*key).to_owned(), node);
            Ok(())
        }
        [name, rest @ ..] => {
            let empty = Node { source: node.source, body: Body::Table(Table::new()) };
            match (&mut table.entry((*name).to_owned()).or_insert(empty).body, rest) {
                (Body::Table(inner), rest) => assign(inner, rest, node),
                (Body::Tables(list), [index, rest @ ..]) if !rest.is_empty() => {
                    assign(list_entry(name, list, index)?, rest, node)
                }
                (Body::Tables(list), _) => Err(list_help(name, list)),
                (Body::Value { .. }, _) => Err(format!("{name} holds no keys")),
            }
        }
    }
}

fn list_entry<'a>(name: &str, list: &'a mut [Node], index: &str) -> Result<&'a mut Table, String> {
    let help = list_help(name, list);
    let node = index.parse().ok().and_then(|index: usize| list.get_mut(index));
    match node.map(|node| &mut node.body) {
        Some(Body::Table(table)) => Ok(table),
        _ => Err(help),
    }
}

fn list_help(name: &str, list: &[Node]) -> String {
    let last = list.len().saturating_sub(1);
    format!(
        "{name} is a list; name a key of one entry, {name}.0.key to {name}.{last}.key, or give the whole list"
    )
}

fn syntax(key: &str, source: Source, problem: String) -> Fault {
    Fault { kind: FaultKind::Syntax, key: key.to_owned(), source, problem, accepted: "TOML".to_owned() }
}
