//! `nodectl console`.

use std::process::ExitCode;

use super::cluster::Which;
use crate::fault::Fault;
use crate::topology::name::Name;

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// The node.
    node: Name,
    /// Go on printing as the node prints, until interrupted.
    #[arg(short, long)]
    follow: bool,
    /// Only the last so many lines.
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,
}

/// Copies the console to stdout, byte for byte.
pub async fn console(args: Args) -> Result<ExitCode, Box<dyn Fault>> {
    let client = args.which.client()?;
    let mut out = tokio::io::stdout();
    client
        .console(&args.node, args.follow, args.tail, &mut out)
        .await?;
    Ok(ExitCode::SUCCESS)
}
