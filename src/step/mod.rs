//! The steps of a build: `put` boots (or ends) a cluster, `get` writes what later steps reach it by.

use std::io::Write as _;
use std::process::ExitCode;

use crate::buildlog::BuildLog;
use crate::concourse::{Response, call::CallError};
use crate::fault::{Fault, tell};

pub mod get;
pub mod metadata;
pub mod put;

/// Runs a step as Concourse wants it: the answer alone on stdout, everything else on stderr.
pub fn run(log: &BuildLog, step: impl FnOnce(&BuildLog) -> Result<Response, Box<dyn Fault>>) -> ExitCode {
    let answered = step(log).and_then(|response| {
        let line = response
            .to_line()
            .map_err(|error| CallError::Unwritable(error.into()))?;
        std::io::stdout()
            .write_all(line.as_bytes())
            .map_err(CallError::Unwritable)?;
        Ok(())
    });
    match answered {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            log.error(&tell(fault.as_ref()));
            ExitCode::FAILURE
        }
    }
}
