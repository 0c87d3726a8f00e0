//! `device-sim scenarios`: what comes with the program; and finding a scenario by name or path.

use std::io::{self, Write};
use std::path::Path;

use clap::{Args, Subcommand};

use crate::command::CommandError;
use crate::report::Verdict;
use crate::scenario::{Scenario, builtin};

/// The largest scenario file that is read.
const SCENARIO_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Args)]
pub(super) struct ScenariosArgs {
    #[command(subcommand)]
    command: ScenariosCommand,
}

#[derive(Debug, Subcommand)]
enum ScenariosCommand {
    /// Name what comes with the program.
    List,
    /// Print one: the file, to be changed and run.
    Show {
        /// Its name.
        name: String,
    },
}

pub(super) fn run(args: &ScenariosArgs) -> Result<Verdict, CommandError> {
    let text = match &args.command {
        ScenariosCommand::List => builtin::ALL.iter().map(line).collect(),
        ScenariosCommand::Show { name } => builtin(name)?.text.to_owned(),
    };
    let unwritable = |error| CommandError::CouldNotRun(format!("cannot write: {error}"));
    io::stdout().lock().write_all(text.as_bytes()).map_err(unwritable)?;
    Ok(Verdict::Kept)
}

fn line(one: &builtin::Builtin) -> String {
    let about = Scenario::parse(one.text).map(|scenario| scenario.about).unwrap_or_default();
    format!("{:<18} {about}\n", one.name)
}

/// Reads a scenario: a file, or one that comes with the program.
pub(super) fn read(path: &Path) -> Result<Scenario, CommandError> {
    let name = path.display().to_string();
    let is_name = !path.exists() && path.components().count() == 1 && path.extension().is_none();
    let text = if is_name { builtin(&name)?.text.to_owned() } else { file(path, &name)? };
    Scenario::parse(&text)
        .map_err(|faults| CommandError::Usage(format!("{name} cannot be run:\n{}", faults.of_file(&name))))
}

fn file(path: &Path, name: &str) -> Result<String, CommandError> {
    let unreadable = |error: io::Error| CommandError::Usage(format!("cannot read {name}: {error}"));
    if std::fs::metadata(path).map_err(unreadable)?.len() > SCENARIO_BYTES_MAX {
        return Err(CommandError::Usage(format!("{name} is larger than {SCENARIO_BYTES_MAX} bytes")));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

fn builtin(name: &str) -> Result<&'static builtin::Builtin, CommandError> {
    builtin::by_name(name).ok_or_else(|| {
        let nearest =
            builtin::nearest(name).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        CommandError::Usage(format!(
            "there is no file and no scenario `{name}`{nearest} (`device-sim scenarios list` names them)"
        ))
    })
}
