//! `in`: asks the agent for the cluster's files and writes them.

use std::path::Path;

use crate::access::{self, AccessError, ApiAccess};
use crate::agent::api::client::{Client, ClientError};
use crate::agent::api::types::Secret;
use crate::buildlog::BuildLog;
use crate::concourse::{InRequest, Response, State};
use crate::fault::Fault;
use crate::progress::{Event, Level};

use super::metadata;

/// Why a get failed.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// The agent did not give the cluster.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The files could not be written.
    #[error(transparent)]
    Access(#[from] AccessError),
}

impl Fault for GetError {
    fn help(&self) -> Option<String> {
        match self {
            Self::Client(error) => error.help(),
            Self::Access(error) => error.help(),
        }
    }
}

/// Writes the files of the version's cluster to `destination`. Of a destroyed cluster there is nothing to write, and
/// that is no error: a put with `action: destroy` is followed by this get like every other put.
pub async fn get(request: InRequest, destination: &Path, log: &BuildLog) -> Result<Response, GetError> {
    let version = request.version;
    if version.state == State::Destroyed {
        return Ok(Response {
            version,
            metadata: Vec::new(),
        });
    }
    let client = Client::tls(version.endpoint, version.fingerprint, &request.source.token)?;
    let (cluster, consoles, report) = client.fetch().await?;
    let secrets = ApiAccess {
        fingerprint: version.fingerprint.to_string(),
        token: Secret(request.source.token.expose().to_owned()),
    };
    for warning in access::write(destination, &cluster, &secrets, &consoles, Some(&report))? {
        log.event(&Event {
            level: Level::Warn,
            node: None,
            text: warning.to_string(),
        });
    }
    Ok(Response {
        metadata: metadata::of_cluster(&cluster),
        version,
    })
}
