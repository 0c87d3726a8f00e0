//! `gateway storage ...`: its options, and what it says.

use std::fmt;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use gateway::config::format_size;
use gateway_storage::Offset;
use gateway_storage::offline::{BackupReport, ExportReport, Finding, LogFormat, RepairReport, VerifyReport};

use super::ConfigArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum StorageCommand {
    /// Read the whole store of a gateway that does not run, and list what is wrong with it. Nothing is changed. Exit
    /// status 0 when nothing is wrong, 1 when something is, or when it cannot be read.
    ///
    /// Every group and entry of the log, every value of the view and every checkpoint is read and compared with its
    /// checksum. Parts kept in sled are read from a copy in the temporary directory (TMPDIR), which needs room for it.
    Verify(StoreArgs),
    /// Mend what `verify` lists, as far as it can be mended. Each step is printed before it is done. Exit status 0 when
    /// the store is whole afterwards, 1 when not.
    ///
    /// A write that a crash interrupted is cut off the end of the log; damaged headers of its files are written again;
    /// a view or checkpoint that cannot be used is renamed to `...broken`, never removed. Where neither view nor
    /// checkpoint can be used and the log has been trimmed, an empty checkpoint is written, so that the gateway starts
    /// with the events the log still has; sessions, subscriptions, Retained Messages and pending deliveries are given up
    /// then. Damaged groups stay where they are; readers pass over them. A gateway needs no repair to start after a
    /// crash or a power cut.
    Repair(StoreArgs),
    /// Copy the store to a new directory, also while a gateway runs on it. Exit status 0 when the copy is whole.
    ///
    /// Everything that was acknowledged before it began is in the copy. It holds the log and the newest checkpoints, and is read as a whole
    /// before it gets its name. To restore it, start a gateway on it (`--data-dir`), or on a copy of it: sessions, subscriptions and Retained
    /// Messages follow from it. Not for a log in sled.
    Backup {
        #[command(flatten)]
        store: StoreArgs,
        /// The new directory; it must not exist
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
    /// Write the events of the log to standard output, a JSON object to a line, and what could not be read to standard
    /// error. Exit status 0 when everything was read.
    ///
    /// A line has offset, time (RFC 3339, when it was stored), client_id, topic, qos, retain, and the message as payload
    /// where it is UTF-8, as payload_base64 where it is not; properties_hex are the MQTT 5 properties as on the wire.
    Export {
        #[command(flatten)]
        store: StoreArgs,
        /// Offset of the first event, or `earliest`
        #[arg(long, value_name = "OFFSET", default_value = "earliest")]
        from: From,
        /// Offset of the first event not to be written [default: the end of the log]
        #[arg(long, value_name = "OFFSET")]
        to: Option<u64>,
    },
}

/// Which store.
#[derive(Args, Debug)]
pub(crate) struct StoreArgs {
    /// Data directory of the store; no configuration is read then. Without it: what the configuration says
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Configuration file (TOML) that names it [storage.data_dir]
    #[arg(long, value_name = "FILE", conflicts_with = "data_dir")]
    config: Option<PathBuf>,
}

impl StoreArgs {
    /// Where the configuration comes from that names the data directory.
    pub(crate) fn into_config_args(self) -> ConfigArgs {
        ConfigArgs { config: self.config, data_dir: None, listen: None, admin: None, sets: Vec::new() }
    }
}

/// Where an export begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct From(pub(crate) Option<Offset>);

impl std::str::FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "earliest" => Ok(Self(None)),
            _ => match text.parse() {
                Ok(offset) => Ok(Self(Some(Offset::new(offset)))),
                Err(_) => Err("expected an offset, or `earliest`".to_owned()),
            },
        }
    }
}

/// What `verify` says.
pub(crate) struct Verified<'a>(pub(crate) &'a VerifyReport);

impl fmt::Display for Verified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let VerifyReport { data_dir, log, view, checkpoints, findings, findings_not_listed, .. } = self.0;
        writeln!(f, "store in {}", data_dir.display())?;
        let size = format_size(log.bytes);
        match log.format {
            None => writeln!(f, "  log          none")?,
            Some(LogFormat::Segments) => {
                writeln!(f, "  log          segments, {size} in {}", count(log.files as u64, "file"))?;
            }
            Some(LogFormat::Sled) => writeln!(f, "  log          sled, {size} of groups")?,
        }
        if log.format.is_some() {
            let entries = if log.entries == 1 { "entry" } else { "entries" };
            writeln!(
                f,
                "               offsets {} up to {}: {} {entries} can be read, {} of them events; {} cannot",
                log.earliest, log.end, log.entries, log.events, log.lost
            )?;
        }
        match view {
            Some(applied) => writeln!(f, "  view         applied up to offset {applied}")?,
            None if findings.iter().any(is_about_view) => {
                writeln!(f, "  view         none that can be used")?
            }
            None => writeln!(f, "  view         nothing is saved in it; the next start makes it anew")?,
        }
        if checkpoints.is_empty() {
            writeln!(f, "  checkpoint   none")?;
        }
        for checkpoint in checkpoints {
            let (applied, size) = (checkpoint.applied, format_size(checkpoint.bytes));
            writeln!(f, "  checkpoint   at offset {applied}, {}, {size}", count(checkpoint.rows, "row"))?;
        }
        if self.0.is_whole() {
            let is_empty = log.format.is_none() && view.is_none() && checkpoints.is_empty();
            return f.write_str(if is_empty { "nothing is stored here" } else { "the store is whole" });
        }
        let all = findings.len() as u64 + findings_not_listed;
        write!(f, "the store is not whole, {} found:", count(all, "fault"))?;
        for finding in findings {
            write!(f, "\n  - {finding}")?;
        }
        if *findings_not_listed > 0 {
            write!(f, "\n  and {findings_not_listed} more, not listed")?;
        }
        match findings.iter().filter(|finding| finding.is_mendable()).count() {
            0 => write!(
                f,
                "\n`gateway storage repair` can mend none of this; the gateway passes over what is lost"
            ),
            mendable => write!(f, "\n`gateway storage repair` can mend {mendable} of them"),
        }
    }
}

