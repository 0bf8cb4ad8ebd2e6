//! `nodectl report`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::cluster::Which;
use crate::agent::state::Run;
use crate::fault::Fault;
use crate::report::{ReportError, read, write};

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Works while nodes boot, of nodes that stand, and in the container of a put whose nodes did not get ready, though they are gone."
)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Where the two files go; made where it is not there.
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
}

/// Writes the report of the cluster, or of the last one that failed in this container.
pub async fn report(args: Args) -> Result<ExitCode, Box<dyn Fault>> {
    let report = match args.which.client() {
        Ok(client) => client.report().await?,
        Err(none) => match read(Run::default().directory()) {
            Ok(report) => report,
            Err(_) => return Err(none),
        },
    };
    std::fs::create_dir_all(&args.output).map_err(|source| ReportError {
        path: args.output.clone(),
        source,
    })?;
    write(&args.output, &report)?;
    Ok(ExitCode::SUCCESS)
}
