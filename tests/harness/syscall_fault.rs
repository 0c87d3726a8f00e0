//! System calls of a running program that fail, or take their time, from outside: `strace -e inject`.

use std::path::Path;

use crate::{Program, TIMEOUT};

/// A fault that lasts until this is dropped.
pub struct SyscallFault {
    tracer: Program,
}

impl SyscallFault {
    /// From now on, system calls of the process fail as `fault` says, in the words of `strace -e inject`:
    /// `fdatasync:error=EIO`, `fdatasync:delay_exit=400000` (microseconds). With `path`, only those on that file.
    ///
    /// # Panics
    /// When strace is not installed, or may not trace the process.
    #[must_use]
    pub fn begin(process: u32, path: Option<&Path>, fault: &str) -> Self {
        let calls = fault.split(':').next().unwrap_or(fault);
        let (process, trace, inject) =
            (process.to_string(), format!("trace={calls}"), format!("inject={fault}"));
        let mut arguments = vec!["-f", "-o", "/dev/null", "-p", &process, "-e", &trace, "-e", &inject];
        if let Some(path) = path {
            arguments.extend(["-P", path.to_str().expect("a path in UTF-8")]);
        }
        let tracer = Program::start("strace", &arguments);
        let attached = tracer.errors.wait_for(0, TIMEOUT, |line| line.contains("attached"));
        assert!(attached.is_some(), "strace (Debian: strace) cannot trace: {:#?}", tracer.errors.lines());
        Self { tracer }
    }

    /// The end of the fault.
    pub fn end(mut self) {
        self.tracer.stop();
    }
}