/// What `backup` says at its end.
pub(crate) struct BackedUp<'a>(pub(crate) &'a BackupReport);

impl fmt::Display for BackedUp<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BackupReport { to, bytes, end, verified } = self.0;
        writeln!(f, "{} copied to {}, up to offset {end}", format_size(*bytes), to.display())?;
        Verified(verified).fmt(f)
    }
}

/// What `repair` says at its end.
pub(crate) struct Repaired<'a>(pub(crate) &'a RepairReport);

impl fmt::Display for Repaired<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.done.len() as u64 {
            0 if self.0.after.is_whole() => writeln!(f, "there was nothing to mend")?,
            0 => writeln!(f, "nothing could be mended; the store is as it was")?,
            steps => writeln!(f, "{} done; the store is now as follows", count(steps, "step"))?,
        }
        Verified(&self.0.after).fmt(f)
    }
}

/// What `export` says on standard error.
pub(crate) struct Exported<'a>(pub(crate) &'a ExportReport);

impl fmt::Display for Exported<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ExportReport { events, from, to, missing, missing_count } = self.0;
        write!(f, "{} written, from offsets {from} up to {to}", count(*events, "event"))?;
        if *missing_count > 0 {
            write!(
                f,
                "; {} could not be read:",
                match missing_count {
                    1 => "1 stretch of it".to_owned(),
                    more => format!("{more} stretches of it"),
                }
            )?;
        }
        for finding in missing {
            write!(f, "\n  - {finding}")?;
        }
        match missing_count - missing.len() as u64 {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more, not listed"),
        }
    }
}

fn is_about_view(finding: &Finding) -> bool {
    matches!(finding, Finding::ViewUnusable(_) | Finding::ViewBehind { .. })
}

fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Command};
    use super::*;

    fn parse(arguments: &[&str]) -> Result<StorageCommand, clap::Error> {
        let cli = Cli::try_parse_from(["gateway", "storage"].iter().chain(arguments))?;
        let Command::Storage(command) = cli.command else { panic!("not storage") };
        Ok(command)
    }

    #[test]
    fn an_export_takes_offsets_and_the_word_earliest() {
        let exported = |arguments: &[&str]| match parse(arguments) {
            Ok(StorageCommand::Export { from: From(from), to, .. }) => (from.map(Offset::get), to),
            other => panic!("{other:?}"),
        };
        assert_eq!(exported(&["export"]), (None, None));
        assert_eq!(exported(&["export", "--from", "earliest", "--to", "9"]), (None, Some(9)));
        assert_eq!(exported(&["export", "--from", "7"]), (Some(7), None));
        let refused = parse(&["export", "--from", "latest"]).unwrap_err().to_string();
        assert!(refused.contains("expected an offset, or `earliest`"), "{refused}");
    }

    #[test]
    fn a_data_directory_and_a_configuration_that_names_one_exclude_each_other() {
        assert!(parse(&["verify", "--data-dir", "a", "--config", "b"]).is_err());
        assert!(matches!(parse(&["repair", "--config", "b"]), Ok(StorageCommand::Repair(_))));
    }

    #[test]
    fn a_whole_store_is_said_to_be_whole_and_one_that_is_not_says_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let said = Verified(&gateway_storage::offline::verify(dir.path()).unwrap()).to_string();
        assert!(said.ends_with("nothing is stored here"), "{said}");
        let log = dir.path().join("log");
        std::fs::create_dir(&log).unwrap();
        std::fs::write(log.join(format!("{:020}.log", 0)), [7; 10]).unwrap();
        let said = Verified(&gateway_storage::offline::verify(dir.path()).unwrap()).to_string();
        assert!(said.contains("the store is not whole, 1 fault found:\n  - "), "{said}");
        assert!(said.ends_with("`gateway storage repair` can mend 1 of them"), "{said}");
        let repaired = gateway_storage::offline::repair(dir.path(), &mut |_| {}).unwrap();
        let said = Repaired(&repaired).to_string();
        assert!(said.starts_with("1 step done") && said.ends_with("the store is whole"), "{said}");
    }
}
