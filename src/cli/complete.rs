//! `nodectl completions`, `nodectl man`, and the names of nodes as a shell completes them.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::CommandFactory as _;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::Shells;

use super::cluster::Which;
use super::logs::{NotWritten, make};
use super::{Cli, print};
use crate::fault::Fault;

/// By which a shell asks this program for completions; the scripts set it.
pub const VARIABLE: &str = "COMPLETE";

/// Whoever has pressed Tab does not wait longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The arguments of `nodectl completions`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "  source <(nodectl completions bash)      in ~/.bashrc\n  source <(nodectl completions zsh)       in ~/.zshrc, after compinit\n  nodectl completions fish | source       in ~/.config/fish/config.fish\n\nThe names of nodes are those of the cluster that the command would be about."
)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// The arguments of `nodectl man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "  nodectl man /usr/local/share/man/man1")]
pub struct ManArgs {
    /// Where the pages go; made where it is not there.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Prints the script by which a shell completes.
pub fn completions(args: &CompletionsArgs) -> Result<ExitCode, Box<dyn Fault>> {
    let name = match args.shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let shells = Shells::builtins();
    let mut script = Vec::new();
    if let Some(shell) = shells.completer(name) {
        // Into memory: it does not fail.
        let _ = shell.write_registration(VARIABLE, "nodectl", "nodectl", "nodectl", &mut script);
    }
    print(&String::from_utf8_lossy(&script));
    Ok(ExitCode::SUCCESS)
}

/// Writes a page for the program and one for each of its commands.
pub fn man(args: &ManArgs) -> Result<ExitCode, Box<dyn Fault>> {
    make(&args.folder)?;
    clap_mangen::generate_to(Cli::command(), &args.folder).map_err(|source| NotWritten {
        path: args.folder.clone(),
        source,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The nodes that begin so.
pub fn nodes(current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let begin = |name: &String| name.starts_with(&*current);
    names()
        .into_iter()
        .filter(begin)
        .map(CompletionCandidate::new)
        .collect()
}

/// Of all nodes of the cluster; none where there is no cluster, or it does not answer at once.
fn names() -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (Ok(runtime), Ok(client)) = (runtime, Which::default().client()) else {
        return Vec::new();
    };
    let asked = runtime.block_on(async { tokio::time::timeout(PATIENCE, client.cluster()).await });
    match asked {
        Ok(Ok(cluster)) => cluster.nodes.iter().map(|node| node.name.to_string()).collect(),
        _ => Vec::new(),
    }
}
