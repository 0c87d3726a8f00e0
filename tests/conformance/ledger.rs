//! Holds a ledger (`ledger/<name>.tsv`) to the tests that it names and, where that is at hand, to the list of statements.
//!
//! A ledger has one line for each statement that binds a server: its id, who is bound (`server` or `both`), `tested` or
//! `not_applicable`, and then the tests, comma separated, as paths below the version's module
//! (`s3_1_connect::mqtt_3_1_2_4_clean_start_discards_the_session`), or the reason. The list of statements is no part of
//! this repository; if it lies beside it, the ids are compared with it too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const HEADER: &str = "id\twho\tstatus\ttests or reason";

/// Checks the ledger of `mqtt5` or `mqtt311` and prints its totals.
///
/// # Panics
/// With all that is wrong with it.
pub(crate) fn check(name: &str) {
    let module = name.replace("mqtt", "v");
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
    let ledger = read(&here.join("ledger").join(format!("{name}.tsv")));
    let statements = shared().map(|dir| read(&dir.join(format!("{name}.tsv"))));
    let mut tests = BTreeSet::new();
    collect_tests(&here.join(&module), "", &mut tests);
    let report = examine(&ledger, &tests, statements.as_deref());
    println!(
        "{name}: {} tested, {} not applicable, {} missing",
        report.tested,
        report.not_applicable,
        report.missing.len()
    );
    assert!(
        report.missing.is_empty() && report.faults.is_empty(),
        "ledger/{name}.tsv: missing {:#?}, faults {:#?}",
        report.missing,
        report.faults
    );
}

/// Where the lists of statements are, on a machine that has them.
fn shared() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance");
    dir.is_dir().then_some(dir)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[derive(Debug, Default, PartialEq)]
struct Report {
    tested: usize,
    not_applicable: usize,
    /// Statements without a line.
    missing: Vec<String>,
    faults: Vec<String>,
}

/// Judges a ledger by the tests that exist and, if given, by the list of statements.
fn examine(ledger: &str, tests: &BTreeSet<String>, statements: Option<&str>) -> Report {
    let mut report = Report::default();
    let mut bound = BTreeMap::new();
    let mut named = BTreeSet::new();
    let mut lines = ledger.lines();
    if lines.next() != Some(HEADER) {
        report.faults.push(format!("the first line is not {HEADER:?}"));
    }
    for line in lines {
        let fields: Vec<_> = line.split('\t').collect();
        let &[id, who, status, what] = fields.as_slice() else {
            report.faults.push(format!("not four fields: {line:?}"));
            continue;
        };
        if bound.insert(id, who).is_some() {
            report.faults.push(format!("{id}: twice"));
        }
        if !matches!(who, "server" | "both") {
            report.faults.push(format!("{id}: {who:?} is not a server"));
        }
        match status {
            "tested" => {
                report.tested += 1;
                for test in what.split(',') {
                    named.insert(test.to_owned());
                    if !tests.contains(test) {
                        report.faults.push(format!("{id}: there is no test {test:?}"));
                    }
                }
            }
            "not_applicable" if what.split_whitespace().count() > 2 => report.not_applicable += 1,
            "not_applicable" => report.faults.push(format!("{id}: {what:?} is no reason")),
            _ => report.faults.push(format!("{id}: {status:?} is no status")),
        }
    }
    let unnamed = tests.iter().filter(|test| is_named_after_a_statement(test) && !named.contains(*test));
    report.faults.extend(unnamed.map(|test| format!("{test}: no statement names it")));
    if let Some(statements) = statements {
        compare(&bound, statements, &mut report);
    }
    report
}

/// Compares ids and who is bound with the list of statements: id, anything, who.
fn compare(bound: &BTreeMap<&str, &str>, statements: &str, report: &mut Report) {
    let of_servers: BTreeMap<_, _> = statements
        .lines()
        .skip(1)
        .filter_map(|line| Some((line.split('\t').next()?, line.rsplit('\t').next()?)))
        .filter(|(_, who)| matches!(*who, "server" | "both"))
        .collect();
    for (id, who) in &of_servers {
        match bound.get(id) {
            None => report.missing.push((*id).to_owned()),
            Some(said) if said != who => report.faults.push(format!("{id}: binds {who}, not {said}")),
            Some(_) => {}
        }
    }
    let unknown = bound.keys().filter(|id| !of_servers.contains_key(*id));
    report.faults.extend(unknown.map(|id| format!("{id}: no such statement binds a server")));
}

fn is_named_after_a_statement(test: &str) -> bool {
    test.rsplit("::").next().is_some_and(|name| name.starts_with("mqtt_"))
}

/// Every `#[test]` in the sources under `dir`, as a path below it.
fn collect_tests(dir: &Path, prefix: &str, tests: &mut BTreeSet<String>) {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    for path in entries.map(|entry| entry.unwrap().path()) {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let module = if stem == "mod" { prefix.to_owned() } else { format!("{prefix}{stem}::") };
        if path.is_dir() {
            collect_tests(&path, &module, tests);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            tests.extend(tests_in(&read(&path)).map(|test| format!("{module}{test}")));
        }
    }
}

/// The functions right below a `#[test]`.
fn tests_in(source: &str) -> impl Iterator<Item = &str> {
    let lines = source.lines().map(str::trim);
    lines.clone().zip(lines.skip(1)).filter_map(|(above, line)| {
        let name = line.strip_prefix("fn ").filter(|_| above == "#[test]")?;
        name.split_once('(').map(|(name, _)| name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATEMENTS: &str = "id\tparaphrase\twho\nX-1\t.\tboth\nX-2\t.\tclient\nX-3\t.\tserver\n";

    fn examine_lines(lines: &[&str]) -> Report {
        let tests = tests_in("#[test]\nfn mqtt_x_1() {\nfn helper() {\n    #[test]\n    fn other() {\n");
        let tests = tests.map(|test| format!("s1::{test}")).collect();
        examine(&format!("{HEADER}\n{}", lines.join("\n")), &tests, Some(STATEMENTS))
    }

    #[test]
    fn a_complete_ledger_passes() {
        let report = examine_lines(&[
            "X-1\tboth\ttested\ts1::mqtt_x_1,s1::other",
            "X-3\tserver\tnot_applicable\tit never sends one",
        ]);
        assert_eq!(report, Report { tested: 1, not_applicable: 1, ..Report::default() });
    }

    #[test]
    fn what_is_missing_unknown_or_twice_is_found() {
        let report = examine_lines(&[
            "X-1\tboth\ttested\ts1::mqtt_x_9",
            "X-1\tserver\tnot_applicable\tno",
            "X-2\tclient\ttested\ts1::helper",
            "X-4\tboth\tpending\ts1::other",
            "X-5\tboth",
        ]);
        assert_eq!(report.missing, ["X-3"]);
        assert_eq!(
            report.faults,
            [
                "X-1: there is no test \"s1::mqtt_x_9\"",
                "X-1: twice",
                "X-1: \"no\" is no reason",
                "X-2: \"client\" is not a server",
                "X-2: there is no test \"s1::helper\"",
                "X-4: \"pending\" is no status",
                "not four fields: \"X-5\\tboth\"",
                "s1::mqtt_x_1: no statement names it",
                "X-1: binds both, not server",
                "X-2: no such statement binds a server",
                "X-4: no such statement binds a server",
            ]
        );
    }
}
