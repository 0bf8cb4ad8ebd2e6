//! `out`: boots a cluster and leaves it in the hands of its agent, or ends one.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::access::{self, AccessError};
use crate::agent::api::client::{Client, ClientError};
use crate::agent::api::types::{Cluster, ClusterState};
use crate::agent::launch::follow::{Outcome, follow};
use crate::agent::launch::prepare::{PrepareError, prepare};
use crate::agent::launch::vacate::{VacateError, vacate};
use crate::agent::launch::{LaunchError, launch};
use crate::agent::order::{Down, Summary};
use crate::agent::state::{Found, Record, Run};
use crate::buildlog::BuildLog;
use crate::concourse::{OutRequest, PutParams, Response, Source, State, Version};
use crate::fault::Fault;
use crate::progress::{Event, Level};
use crate::topology::model::Topology;

use super::metadata;

/// Why a put failed.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// No order could be made.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The agent did not start, or died.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// What an earlier run left does not go.
    #[error(transparent)]
    Vacate(#[from] VacateError),
    /// An agent did not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The artifact that names the cluster to destroy cannot be read.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The artifact names no certificate.
    #[error("{}: the fingerprint {found:?} is none", path.display())]
    Fingerprint {
        /// The artifact.
        path: PathBuf,
        /// What stands there.
        found: String,
    },
    /// The record of an earlier agent cannot be read.
    #[error("{}: cannot be read", .0.display())]
    Run(PathBuf, #[source] std::io::Error),
    /// The cluster did not get ready. The text is whole: message and help.
    #[error("{0}")]
    NotReady(String),
    /// As above, and it stands for inspection.
    #[error("{reason}")]
    Kept {
        /// What failed.
        reason: String,
        /// What stands.
        summary: Box<Summary>,
    },
    /// This process was told to stop.
    #[error("the put was ended from outside; nothing of its cluster is left")]
    Interrupted,
    /// The container holds another cluster.
    #[error("this container already holds the cluster {0}, made for another request")]
    Occupied(String),
}

impl Fault for PutError {
    fn help(&self) -> Option<String> {
        match self {
            Self::Prepare(error) => error.help(),
            Self::Launch(error) => error.help(),
            Self::Vacate(error) => error.help(),
            Self::Client(error) => error.help(),
            Self::Access(error) => error.help(),
            Self::Fingerprint { .. } => Some("get the cluster's files anew".to_owned()),
            Self::Run(..) | Self::NotReady(_) | Self::Interrupted => None,
            Self::Kept { summary, .. } => Some(format!(
                "{} is kept until {} (on_failure: keep): `fly hijack` into this step, then `nodectl list`, `nodectl ssh NODE`, `nodectl console NODE`",
                summary.cluster,
                metadata::utc(summary.expires_at)
            )),
            Self::Occupied(_) => Some("`nodectl down` in the same container removes it".to_owned()),
        }
    }
}

/// Does what the request asks. `interrupt` ends when this process is told to stop.
pub async fn put(
    request: OutRequest,
    raw: &[u8],
    log: &BuildLog,
    interrupt: impl Future<Output = &'static str>,
) -> Result<Response, PutError> {
    match request.params {
        PutParams::Create { topology } => create(&request.source, &topology, raw, log, interrupt).await,
        PutParams::Destroy { artifact } => destroy(&request.source, &artifact, log).await,
    }
}

async fn create(
    source: &Source,
    topology: &Topology,
    raw: &[u8],
    log: &BuildLog,
    interrupt: impl Future<Output = &'static str>,
) -> Result<Response, PutError> {
    let order = prepare(topology, source.token.expose(), raw)?;
    let run = Run::default();
    if let Some(response) = earlier(&run, &order.request, log).await? {
        return Ok(response);
    }
    let mut agent = launch(&order).await?;
    let outcome = follow(&mut agent, Down::Commit, log, interrupt).await;
    if !matches!(outcome, Ok(Outcome::Ready(_) | Outcome::Kept { .. })) {
        // What is left are logs, and all that they tell of the failure has been told.
        let _ = std::fs::remove_dir_all(&order.directory);
    }
    match outcome? {
        Outcome::Ready(summary) => {
            log.summary(&summary);
            Ok(Response {
                version: version(&summary),
                metadata: metadata::of_summary(&summary),
            })
        }
        Outcome::Kept { summary, reason } => Err(PutError::Kept { reason, summary }),
        Outcome::Failed { reason } => Err(PutError::NotReady(reason)),
        Outcome::Interrupted => Err(PutError::Interrupted),
    }
}

fn version(summary: &Summary) -> Version {
    Version {
        cluster: summary.cluster.clone(),
        endpoint: summary.endpoint,
        fingerprint: summary.fingerprint,
        state: State::Ready,
    }
}

/// The answer of an earlier run of this very put in this very container: Concourse runs `out` again when the web node
/// that followed it was restarted. `None` where there is no such cluster, or no more.
async fn earlier(run: &Run, request: &str, log: &BuildLog) -> Result<Option<Response>, PutError> {
    let say = |level, text: String| {
        log.event(&Event {
            level,
            node: None,
            text,
        })
    };
    let mut told = false;
    loop {
        let record = match run
            .find()
            .map_err(|error| PutError::Run(run.directory().to_owned(), error))?
        {
            Found::Nothing => return Ok(None),
            Found::Dead(record) => {
                say(
                    Level::Warn,
                    format!(
                        "the agent of {}, which an earlier run left in this container, died without taking its cluster down; whatever it left is removed now",
                        record.cluster
                    ),
                );
                vacate(run).await?;
                return Ok(None);
            }
            Found::Living(record) => record,
        };
        let Record {
            cluster: name,
            request: its,
            ..
        } = record;
        // It takes the lock before it opens its socket.
        let Ok(cluster) = Client::unix(&run.socket())?.cluster().await else {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        match &cluster.state {
            ClusterState::Destroyed | ClusterState::Expired { .. } | ClusterState::Lost { .. } => {
                vacate(run).await?;
                return Ok(None);
            }
            _ if its != request => return Err(PutError::Occupied(name.to_string())),
            ClusterState::Starting => {
                if !told {
                    say(
                        Level::Info,
                        format!("an earlier run of this put is bringing up {name}: waiting for it"),
                    );
                    told = true;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            ClusterState::Kept { reason } => return Err(PutError::NotReady(reason.clone())),
            ClusterState::Ready => {
                say(
                    Level::Good,
                    format!("{name} is ready already, brought up by an earlier run of this put"),
                );
                return Ok(Some(response_of(&cluster)));
            }
        }
    }
}

fn response_of(cluster: &Cluster) -> Response {
    Response {
        version: Version {
            cluster: cluster.cluster.clone(),
            endpoint: cluster.endpoint,
            fingerprint: cluster.fingerprint,
            state: State::Ready,
        },
        metadata: metadata::of_cluster(cluster),
    }
}

async fn destroy(source: &Source, artifact: &Path, log: &BuildLog) -> Result<Response, PutError> {
    let named = access::read(artifact)?;
    let fingerprint = fingerprint(&named, artifact)?;
    Client::tls(named.endpoint, fingerprint, &source.token)?
        .destroy()
        .await?;
    let text = format!("{} is destroyed", named.cluster);
    log.event(&Event {
        level: Level::Good,
        node: None,
        text,
    });
    let version = Version {
        cluster: named.cluster,
        endpoint: named.endpoint,
        fingerprint,
        state: State::Destroyed,
    };
    Ok(Response {
        version,
        metadata: Vec::new(),
    })
}

fn fingerprint(named: &access::Known, artifact: &Path) -> Result<crate::topology::model::Sha256, PutError> {
    named
        .api
        .fingerprint
        .clone()
        .try_into()
        .map_err(|_| PutError::Fingerprint {
            path: artifact.to_owned(),
            found: named.api.fingerprint.clone(),
        })
}
