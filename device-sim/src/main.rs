//! `device-sim`: see the library for what it does and [`device_sim::cli`] for what can be asked of it.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    // On a worker rather than on this thread: the ticker wakes many devices at once, and from a worker that costs no
    // system call.
    match tokio::spawn(device_sim::cli::main()).await {
        Ok(code) => code,
        // A panic; its message is on standard error already.
        Err(_) => ExitCode::from(3),
    }
}
