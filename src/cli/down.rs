//! `nodectl down`.

use std::process::ExitCode;

use super::cluster::Which;
use crate::fault::Fault;

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
}

/// Removes the cluster; returns when nothing of it runs any more.
pub async fn down(args: Args) -> Result<ExitCode, Box<dyn Fault>> {
    let client = args.which.client()?;
    client.destroy().await?;
    Ok(ExitCode::SUCCESS)
}
