//! `nodectl power`, `pause` and `resume`.

use std::process::ExitCode;

use serde::Serialize;

use super::cluster::Which;
use super::each::{Nodes, all_well, each, patience, standing};
use super::print;
use crate::agent::api::types::{NodeInfo, NodeState, PowerState, Switch};
use crate::buildlog::name_width;
use crate::exit;
use crate::fault::Fault;
use crate::topology::name::Name;
use crate::units::Span;

/// The arguments of `nodectl power`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "  nodectl power cut worker-2        as if somebody pulled the plug\n  nodectl power on worker-2 && nodectl wait worker-2\n  nodectl power off --all --timeout 5m\n  nodectl power status --all --json\n\nDisks, MACs, addresses and forwards stay as they are. What is so already is no error.\n\nExit status: 1 where any node could not be switched; the others were."
)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// What to do.
    #[arg(value_enum)]
    action: Action,
    #[command(flatten)]
    nodes: Nodes,
    /// How long the guests may take to switch themselves off: 90s, 5m.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = patience)]
    timeout: Span,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Action {
    /// Switch the power on, and return at once: `nodectl wait` waits for the guests.
    On,
    /// Press the power button (ACPI), and wait until the guests have switched themselves off.
    Off,
    /// Cut the power, then switch it on.
    Cycle,
    /// Cut the power, as if somebody pulled the plug.
    Cut,
    /// Only tell whether it is on.
    Status,
}

/// The arguments of `nodectl pause` and `nodectl resume`.
#[derive(Debug, clap::Args)]
pub struct PauseArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    nodes: Nodes,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints of a node.
#[derive(Serialize)]
struct Switched<'a> {
    name: &'a Name,
    state: NodeState,
    power: PowerState,
}

/// Switches machines on or off.
pub async fn power(args: Args) -> Result<ExitCode, Box<dyn Fault>> {
    let switch = match args.action {
        Action::On => Some(Switch::On),
        Action::Off => Some(Switch::Off {
            seconds: args.timeout.duration().as_secs(),
        }),
        Action::Cycle => Some(Switch::Cycle),
        Action::Cut => Some(Switch::Cut),
        Action::Status => None,
    };
    switch_all(&args.which, &args.nodes, switch, args.json).await
}

/// Stops the machines' CPUs.
pub async fn pause(args: PauseArgs) -> Result<ExitCode, Box<dyn Fault>> {
    switch_all(&args.which, &args.nodes, Some(Switch::Pause), args.json).await
}

/// Lets them go on.
pub async fn resume(args: PauseArgs) -> Result<ExitCode, Box<dyn Fault>> {
    switch_all(&args.which, &args.nodes, Some(Switch::Resume), args.json).await
}

async fn switch_all(
    which: &Which,
    nodes: &Nodes,
    switch: Option<Switch>,
    json: bool,
) -> Result<ExitCode, Box<dyn Fault>> {
    let (client, cluster) = standing(which).await?;
    let names = nodes.of(&cluster)?;
    let switched = match switch {
        Some(switch) => {
            let client = &client;
            each(&names, |node| async move { client.switch(&node, switch).await }).await
        }
        None => {
            let named = |node: &NodeInfo| names.contains(&node.name);
            cluster.nodes.into_iter().filter(named).map(Ok).collect()
        }
    };
    let done: Vec<&NodeInfo> = switched.iter().filter_map(|node| node.as_ref().ok()).collect();
    print(&if json { as_json(&done) } else { as_lines(&done) });
    let well = all_well(switched.iter().filter_map(|node| node.as_ref().err()));
    Ok(ExitCode::from(if well { 0 } else { exit::FAILED }))
}

fn as_json(nodes: &[&NodeInfo]) -> String {
    let told = nodes.iter().map(|node| Switched {
        name: &node.name,
        state: node.state,
        power: node.power,
    });
    // Plain data always serialises.
    serde_json::to_string_pretty(&told.collect::<Vec<_>>()).unwrap_or_default() + "\n"
}

fn as_lines(nodes: &[&NodeInfo]) -> String {
    let width = name_width(nodes.iter().map(|node| &node.name));
    let line = |node: &&NodeInfo| format!("{:<width$}  {}\n", node.name.as_str(), node.power);
    nodes.iter().map(line).collect()
}
