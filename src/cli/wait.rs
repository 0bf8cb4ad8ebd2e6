//! `nodectl wait`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap_complete::engine::ArgValueCompleter;
use serde::Serialize;

use super::cluster::Which;
use super::each::{all_well, each, named_or_all, patience, standing};
use super::{complete, junit, print};
use crate::agent::api::client::ClientError;
use crate::agent::api::types::Readiness;
use crate::boot::recording::Diagnosis;
use crate::boot::show;
use crate::buildlog::{BuildLog, name_width};
use crate::exit;
use crate::fault::Fault;
use crate::topology::name::Name;
use crate::units::Span;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A node is ready when it is reached by SSH with the cluster's key and its ready command of the topology succeeds. One that was just switched on is waited for; one that is off, paused or crashed is not.\n\n  nodectl power cycle --all && nodectl wait --timeout 5m --junit ready.xml\n\nExit status: 69 where any node did not get ready."
)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// The nodes; all of them where none is named.
    #[arg(value_name = "NODE", add = ArgValueCompleter::new(complete::nodes))]
    nodes: Vec<Name>,
    /// How long at most: 90s, 5m.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = patience)]
    timeout: Span,
    /// Write the outcome as JUnit XML, too: a test case a node.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints of a node.
#[derive(Serialize)]
struct Waited<'a> {
    name: &'a Name,
    ready: bool,
    seconds: f64,
    reason: Option<&'a str>,
    diagnosis: Option<&'a Diagnosis>,
}

/// Why the JUnit file was not written.
#[derive(Debug, thiserror::Error)]
#[error("--junit {}: cannot be written", path.display())]
struct NotWritten {
    path: PathBuf,
    source: std::io::Error,
}

impl Fault for NotWritten {
    fn help(&self) -> Option<String> {
        Some("name a file in a folder that is there and can be written".to_owned())
    }
}

/// Waits until the nodes are ready.
pub async fn wait(args: Args) -> Result<ExitCode, Box<dyn Fault>> {
    let (client, cluster) = standing(&args.which).await?;
    let names = named_or_all(&args.nodes, &cluster)?;
    let width = name_width(names.iter());
    let limit = args.timeout.duration();
    let (client, quiet) = (&client, args.json);
    let waited = each(&names, |node| async move {
        let readiness = client.wait(&node, limit).await?;
        if readiness.ready && !quiet {
            let seconds = readiness.seconds;
            print(&format!(
                "{:<width$}  ready, waited {seconds:.1} s\n",
                node.as_str()
            ));
        }
        Ok(readiness)
    })
    .await;
    if let Some(path) = &args.junit {
        let cases = names.iter().zip(&waited).map(|(name, waited)| case(name, waited));
        let xml = junit::suite(cluster.cluster.as_str(), cases.collect());
        std::fs::write(path, xml).map_err(|source| NotWritten {
            path: path.clone(),
            source,
        })?;
    }
    let told: Vec<&Readiness> = waited.iter().filter_map(|one| one.as_ref().ok()).collect();
    if args.json {
        let told: Vec<Waited> = told.iter().copied().map(waited_for).collect();
        // Plain data always serialises.
        print(&(serde_json::to_string_pretty(&told).unwrap_or_default() + "\n"));
    }
    let log = BuildLog::terminal();
    let failed: Vec<&&Readiness> = told.iter().filter(|one| !one.ready).collect();
    for readiness in &failed {
        log.error(&why(readiness));
    }
    if !all_well(waited.iter().filter_map(|one| one.as_ref().err())) {
        return Ok(ExitCode::from(exit::FAILED));
    }
    Ok(ExitCode::from(if failed.is_empty() {
        0
    } else {
        exit::NOT_READY
    }))
}

fn waited_for(readiness: &Readiness) -> Waited<'_> {
    Waited {
        name: &readiness.node,
        ready: readiness.ready,
        seconds: readiness.seconds,
        reason: readiness.reason.as_deref(),
        diagnosis: readiness.diagnosis.as_deref(),
    }
}

fn reason(readiness: &Readiness) -> String {
    let reason = readiness.reason.as_deref().unwrap_or("nothing is known of it");
    format!(
        "node {} is not ready after {:.1} s: {reason}",
        readiness.node, readiness.seconds
    )
}

/// In full, with the judge's verdict where there is one.
fn why(readiness: &Readiness) -> String {
    let mut text = reason(readiness);
    let judged = readiness.diagnosis.as_ref();
    if let Some((diagnosis, verdict)) =
        judged.and_then(|diagnosis| Some((diagnosis, diagnosis.verdict.as_ref()?)))
    {
        text += &format!(
            "\n{}\nhelp: {}",
            show::failure(readiness.node.as_str(), diagnosis),
            verdict.advice
        );
    }
    text
}

fn case(name: &Name, waited: &Result<Readiness, ClientError>) -> junit::Case {
    let (seconds, outcome) = match waited {
        Ok(readiness) if readiness.ready => (readiness.seconds, junit::Outcome::Passed),
        Ok(readiness) => {
            let verdict = readiness
                .diagnosis
                .as_ref()
                .and_then(|diagnosis| diagnosis.verdict.as_ref());
            let outcome = junit::Outcome::Failed {
                kind: verdict.map_or_else(|| "not-ready".to_owned(), |verdict| verdict.code.to_string()),
                message: verdict.map_or_else(|| reason(readiness), |verdict| verdict.sentence.clone()),
                text: why(readiness),
            };
            (readiness.seconds, outcome)
        }
        Err(error) => (
            0.0,
            junit::Outcome::Error {
                message: error.to_string(),
                text: crate::fault::tell(error),
            },
        ),
    };
    junit::Case {
        name: name.to_string(),
        seconds,
        outcome,
    }
}
