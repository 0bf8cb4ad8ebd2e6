//! `nodectl ssh`.

use std::process::ExitCode;

use super::cluster::{UnknownNode, Which};
use super::{IoFault, exit};
use crate::access;
use crate::access::ApiAccess;
use crate::agent::api::types::Secret;
use crate::fault::Fault;
use crate::topology::name::Name;

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// The node.
    node: Name,
    /// What to run there; a login shell without it.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Runs ssh, and gives its exit code: that of the command, or 255 where the connection failed.
pub async fn ssh(args: Args) -> Result<ExitCode, Box<dyn Fault>> {
    let client = args.which.client()?;
    let cluster = client.cluster().await?;
    if !cluster.nodes.iter().any(|node| node.name == args.node) {
        return Err(Box::new(UnknownNode::of(&cluster, &args.node)));
    }
    let folder = tempfile::tempdir().map_err(IoFault)?;
    // ssh needs no API, and the agent's own socket no token.
    let no_api = ApiAccess {
        fingerprint: cluster.fingerprint.to_string(),
        token: Secret("-".to_owned()),
    };
    access::write(folder.path(), &cluster, &no_api, &Default::default())?;
    // Ctrl-C is for the program on the node; ssh carries it there.
    let _ignored = tokio::signal::ctrl_c();
    let status = tokio::process::Command::new(folder.path().join("ssh"))
        .arg(args.node.as_str())
        .args(&args.command)
        .status()
        .await
        .map_err(IoFault)?;
    Ok(ExitCode::from(
        status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(exit::INTERRUPTED),
    ))
}
