//! The house rules that a machine can hold: which module may import which, who may name which library, how long a file may
//! grow. ARCHITECTURE.md says why; this says when. Each rule is also fed a snippet that breaks it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "all of this is a test")]

mod rows;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use self::rows::{CRATES, DOORS, FORBIDDEN, Rows};

/// Crates without a runtime, and what would be one.
const NO_RUNTIME: [&str; 2] = ["gateway-protocol", "gateway-storage"];
const RUNTIMES: [&str; 5] = ["tokio", "async-std", "smol", "async-executor", "futures-executor"];

const LINES_MAX: usize = 800;
const LINES_GOOD: usize = 500;
/// Files past 500 lines and what they may be at most. Numbers go down; a file that came under 500 leaves the list.
const LONG_FILES: [(&str, usize); 0] = [];

/// A source file, its comments and literals blanked.
struct Source {
    /// From the root of the repository.
    path: String,
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), code: blank(text) }
    }
}

#[test]
fn imports_go_down_only() {
    check(imports);
    for (path, snippet) in [
        ("gateway/src/router/trie.rs", "use crate::engine::Engine;"),
        ("gateway/src/router/trie.rs", "fn f() { crate::engine::start() }"),
        ("gateway/src/router/mod.rs", "use super::engine;"),
        ("gateway/src/router/trie.rs", "use super::super::engine;"),
        ("gateway/src/ingest.rs", "use crate::{config::Config, delivery::Outbox};"),
        ("gateway/src/admin/routes.rs", "use crate::listener;"),
        ("gateway/src/kitchen.rs", ""),
        ("device-sim/src/report/mod.rs", "use crate::run::RunError;"),
    ] {
        complains(imports, path, snippet);
    }
    for (path, snippet) in [
        ("gateway/src/engine/apply.rs", "use crate::router::Router; use crate::engine::table; // crate::app"),
        ("gateway/src/engine/apply.rs", "use super::table; const S: &str = \"crate::app\";"),
        ("gateway/src/app/mod.rs", "use crate::{admin, listener};"),
        ("gateway/src/lib.rs", "pub mod app;"),
    ] {
        accepts(imports, path, snippet);
    }
}

#[test]
fn libraries_are_named_behind_their_doors_only() {
    check(doors);
    for (path, snippet) in [
        ("gateway/src/engine/mod.rs", "use sled::Db;"),
        ("gateway/src/listener/tcp.rs", "fn f() -> axum::Router { axum::Router::new() }"),
        ("gateway/src/app/mod.rs", "use {anyhow::Result, std::io};"),
        ("gateway/src/listener/mod.rs", "use ::rustls::ServerConfig;"),
    ] {
        complains(doors, path, snippet);
    }
    accepts(doors, "gateway/storage/src/view/mod.rs", "use sled::Db;");
    accepts(doors, "gateway/src/engine/mod.rs", "//! sled::Db\nlet sled = 1; config::axum::x();");
}

#[test]
fn pure_code_names_no_socket_disk_clock_or_runtime() {
    check(forbidden);
    for (path, snippet) in [
        ("gateway/protocol/src/codec/mod.rs", "use std::{fmt, net::TcpStream};"),
        ("gateway/protocol/src/session/mod.rs", "let now = std::time::Instant::now();"),
        ("gateway/protocol/src/session/mod.rs", "let now = Instant::now();"),
        ("gateway/protocol/src/session/mod.rs", "use std::time::SystemTime;"),
        ("gateway/storage/src/entry.rs", "use gateway_protocol::QoS;"),
        ("gateway/src/router/trie.rs", "tokio::spawn(async {});"),
        ("gateway/src/auth.rs", "use std::fs;"),
    ] {
        complains(forbidden, path, snippet);
    }
    accepts(
        forbidden,
        "gateway/protocol/src/session/mod.rs",
        "use std::time::{Duration, Instant}; // Instant::now()",
    );
    accepts(forbidden, "gateway/src/app/mod.rs", "use std::fs; tokio::spawn(async {});");
}

