//! `out`: what a put runs. Request on stdin, the inputs' directory as its argument, the version on stdout, the log on
//! stderr.

use std::process::ExitCode;

use libvirt_resource::agent::launch::follow::told_to_stop;
use libvirt_resource::buildlog::BuildLog;
use libvirt_resource::concourse::request::{inputs_argument, read_out, read_stdin};
use libvirt_resource::fault::{Fault, tell};
use libvirt_resource::step::put::put;

fn main() -> ExitCode {
    let log = BuildLog::concourse();
    match run(&log) {
        Ok(response) => {
            println!("{response}");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            log.error(&tell(fault.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(log: &BuildLog) -> Result<String, Box<dyn Fault>> {
    let inputs = inputs_argument(std::env::args_os())?;
    let raw = read_stdin(std::io::stdin().lock())?;
    let request = read_out(&raw, &inputs)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Box::<std::io::Error>::new);
    let runtime = runtime.map_err(|error| -> Box<dyn Fault> { error })?;
    let response = runtime.block_on(put(request, &raw, log, told_to_stop()))?;
    Ok(response.to_string())
}
