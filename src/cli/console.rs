//! `nodectl console`.

use std::io::ErrorKind;
use std::process::ExitCode;

use clap_complete::engine::ArgValueCompleter;

use super::cluster::{Which, about_node};
use super::complete;
use crate::agent::api::client::ClientError;
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
    let copied = client.console(&args.node, args.follow, args.tail, &mut out).await;
    match copied {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // Whoever read it has seen enough (`nodectl console a | head`).
        Err(ClientError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(about_node(&client, error).await),
    }
}
