//! `--report FORM [--out FILE]`, several times: which forms of the report go where.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, ValueEnum, value_parser};

use crate::command::CommandError;
use crate::report::{Report, html, junit, text};

/// A form of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// For people at a terminal.
    Text,
    /// For programs; the form is stable.
    Json,
    /// One page with plots, complete in itself.
    Html,
    /// For a CI: one case for each promise and gate.
    Junit,
}

/// The forms that were asked for and where each goes; none is standard output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ReportArgs(Vec<(Form, Option<PathBuf>)>);

impl Args for ReportArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        command
            .arg(
                Arg::new("report")
                    .long("report")
                    .value_name("FORM")
                    .action(ArgAction::Append)
                    .value_parser(value_parser!(Form))
                    .default_value("text")
                    .help("A form of the report; may be given several times"),
            )
            .arg(
                Arg::new("out")
                    .long("out")
                    .value_name("FILE")
                    .action(ArgAction::Append)
                    .value_parser(value_parser!(PathBuf))
                    .help("The file of the --report before it, instead of standard output"),
            )
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ReportArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let forms = matches.get_many::<Form>("report").unwrap_or_default().copied();
        let at = matches.indices_of("report").unwrap_or_default();
        let is_default = matches.value_source("report") == Some(ValueSource::DefaultValue);
        // What is a default stands nowhere; it is before everything.
        let at = at.map(|index| if is_default { 0 } else { index });
        let mut wanted: Vec<(usize, Form, Option<PathBuf>)> =
            at.zip(forms).map(|(at, form)| (at, form, None)).collect();
        let files = matches.get_many::<PathBuf>("out").unwrap_or_default();
        for (at, file) in matches.indices_of("out").unwrap_or_default().zip(files) {
            let before = wanted.iter_mut().rev().find(|(form_at, ..)| *form_at < at);
            match before {
                Some((_, _, place @ None)) => *place = Some(file.clone()),
                _ => {
                    let sentence = format!("--out {}: there is no --report FORM before it\n", file.display());
                    return Err(clap::Error::raw(clap::error::ErrorKind::MissingRequiredArgument, sentence));
                }
            }
        }
        Ok(ReportArgs(wanted.into_iter().map(|(_, form, file)| (form, file)).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl ReportArgs {
    /// Makes sure that every file can be written, before an hour is spent on what would go into it.
    pub(super) fn check(&self) -> Result<(), CommandError> {
        for file in self.0.iter().filter_map(|(_, file)| file.as_deref()) {
            let opened = OpenOptions::new().create(true).append(true).open(file);
            opened
                .map_err(|error| CommandError::Usage(format!("cannot write {}: {error}", file.display())))?;
        }
        Ok(())
    }

    /// Writes every form to its place. What nobody asked for on standard output is a text for whoever waited.
    pub(super) fn write(&self, report: &Report) -> Result<(), CommandError> {
        for (form, file) in &self.0 {
            let rendered = form.render(report)?;
            match file {
                Some(file) => write_file(file, &rendered).map_err(|error| {
                    CommandError::CouldNotRun(format!("cannot write {}: {error}", file.display()))
                })?,
                None => print(&rendered)?,
            }
        }
        match self.0.iter().all(|(_, file)| file.is_some()) {
            true => print(&text::render(report)),
            false => Ok(()),
        }
    }
}

impl Form {
    fn render(self, report: &Report) -> Result<String, CommandError> {
        Ok(match self {
            Form::Text => text::render(report),
            Form::Html => html::render(report),
            Form::Junit => junit::render(report),
            Form::Json => {
                serde_json::to_string_pretty(report)
                    .map_err(|error| CommandError::CouldNotRun(format!("cannot write the report: {error}")))?
                    + "\n"
            }
        })
    }
}

fn write_file(file: &Path, text: &str) -> io::Result<()> {
    let mut out = File::create(file)?;
    out.write_all(text.as_bytes())
}

fn print(text: &str) -> Result<(), CommandError> {
    let written = io::stdout().lock().write_all(text.as_bytes());
    written.map_err(|error| CommandError::CouldNotRun(format!("cannot write the report: {error}")))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Probe {
        #[command(flatten)]
        reports: ReportArgs,
    }

    fn read(arguments: &str) -> Result<Vec<(Form, Option<PathBuf>)>, clap::Error> {
        let words = ["probe"].into_iter().chain(arguments.split_whitespace());
        Ok(Probe::try_parse_from(words)?.reports.0)
    }

    #[test]
    fn each_form_goes_to_the_file_behind_it() {
        assert_eq!(read("").unwrap(), [(Form::Text, None)]);
        assert_eq!(read("--out a").unwrap(), [(Form::Text, Some("a".into()))]);
        assert_eq!(read("--report json").unwrap(), [(Form::Json, None)]);
        assert_eq!(
            read("--report html --out a.html --report text --report junit --out b.xml").unwrap(),
            [(Form::Html, Some("a.html".into())), (Form::Text, None), (Form::Junit, Some("b.xml".into()))]
        );
        for wrong in ["--out a --report json", "--report json --out a --out b", "--report morse"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
