//! Where the programs under test are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The `gateway` program: `GATEWAY_BIN` if that is set; else the one beside the running test, brought up to date by
/// Cargo first, so that no test ever runs against yesterday's build.
pub fn gateway() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| find("GATEWAY_BIN", "gateway"))
}

/// The `device-sim` program, found in the same way: `DEVICE_SIM_BIN`.
pub fn device_sim() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| find("DEVICE_SIM_BIN", "device-sim"))
}

fn find(variable: &str, package: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(path) => {
            let path = PathBuf::from(path);
            assert!(path.is_file(), "{variable} is {}, which is no file", path.display());
            path
        }
        None => build(variable, package),
    }
}

fn build(variable: &str, package: &str) -> PathBuf {
    // target/<profile>/deps/<test>
    let test = std::env::current_exe().expect("the running test has a path");
    let profile = test.parent().and_then(Path::parent).expect("tests lie in <target>/<profile>/deps");
    let target = profile.parent().expect("a profile lies in a target directory");
    let program = profile.join(package);
    if !program.is_file() {
        eprintln!("{} is missing: building it with `cargo build -p {package}`", program.display());
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "-p", package, "--target-dir"]).arg(target);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo can be run");
    assert!(status.success(), "`cargo build -p {package}`: {status}; or set {variable} to the program");
    program
}
