//! What is started for a broker: its command and its files, placeholders still in them.

use std::path::PathBuf;

use crate::scenario::BrokerSpec;
use crate::scenario::broker::Program;

/// Everything is accepted, and stored as Debian's package stores it; nothing is bounded that a run would meet.
const MOSQUITTO: &str = "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\n\
                         persistence_location {dir}/\nset_tcp_nodelay true\nmax_inflight_messages 1000\n\
                         max_queued_messages 0\nlog_type error\nlog_type warning\nuser root\n";

/// The command and the files of a broker.
pub(super) fn command(spec: &BrokerSpec) -> (Vec<String>, Vec<(String, String)>) {
    let mut files = spec.files.clone();
    let command = match &spec.program {
        Program::Gateway { settings } => {
            let arguments = [
                "run",
                "--listen",
                "127.0.0.1:{port}",
                "--admin",
                "127.0.0.1:{admin}",
                "--data-dir",
                "{dir}/data",
            ];
            let given = std::env::var_os("GATEWAY_BIN").map(PathBuf::from);
            let mut command = vec![given.unwrap_or_else(|| find("gateway")).display().to_string()];
            command.extend(arguments.map(str::to_owned));
            command.extend(["--set", "log.level=warn"].map(str::to_owned));
            if files.iter().any(|(name, _)| name == "gateway.toml") {
                command.extend(["--config", "{dir}/gateway.toml"].map(str::to_owned));
            }
            command.extend(settings.iter().flat_map(|setting| ["--set".to_owned(), setting.clone()]));
            command
        }
        Program::Mosquitto => {
            if files.iter().all(|(name, _)| name != "mosquitto.conf") {
                files.push(("mosquitto.conf".to_owned(), MOSQUITTO.to_owned()));
            }
            vec![find("mosquitto").display().to_string(), "-c".to_owned(), "{dir}/mosquitto.conf".to_owned()]
        }
        Program::Command(command) => command.clone(),
    };
    (command, files)
}

/// A program: beside this one, in the search path, or where Debian has programs for administrators; otherwise its bare
/// name, so that the error says what was not found.
fn find(name: &str) -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.to_owned()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = beside.into_iter().chain(std::env::split_paths(&path)).chain(["/usr/sbin".into()]);
    places.map(|place| place.join(name)).find(|program| program.is_file()).unwrap_or_else(|| name.into())
}
