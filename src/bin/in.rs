//! `in`: what a get runs. Request on stdin, the directory to fill as its argument, the version on stdout.

use std::io;
use std::process::ExitCode;

use libvirt_resource::buildlog::BuildLog;
use libvirt_resource::concourse::{Response, call, request};
use libvirt_resource::fault::Fault;
use libvirt_resource::step::get::get;
use libvirt_resource::step::run;

fn main() -> ExitCode {
    run(&BuildLog::concourse(), get_files)
}

fn get_files(log: &BuildLog) -> Result<Response, Box<dyn Fault>> {
    let destination = call::directory("in", std::env::args_os())?;
    let request = request::read_in(&call::stdin(io::stdin().lock())?)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(call::CallError::Runtime)?;
    Ok(runtime.block_on(get(request, &destination, log))?)
}
