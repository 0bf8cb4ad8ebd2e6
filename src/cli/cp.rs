//! `nodectl cp`.

use std::process::ExitCode;

use super::cluster::Which;
use super::tools::Tools;
use crate::fault::Fault;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "  nodectl cp app.tar worker-1:/tmp/\n  nodectl cp -r worker-1:/var/log/pods pods")]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Directories with all that is in them.
    #[arg(short)]
    recursive: bool,
    /// From where: PATH, or NODE:PATH; several if the last names a directory.
    #[arg(required = true, value_name = "FROM")]
    from: Vec<String>,
    /// Where to.
    #[arg(required = true, value_name = "TO")]
    to: String,
}

/// Copies by scp, and gives its exit code.
pub async fn cp(args: Args) -> Result<ExitCode, Box<dyn Fault>> {
    let tools = Tools::of(&args.which).await?;
    for path in args.from.iter().chain([&args.to]) {
        if let Some(node) = node_of(path) {
            tools.know(node)?;
        }
    }
    let recursive = args.recursive.then(|| "-r".to_owned());
    let arguments = recursive.into_iter().chain(args.from).chain([args.to]);
    tools.run("scp", arguments).await
}

/// The node in `NODE:PATH`: as scp reads it, a colon after a slash is part of a local path.
fn node_of(path: &str) -> Option<&str> {
    let (node, _) = path.split_once(':')?;
    (!node.contains('/')).then_some(node)
}

#[cfg(test)]
mod tests {
    use super::node_of;

    #[test]
    fn a_colon_after_a_slash_names_no_node() {
        assert_eq!(node_of("worker-1:/tmp"), Some("worker-1"));
        assert_eq!(node_of("./a:b"), None);
        assert_eq!(node_of("file"), None);
    }
}
