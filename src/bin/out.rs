//! `out`: what a put runs. Request on stdin, the inputs' directory as its argument, the version on stdout, the log on
//! stderr.

use std::io;
use std::process::ExitCode;

use libvirt_resource::agent::launch::follow::told_to_stop;
use libvirt_resource::buildlog::BuildLog;
use libvirt_resource::concourse::{Response, call, request};
use libvirt_resource::fault::Fault;
use libvirt_resource::step::put::put;
use libvirt_resource::step::run;
use libvirt_resource::topology::Inputs;

fn main() -> ExitCode {
    run(&BuildLog::concourse(), out)
}

fn out(log: &BuildLog) -> Result<Response, Box<dyn Fault>> {
    let directory = call::directory("out", std::env::args_os())?;
    log.show_relative_to(&directory);
    let inputs = Inputs::of_step(directory);
    let raw = call::stdin(io::stdin().lock())?;
    let request = request::read_out(&raw, &inputs)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(call::CallError::Runtime)?;
    Ok(runtime.block_on(put(request, &raw, log, told_to_stop()))?)
}
