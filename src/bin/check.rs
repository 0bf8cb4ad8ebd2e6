//! `check`: echoes the version it got, or `[]`. Reaches nothing and links no libvirt, so that it takes milliseconds.

use std::io::{self, Write as _};
use std::process::ExitCode;

use libvirt_resource::concourse::{call, request};
use libvirt_resource::fault::Fault;

fn main() -> ExitCode {
    match check() {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            // Where standard error is gone too, the exit code still tells.
            let _ = io::stderr().write_all(call::failure(fault.as_ref()).as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn check() -> Result<(), Box<dyn Fault>> {
    let request = request::read_check(&call::stdin(io::stdin().lock())?)?;

    let known = request.version.map(|version| serde_json::json!([version]));
    let answer = known.unwrap_or_else(|| serde_json::json!([])).to_string() + "\n";
    io::stdout()
        .write_all(answer.as_bytes())
        .map_err(call::CallError::Unwritable)?;
    Ok(())
}
