//! `nodectl ssh`.

use std::process::ExitCode;

use clap_complete::engine::ArgValueCompleter;

use super::cluster::Which;
use super::complete;
use super::tools::Tools;
use crate::fault::Fault;
use crate::topology::name::Name;

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// The node.
    #[arg(add = ArgValueCompleter::new(complete::nodes))]
    node: Name,
    /// What to run there; a login shell without it.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Runs ssh, and gives its exit code: that of the command, or 255 where the connection failed.
pub async fn ssh(args: Args) -> Result<ExitCode, Box<dyn Fault>> {
    let tools = Tools::of(&args.which).await?;
    tools.know(args.node.as_str())?;
    let arguments = std::iter::once(args.node.to_string()).chain(args.command);
    tools.run("ssh", arguments).await
}