#[test]
fn nothing_is_unsafe() {
    check(unsafe_code);
    complains(unsafe_code, "gateway/src/app/mod.rs", "fn f() { unsafe { g() } }");
    accepts(unsafe_code, "gateway/src/app/mod.rs", "// unsafe\n#![forbid(unsafe_code)]");
}

#[test]
fn lints_are_silenced_with_a_reason() {
    check(silenced);
    complains(silenced, "a.rs", "#[allow(dead_code)] fn f() {}");
    complains(silenced, "a.rs", "#![expect(\n    dead_code,\n    unused\n)]");
    complains(silenced, "a.rs", "#[cfg_attr(test, allow(dead_code))]");
    complains(silenced, "a.rs", "#[allow(dead_code)] fn f(reason: u8) {}");
    accepts(silenced, "a.rs", "#[expect(dead_code, reason = \"x]\")] fn f() { allow(1) }");
}

#[test]
fn files_stay_short() {
    let lengths = |source: &Source| length(source, &LONG_FILES);
    check(lengths);
    for (path, _) in LONG_FILES {
        assert!(root().join(path).exists(), "{path} is gone: take it off the list of long files");
    }
    let lines = |count: usize| Source::new("a.rs", &"x\n".repeat(count));
    assert!(length(&lines(LINES_MAX + 1), &[("a.rs", 900)]).is_some());
    assert!(length(&lines(LINES_GOOD + 1), &[]).is_some());
    assert!(length(&lines(LINES_GOOD + 2), &[("a.rs", LINES_GOOD + 1)]).is_some());
    assert!(length(&lines(LINES_GOOD), &[("a.rs", 600)]).is_some());
    assert!(length(&lines(LINES_GOOD + 1), &[("a.rs", LINES_GOOD + 1)]).is_none());
    assert!(length(&lines(LINES_GOOD), &[]).is_none());
}

#[test]
fn protocol_and_storage_have_no_runtime() {
    for package in NO_RUNTIME {
        assert_eq!(runtimes(&dependency_tree(package)), [""; 0], "{package} depends on a runtime");
    }
    assert_eq!(runtimes("gateway v0.1.0\ntokio v1.54.0\ntokio-util v0.7.0\n"), ["tokio"]);
    assert!(
        !runtimes(&dependency_tree("gateway")).is_empty(),
        "the gateway has a runtime, so the check can see one"
    );
}

// The rules.

fn imports(source: &Source) -> Option<String> {
    let (rows, inside) =
        CRATES.iter().find_map(|(under, rows)| Some((*rows, source.path.strip_prefix(under)?)))?;
    let inside = inside.strip_suffix(".rs")?;
    let mut module: Vec<&str> = inside.split('/').collect();
    if module.last() == Some(&"mod") {
        module.pop();
    }
    let room = *module.first()?;
    if room == "lib" {
        return None;
    }
    let Some(row) = row(rows, room) else {
        return Some(format!("{room} has no row: give it one in tests/tidy/rows.rs"));
    };
    paths(&source.code).into_iter().find_map(|path| {
        let up = path.iter().take_while(|segment| **segment == "super").count();
        // A module within the file is one deeper than the file, so a longer climb ends at the root or below it.
        let named = match path.first() {
            Some(&"crate") => *path.get(1)?,
            Some(&"super") if up >= module.len() => *path.get(up)?,
            _ => return None,
        };
        let allowed = named == room || self::row(rows, named).is_none_or(|below| below < row);
        (!allowed).then(|| format!("{room} imports {named} ({}), which is not below it", path.join("::")))
    })
}

/// The row that a room stands in, counted from the lowest.
fn row(rows: Rows, room: &str) -> Option<usize> {
    rows.iter().position(|(_, rooms)| rooms.contains(&room))
}

fn doors(source: &Source) -> Option<String> {
    paths(&source.code).into_iter().find_map(|path| {
        let (library, rooms) =
            DOORS.iter().find(|(library, _)| path.len() > 1 && path.first() == Some(library))?;
        let open = rooms.iter().any(|room| source.path.starts_with(room));
        (!open).then(|| format!("{} is named outside {}", library, rooms.join(", ")))
    })
}

