//! `nodectl`: for people and tasks.

use std::process::ExitCode;

use clap::Parser as _;
use libvirt_resource::buildlog::BuildLog;
use libvirt_resource::cli::{Cli, main as run};
use libvirt_resource::exit;
use libvirt_resource::fault::tell;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(fault) => {
            BuildLog::terminal().error(&tell(fault.as_ref()));
            ExitCode::from(exit::FAILED)
        }
    }
}
