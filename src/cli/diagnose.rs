//! `nodectl diagnose`.

use std::fs::File;
use std::io::{BufReader, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

use super::print;
use crate::boot::recording::{Diagnosis, Error, diagnose};
use crate::boot::show;
use crate::exit;
use crate::fault::{Fault, tell};

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 the node got ready, 1 it did not, 2 FILE cannot be read.\nThe codes are explained in docs/diagnosis.md."
)]
pub struct Args {
    /// A recording (JSON lines), or the text of a serial console; - is standard input.
    file: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Judges a recording and prints the verdict, the phases and what to do.
///
/// # Errors
/// None: a file that cannot be read is told here, since it has an exit status of its own.
pub fn replay(args: &Args) -> Result<ExitCode, Box<dyn Fault>> {
    let told = match read(args) {
        Ok(told) => told,
        Err(error) => {
            crate::buildlog::BuildLog::terminal().error(&tell(&error));
            return Ok(ExitCode::from(exit::USAGE));
        }
    };
    if args.json {
        print(&(serde_json::to_string_pretty(&told).unwrap_or_default() + "\n"));
    } else {
        print(&show::diagnosis(&told, colour()));
    }
    Ok(if told.ready_seconds.is_some() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::FAILED)
    })
}

fn read(args: &Args) -> Result<Diagnosis, Error> {
    if args.file.as_os_str() == "-" {
        return diagnose("standard input", std::io::stdin().lock());
    }
    let path = args.file.display().to_string();
    let file = File::open(&args.file).map_err(|source| Error::Read {
        path: path.clone(),
        source,
    })?;
    diagnose(&path, BufReader::new(file))
}

/// Where stdout is a terminal and `NO_COLOR` is not set, or `CLICOLOR_FORCE` is.
fn colour() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let forced =
        set("CLICOLOR_FORCE") && std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0");
    !set("NO_COLOR") && (forced || std::io::stdout().is_terminal())
}