fn forbidden(source: &Source) -> Option<String> {
    let (_, names) = FORBIDDEN.iter().find(|(under, _)| source.path.starts_with(under))?;
    paths(&source.code).into_iter().find_map(|path| {
        let names_it = |name: &&&str| {
            let name: Vec<&str> = name.split("::").collect();
            path.windows(name.len()).any(|window| window == name)
        };
        names.iter().find(names_it).map(|name| format!("{} is not for this room ({name})", path.join("::")))
    })
}

fn unsafe_code(source: &Source) -> Option<String> {
    tokens(&source.code).into_iter().any(|token| token == "unsafe").then(|| "unsafe".to_owned())
}

fn silenced(source: &Source) -> Option<String> {
    let mut rest = source.code.as_str();
    while let Some(start) = rest.find("#[").into_iter().chain(rest.find("#![")).min() {
        rest = &rest[start..];
        let mut depth = 0;
        let end = rest.find(|c| {
            depth += i32::from(c == '[') - i32::from(c == ']');
            c == ']' && depth == 0
        });
        let (attribute, after) = rest.split_at(end.unwrap_or(rest.len()));
        let words = tokens(attribute);
        let silences = words.windows(2).any(|pair| matches!(pair, ["allow" | "expect", "("]));
        if silences && !words.contains(&"reason") {
            return Some(format!("no reason: {attribute}]"));
        }
        rest = after;
    }
    None
}

fn length(source: &Source, long_files: &[(&str, usize)]) -> Option<String> {
    let lines = source.code.lines().count();
    let listed = long_files.iter().find(|(path, _)| *path == source.path).map(|(_, most)| *most);
    match listed {
        _ if lines > LINES_MAX => Some(format!("{lines} lines; {LINES_MAX} is the end")),
        None if lines > LINES_GOOD => Some(format!("{lines} lines: look for a second idea in it")),
        Some(most) if lines > most => Some(format!("{lines} lines; it was {most} and should shrink")),
        Some(_) if lines <= LINES_GOOD => Some(format!("{lines} lines: take it off the list of long files")),
        _ => None,
    }
}

fn runtimes(tree: &str) -> Vec<&str> {
    tree.lines().filter_map(|line| line.split(' ').next()).filter(|name| RUNTIMES.contains(name)).collect()
}

// Applying them.

