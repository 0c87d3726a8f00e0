//! `[broker]`: a broker that the scenario starts itself, and may therefore kill, stop, or leave without a disk.

use super::phase::{Disturbance, PhaseSpec};
use super::section::Section;

/// The least room of a file system of its own.
const DISK_BYTES_MIN: u64 = 1 << 20;

/// How a broker is started.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerSpec {
    /// The program.
    pub program: Program,
    /// Files written into its directory before it starts: name and content, placeholders filled in.
    pub files: Vec<(String, String)>,
    /// If it gets a file system of its own, how large; what it has to fill for a full disk.
    pub disk_bytes: Option<u64>,
    /// The part of one processor that it gets, if not all that there is.
    pub cpu: Option<f64>,
}

/// What is started. In commands and files `{port}` and `{admin}` stand for free ports that stay the same over restarts,
/// `{dir}` for the broker's own directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// This product's gateway: the program that `GATEWAY_BIN` names, the one beside this one, or in the search path.
    Gateway {
        /// `section.key=value` each.
        settings: Vec<String>,
    },
    /// Eclipse Mosquitto with persistence, as Debian installs it.
    Mosquitto,
    /// Any other: a program and its arguments.
    Command(Vec<String>),
}

impl BrokerSpec {
    /// A program as it comes.
    pub fn of(program: Program) -> Self {
        BrokerSpec { program, files: Vec::new(), disk_bytes: None, cpu: None }
    }
}

/// The names of what needs no command.
pub(super) const NAMED: [(&str, bool); 2] = [("gateway", true), ("mosquitto", false)];

/// The broker of a scenario, if it starts one: because it says how, or because a phase does something to it.
pub(super) fn broker(top: &Section<'_>, phases: &[PhaseSpec]) -> Option<BrokerSpec> {
    let needed = phases.iter().any(|phase| matches!(phase.disturbance, Some(Disturbance::Broker(_))));
    if !top.has("broker") {
        return needed.then(|| BrokerSpec::of(Program::Gateway { settings: Vec::new() }));
    }
    let section = top.section("broker");
    let program = program(&section);
    let files = section.section("files");
    let mut written = Vec::new();
    for (name, content) in files.entries() {
        match content.as_str() {
            _ if name.is_empty() || name.contains('/') || name.starts_with('.') => {
                files.fault(name, "must be a plain file name");
            }
            Some(content) => written.push((name.clone(), content.to_owned())),
            None => files.fault(name, "must be the file's content in quotes"),
        }
    }
    let disk_bytes = section.optional::<String>("disk").map(|text| bytes(&section, &text));
    let cpu = section.has("cpu").then(|| section.number("cpu", 1.0, 0.01, 0.99));
    section.finish();
    Some(BrokerSpec { program, files: written, disk_bytes, cpu })
}

fn program(section: &Section<'_>) -> Program {
    let settings: Vec<String> = section.or("settings", Vec::new());
    let command: Option<Vec<String>> = section.optional("command");
    if let Some(command) = command {
        if command.is_empty() {
            section.fault("command", "names no program");
        }
        for other in ["start", "settings"].into_iter().filter(|other| section.has(other)) {
            section.fault(other, "goes with a named program, and `command` is another one");
        }
        let _ = section.raw("start");
        return Program::Command(command);
    }
    match section.choice("start", &NAMED, true) {
        true => Program::Gateway { settings },
        false => {
            if !settings.is_empty() {
                section.fault("settings", "are the gateway's");
            }
            Program::Mosquitto
        }
    }
}

/// `96MiB`.
fn bytes(section: &Section<'_>, text: &str) -> u64 {
    let unit_at = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let unit = match unit {
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1_u64 << 30),
        _ => None,
    };
    let bytes =
        number.trim().parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    match bytes {
        Some(bytes) if bytes >= DISK_BYTES_MIN => bytes,
        Some(_) => {
            section.fault("disk", "must be at least 1MiB");
            DISK_BYTES_MIN
        }
        None => {
            section.fault("disk", &format!("`{text}` is not a size: write a number and KiB, MiB or GiB"));
            DISK_BYTES_MIN
        }
    }
}
