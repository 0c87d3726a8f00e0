//! `gateway config reference`: every key with its default, its variable and its meaning, as Markdown, out of the documented file that is built in.
//!
//! Also what is made of the command line itself: completions for shells, and pages for `man`.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;

/// The reference out of a documented file: comments above `[section]` and above keys, which may share one.
pub(crate) fn reference(documented: &str) -> String {
    let mut text = String::from("# Configuration reference\n");
    let (mut section, mut is_list) = (String::new(), false);
    let mut comment: Vec<&str> = Vec::new();
    let mut is_after_key = false;
    for line in documented.lines() {
        let line = line.trim_end();
        if let Some(words) = line.strip_prefix('#') {
            // A rule with a word at its end parts the file for readers of the file.
            if !words.starts_with(" ---") {
                if is_after_key {
                    comment.clear();
                }
                comment.push(words.strip_prefix(' ').unwrap_or(words));
            }
            is_after_key = false;
        } else if let Some(name) = line.strip_prefix('[') {
            is_list = name.starts_with('[');
            section = name.trim_matches(['[', ']']).to_owned();
            text.push_str(&format!("\n## {}\n\n", line));
            paragraphs(&mut text, &comment);
            comment.clear();
            is_after_key = false;
        } else if let Some((key, value)) = line.split_once(" = ") {
            let place = if is_list { format!("{section}.0.{key}") } else { format!("{section}.{key}") };
            let variable = match is_list {
                true => String::new(),
                false => {
                    format!(", `GATEWAY_{}__{}`", section.to_uppercase(), key.to_uppercase())
                }
            };
            text.push_str(&format!("\n### `{key}`\n\nDefault `{value}`; `--set {place}=...`{variable}.\n\n"));
            paragraphs(&mut text, &comment);
            is_after_key = true;
        } else if line.is_empty() {
            if section.is_empty() {
                text.push('\n');
                paragraphs(&mut text, &comment);
            }
            comment.clear();
            is_after_key = false;
        }
    }
    text
}

/// Lines as they are; those that are indented, tables of words, stay so.
fn paragraphs(text: &mut String, comment: &[&str]) {
    let mut is_code = false;
    for line in comment {
        let indented = line.starts_with("  ");
        if indented && !is_code {
            text.push('\n');
        }
        if indented {
            text.push_str("    ")
        } else if is_code {
            text.push('\n')
        }
        is_code = indented;
        text.push_str(line.trim_start_matches("  "));
        text.push('\n');
    }
}

/// The completions of a shell.
pub(crate) fn completions(shell: Shell, out: &mut dyn io::Write) {
    clap_complete::generate(shell, &mut Cli::command(), "gateway", out);
}

/// Writes a page for each command into a directory, `gateway.1`, `gateway-run.1` and so on.
pub(crate) fn man_pages(to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    clap_mangen::generate_to(Cli::command(), to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway::config::{Config, DEFAULT_TOML, LoadOptions};

    #[test]
    fn every_key_stands_in_the_reference_with_its_default_and_a_meaning() {
        let reference = reference(DEFAULT_TOML);
        let (_, settings) = Config::load_with_settings(LoadOptions::default()).unwrap();
        let mut keys = 0;
        for setting in settings.iter() {
            let heading = format!("### `{}`\n\nDefault `", setting.key);
            let (_, after) = reference.split_once(&heading).unwrap_or_else(|| panic!("{}", setting.key));
            let meaning = after.split("\n### ").next().unwrap().lines().skip(1).find(|line| !line.is_empty());
            assert!(meaning.is_some(), "{} has no meaning", setting.key);
            keys += 1;
        }
        assert!(keys > 40, "{keys}");
        assert!(reference.contains("`GATEWAY_STORAGE__DURABILITY`"), "{reference}");
        assert!(reference.contains("\n## [[listener]]\n"));
    }

    #[test]
    fn shells_complete_and_man_has_a_page_for_each_command() {
        let mut script = Vec::new();
        completions(Shell::Bash, &mut script);
        assert!(String::from_utf8(script).unwrap().contains("dead-letters"));
        let dir = tempfile::tempdir().unwrap();
        man_pages(dir.path()).unwrap();
        for page in ["gateway.1", "gateway-run.1", "gateway-clients-show.1"] {
            let text = std::fs::read_to_string(dir.path().join(page)).unwrap();
            assert!(text.contains(".TH"), "{page}");
        }
    }
}