fn check(rule: impl Fn(&Source) -> Option<String>) {
    let sources = sources();
    let broken: Vec<String> =
        sources.iter().filter_map(|source| Some(format!("{}: {}", source.path, rule(source)?))).collect();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

fn complains(rule: impl Fn(&Source) -> Option<String>, path: &str, snippet: &str) {
    assert!(rule(&Source::new(path, snippet)).is_some(), "this passed in {path}: {snippet}");
}

fn accepts(rule: impl Fn(&Source) -> Option<String>, path: &str, snippet: &str) {
    assert_eq!(rule(&Source::new(path, snippet)), None, "in {path}: {snippet}");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust file of the repository.
fn sources() -> Vec<Source> {
    fn visit(directory: &Path, root: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                visit(&path, root, found);
            } else if name.ends_with(".rs") {
                found.insert(path.strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    let (root, mut found) = (root(), BTreeSet::new());
    visit(&root, &root, &mut found);
    assert!(found.contains(Path::new("tests/tidy/main.rs")), "the walk finds this file");
    found
        .iter()
        .map(|path| Source::new(path.to_str().unwrap(), &fs::read_to_string(root.join(path)).unwrap()))
        .collect()
}

fn dependency_tree(package: &str) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["tree", "--offline", "--edges", "normal", "--prefix", "none", "--package", package];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

// Reading Rust, as far as the rules need it.

/// `text` with comments and the insides of literals as spaces, line for line.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let mut out = String::with_capacity(text.len());
    let mut index = 0;
    while index < chars.len() {
        let end = match (at(index), at(index + 1)) {
            ('/', '/') => (index..chars.len()).find(|i| at(*i) == '\n').unwrap_or(chars.len()),
            ('/', '*') => block_comment_end(&chars, index),
            ('"', _) => string_end(&chars, index),
            ('r', '"' | '#') if !is_word(at(index.wrapping_sub(1))) || at(index.wrapping_sub(1)) == 'b' => {
                raw_string_end(&chars, index).unwrap_or(index)
            }
            // 'x' and '\n' are literals; 'a without a closing quote is a lifetime.
            ('\'', '\\') => (index + 3..chars.len()).find(|i| at(*i) == '\'').map_or(chars.len(), |i| i + 1),
            ('\'', _) if at(index + 2) == '\'' => index + 3,
            _ => index,
        };
        if end == index {
            out.push(at(index));
            index += 1;
        } else {
            out.extend(
                chars[index..end.min(chars.len())].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }),
            );
            index = end;
        }
    }
    out
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let (mut depth, mut index) = (0, start);
    while index < chars.len() {
        match (chars[index], chars.get(index + 1)) {
            ('/', Some('*')) => (depth, index) = (depth + 1, index + 2),
            ('*', Some('/')) => (depth, index) = (depth - 1, index + 2),
            _ => index += 1,
        }
        if depth == 0 {
            break;
        }
    }
    index
}

fn string_end(chars: &[char], start: usize) -> usize {
    let mut index = start + 1;
    while index < chars.len() && chars[index] != '"' {
        index += if chars[index] == '\\' { 2 } else { 1 };
    }
    index + 1
}

fn raw_string_end(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start + 1..].iter().take_while(|c| **c == '#').count();
    let open = start + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes = |index: &usize| {
        chars[*index] == '"' && chars[index + 1..].iter().take_while(|c| **c == '#').count() >= hashes
    };
    Some((open + 1..chars.len()).find(closes)? + 1 + hashes)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Words, `::` between words, and every other character that is not a space.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            ':' if rest.starts_with("::") => 2,
            c => c.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        // A path that begins with `::` begins with its first word for our purposes, not with the word before it.
        let begins = token == "::" && code[..code.len() - rest.len()].ends_with(|c: char| !is_word(c));
        if !first.is_whitespace() && !begins {
            tokens.push(token);
        }
        rest = after;
    }
    tokens
}

/// Every path in the code, braces opened: `use a::{b, c::d};` gives `a::b` and `a::c::d`.
fn paths(code: &str) -> Vec<Vec<&str>> {
    let tokens = tokens(code);
    let (mut found, mut index) = (Vec::new(), 0);
    while index < tokens.len() {
        index = path(&tokens, index, &[], &mut found);
    }
    found
}

fn path<'a>(tokens: &[&'a str], start: usize, prefix: &[&'a str], found: &mut Vec<Vec<&'a str>>) -> usize {
    let at = |index: usize| tokens.get(index).copied().unwrap_or("");
    let (mut path, mut index) = (prefix.to_vec(), start);
    loop {
        match at(index) {
            "{" if path.len() > prefix.len() => {
                index += 1;
                while index < tokens.len() && at(index) != "}" {
                    index = self::path(tokens, index, &path, found);
                }
                return index + 1;
            }
            word if word.starts_with(is_word) => path.push(word),
            _ => break,
        }
        index += 1;
        if at(index) != "::" {
            break;
        }
        index += 1;
    }
    if path.len() > prefix.len() {
        found.push(path);
    }
    index.max(start + 1)
}

#[test]
fn the_reader_reads() {
    let code = blank("a /* b /* c */ d */ \"e \\\" f\" 'g' '\\'' r#\"h \" i\"# fn j<'k>(b\"l\") // m\nn");
    assert_eq!(tokens(&code).join(" "), "a fn j < ' k > ( b ) n");
    let paths: Vec<String> = paths("use ::a::{b, c::{d, e as f}, *}; g::h::<i::j>(); k")
        .iter()
        .map(|path| path.join("::"))
        .collect();
    assert_eq!(
        paths,
        ["use", "a::b", "a::c::d", "a::c::e", "a::c::as", "a::c::f", "g::h", "i::j", "k"],
        "a word too many does no harm, a path too few would"
    );
}
