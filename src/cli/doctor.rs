//! `nodectl doctor`.

use std::process::ExitCode;

use super::print;
use crate::exit;
use crate::fault::Fault;

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Prints every check with its verdict and cure. Exit status 0: nodes can boot here.
pub async fn doctor(args: Args) -> Result<ExitCode, Box<dyn Fault>> {
    let report = crate::doctor::examine(&crate::doctor::Options::default()).await;
    if args.json {
        print(&(serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"));
    } else {
        let colour = std::io::IsTerminal::is_terminal(&std::io::stdout());
        print(&crate::doctor::table(&report, colour));
    }
    Ok(if report.able {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::FAILED)
    })
}
