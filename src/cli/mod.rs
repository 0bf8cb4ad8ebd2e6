//! `nodectl`, for people and tasks: its commands, one a file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::agent::family::Family;
use crate::agent::launch::follow::told_to_stop;
use crate::agent::launch::isolate::{self, Stage};
use crate::exit;
use crate::fault::Fault;

pub mod boot;
pub mod cache;
pub mod cluster;
pub mod collect;
pub mod complete;
pub mod console;
pub mod cp;
pub mod diagnose;
pub mod doctor;
pub mod down;
pub mod each;
pub mod junit;
pub mod list;
pub mod logs;
pub mod output;
pub mod power;
pub mod report;
pub mod run;
pub mod screenshot;
pub mod session;
pub mod ssh;
pub mod tools;
pub mod up;
pub mod wait;

/// Boots virtual machines that stand in for bare-metal nodes, and reaches those that a put has booted.
#[derive(Debug, Parser)]
#[command(name = "nodectl", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Boot a cluster, run a command with it, and remove it.
    Run(run::Args),
    /// Boot a cluster and leave it standing.
    Up(up::Args),
    /// List the nodes of the cluster.
    List(list::Args),
    /// Log in to a node, or run a command there.
    Ssh(ssh::Args),
    /// Copy files to or from nodes.
    Cp(cp::Args),
    /// Show what a node has printed on its serial console.
    Console(console::Args),
    /// Switch nodes on or off, or cut their power.
    Power(power::Args),
    /// Stop nodes' CPUs where they are.
    Pause(power::PauseArgs),
    /// Let paused nodes go on.
    Resume(power::PauseArgs),
    /// Wait until nodes are ready.
    Wait(wait::Args),
    /// Gather the logs of every node into a folder.
    Logs(logs::Args),
    /// Copy files from nodes: those that the topology names, or any.
    Collect(collect::Args),
    /// Take a picture of what a node's display shows.
    Screenshot(screenshot::Args),
    /// Say from a recording or a console's text why a node did not get ready.
    Diagnose(diagnose::Args),
    /// Remove the cluster of this container.
    Down(down::Args),
    /// Check what this container can and cannot do, and what would cure it.
    Doctor(doctor::Args),
    /// Print the JSON Schema of a topology file.
    Schema {
        /// That of report.json instead.
        #[arg(long)]
        report: bool,
    },
    /// Write how the nodes came up, or why not: report.json and report.html.
    Report(report::Args),
    /// Print the script by which bash, zsh or fish completes commands, options and the names of nodes.
    Completions(complete::CompletionsArgs),
    /// Write the manual pages.
    Man(complete::ManArgs),
    /// Run a command beside libvirt, with the default network and pool, and remove all of it.
    Session(session::Args),
    /// The process that holds a cluster; started by out and nodectl.
    #[command(hide = true)]
    Agent {
        /// Which of its stages.
        stage: Stage,
        /// Where there is no namespace: the process that this one is started by.
        #[arg(long, default_value_t)]
        guard: i32,
        /// The session's directory.
        #[arg(long)]
        directory: Option<PathBuf>,
        /// The session's command.
        #[arg(last = true)]
        command: Vec<String>,
    },
}

/// Runs one command and gives its exit code.
///
/// # Errors
/// What the command says went wrong, to be printed.
pub fn main(cli: Cli) -> Result<ExitCode, Box<dyn Fault>> {
    match cli.command {
        Command::Agent {
            stage: Stage::Launch, ..
        } => {
            // The launcher reads this from the agent's log.
            isolate::launch()
                .map(|()| ExitCode::SUCCESS)
                .map_err(|error| Box::new(IoFault(error)) as _)
        }
        Command::Agent {
            stage: Stage::Init, ..
        } => isolate::init().map_err(|error| Box::new(IoFault(error)) as _),
        Command::Agent {
            stage: Stage::Guard, ..
        } => isolate::guard().map_err(|error| Box::new(IoFault(error)) as _),
        Command::Agent {
            stage: Stage::GuardedInit,
            guard,
            ..
        } => isolate::guarded_init(guard).map_err(|error| Box::new(IoFault(error)) as _),
        Command::Agent {
            stage: Stage::Serve,
            guard,
            ..
        } => Ok(crate::agent::serve::main(Family::started_by(guard))),
        Command::Agent {
            stage: Stage::SessionInit,
            directory,
            command,
            ..
        } => isolate::session_init(&directory.unwrap_or_default(), &command)
            .map_err(|error| Box::new(IoFault(error)) as _),
        Command::Agent {
            stage: Stage::Session,
            directory,
            command,
            ..
        } => Ok(crate::agent::session::main(
            &directory.unwrap_or_default(),
            &command,
        )),
        Command::Session(args) => block_on(session::session(args)),
        Command::Schema { report } => {
            let schema = if report {
                crate::report::schema()
            } else {
                crate::topology::schema()
            };
            print(&format!("{schema:#}\n"));
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions(args) => complete::completions(&args),
        Command::Man(args) => complete::man(&args),
        Command::Diagnose(args) => diagnose::replay(&args),
        Command::Run(args) => block_on(run::run(args)),
        Command::Up(args) => block_on(up::up(args)),
        Command::Report(args) => block_on(report::report(args)),
        Command::List(args) => block_on(list::list(args)),
        Command::Ssh(args) => block_on(ssh::ssh(args)),
        Command::Cp(args) => block_on(cp::cp(args)),
        Command::Console(args) => block_on(console::console(args)),
        Command::Power(args) => block_on(power::power(args)),
        Command::Pause(args) => block_on(power::pause(args)),
        Command::Resume(args) => block_on(power::resume(args)),
        Command::Wait(args) => block_on(wait::wait(args)),
        Command::Logs(args) => block_on(interruptible(logs::logs(args))),
        Command::Collect(args) => block_on(interruptible(collect::collect(args))),
        Command::Screenshot(args) => block_on(screenshot::screenshot(args)),
        Command::Down(args) => block_on(down::down(args)),
        Command::Doctor(args) => block_on(doctor::doctor(args)),
    }
}

/// An error of the system with nothing to add.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct IoFault(pub std::io::Error);

impl Fault for IoFault {}

fn block_on(
    command: impl Future<Output = Result<ExitCode, Box<dyn Fault>>>,
) -> Result<ExitCode, Box<dyn Fault>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Box::new(IoFault(error)) as Box<dyn Fault>)?;
    let result = runtime.block_on(command);
    // A thread that still reads stdin or waits for a name server is not waited for.
    runtime.shutdown_background();
    result
}

/// A command that leaves nothing behind though it is told to stop: keys in a temporary folder, programs that it runs.
async fn interruptible(
    command: impl Future<Output = Result<ExitCode, Box<dyn Fault>>>,
) -> Result<ExitCode, Box<dyn Fault>> {
    tokio::select! {
        done = command => done,
        _ = told_to_stop() => Ok(ExitCode::from(exit::INTERRUPTED)),
    }
}

/// Writes to stdout; a reader that has gone away (`nodectl list | head -1`) is no error.
pub fn print(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stdout().lock(), text.as_bytes());
}
