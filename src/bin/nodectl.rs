//! `nodectl`: for people and tasks.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use clap_complete::env::CompleteEnv;
use libvirt_resource::buildlog::BuildLog;
use libvirt_resource::cli::complete::VARIABLE;
use libvirt_resource::cli::{Cli, main as run};
use libvirt_resource::exit;
use libvirt_resource::fault::tell;

fn main() -> ExitCode {
    // Where a shell asks for completions, it is answered, and that is all.
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).complete();
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(fault) => {
            BuildLog::terminal().error(&tell(fault.as_ref()));
            ExitCode::from(exit::FAILED)
        }
    }
}
