//! `in`: what a get runs. Request on stdin, the directory to fill as its argument, the version on stdout.

use std::path::PathBuf;
use std::process::ExitCode;

use libvirt_resource::buildlog::BuildLog;
use libvirt_resource::concourse::request::{destination_argument, read_in, read_stdin};
use libvirt_resource::fault::{Fault, tell};
use libvirt_resource::step::get::get;

fn main() -> ExitCode {
    match run() {
        Ok(response) => {
            println!("{response}");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            BuildLog::concourse().error(&tell(fault.as_ref()));
            ExitCode::FAILURE
        }
    }
}
