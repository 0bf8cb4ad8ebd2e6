//! `nodectl screenshot`.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap_complete::engine::ArgValueCompleter;

use super::cluster::{Which, about_node};
use super::{complete, print};
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
    /// Where the PNG is written; `-` for stdout. Without it: NODE.png in the current directory.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Why the picture was not written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// stdout is a terminal.
    #[error("a picture is not written to a terminal")]
    Terminal,
    /// The file cannot be written.
    #[error("{}: cannot be written", .0.display())]
    Write(PathBuf, #[source] std::io::Error),
}

impl Fault for OutputError {
    fn help(&self) -> Option<String> {
        match self {
            Self::Terminal => Some("name a file: `-o FILE.png`, or send stdout to one".to_owned()),
            Self::Write(..) => Some("name another file with `-o FILE.png`, or `-o -` for stdout".to_owned()),
        }
    }
}

/// Writes the picture, and prints the name of its file.
pub async fn screenshot(args: Args) -> Result<ExitCode, Box<dyn Fault>> {
    let to_stdout = args.output.as_deref() == Some(Path::new("-"));
    if to_stdout && std::io::stdout().is_terminal() {
        return Err(Box::new(OutputError::Terminal));
    }
    let client = args.which.client()?;
    let png = match client.screenshot(&args.node).await {
        Ok(png) => png,
        Err(error) => return Err(about_node(&client, error).await),
    };
    if to_stdout {
        let written = std::io::stdout().lock().write_all(&png);
        written.map_err(|error| OutputError::Write("stdout".into(), error))?;
    } else {
        let path = args.output.unwrap_or_else(|| format!("{}.png", args.node).into());
        std::fs::write(&path, &png).map_err(|error| OutputError::Write(path.clone(), error))?;
        print(&format!("{}\n", path.display()));
    }
    Ok(ExitCode::SUCCESS)
}
