//! Exit statuses: our own, and that of a command which was run for somebody.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};

/// What was asked for failed.
pub const FAILED: u8 = 1;
/// The command line is wrong (clap's own).
pub const USAGE: u8 = 2;
/// The nodes (or libvirt) did not get ready, so that the command was never run: EX_UNAVAILABLE of sysexits.h, which hardly
/// a test program uses.
pub const NOT_READY: u8 = 69;
/// The command was found and could not be run; as a shell has it.
pub const NOT_EXECUTABLE: u8 = 126;
/// The command was not found; as a shell has it.
pub const NOT_FOUND: u8 = 127;
/// Told to stop: 128 and the signal's number, as a shell has it (SIGTERM).
pub const INTERRUPTED: u8 = 143;
/// Killed: 128 and the signal's number (SIGKILL).
pub const KILLED: u8 = 137;

/// A command's exit code; of one that a signal ended, 128 and the signal's number, as a shell has it.
pub fn of(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(FAILED))
}
