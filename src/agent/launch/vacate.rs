//! Makes room in the container for another cluster: what an earlier agent left that holds none any more goes.

use std::path::PathBuf;
use std::time::Duration;

use crate::agent::api::client::{Client, ClientError};
use crate::agent::state::{Found, Run};
use crate::fault::Fault;

/// How long an agent that was dismissed may take to answer its last callers and go.
const LIMIT: Duration = Duration::from_secs(10);

/// How often it is looked whether it has gone.
const PERIOD: Duration = Duration::from_millis(20);

/// Why there is no room.
#[derive(Debug, thiserror::Error)]
pub enum VacateError {
    /// The agent of an ended cluster does not go.
    #[error("the agent of the cluster {0}, which has ended, does not go")]
    Stays(String),
    /// That agent did not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The record of an earlier agent cannot be read or removed.
    #[error("{}: cannot be used", .0.display())]
    Run(PathBuf, #[source] std::io::Error),
}

impl Fault for VacateError {
    fn help(&self) -> Option<String> {
        Some(match self {
            Self::Stays(_) => "end its process, or use another container".to_owned(),
            Self::Client(error) => return error.help(),
            Self::Run(..) => "run this as root of the container".to_owned(),
        })
    }
}

/// Removes what a dead agent has left, and makes one go that only tells how its cluster ended. One that holds a cluster
/// (or a session, which answers nobody) is let be: the next agent does not get its lock and says so.
pub async fn vacate(run: &Run) -> Result<(), VacateError> {
    let unusable = |error| VacateError::Run(run.directory().to_owned(), error);
    let record = match run.find().map_err(unusable)? {
        Found::Nothing => return Ok(()),
        Found::Dead(record) => {
            let _ = std::fs::remove_dir_all(&record.directory);
            return run.forget().map_err(unusable);
        }
        Found::Living(record) => record,
    };
    let name = record.cluster.to_string();
    let client = Client::unix(&run.socket())?;
    match client.cluster().await {
        Ok(cluster) if cluster.state.has_ended() => {}
        _ => return Ok(()),
    }
    client.dismiss().await?;
    let gone = async {
        while matches!(run.find(), Ok(Found::Living(living)) if living == record) {
            tokio::time::sleep(PERIOD).await;
        }
    };
    tokio::time::timeout(LIMIT, gone)
        .await
        .map_err(|_| VacateError::Stays(name))
}
