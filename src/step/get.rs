//! `in`: asks the agent for the cluster's files and writes them.

use std::path::Path;

use crate::access::{self, AccessError, ApiAccess};
use crate::agent::api::client::ClientError;
use crate::agent::api::fetch::fetch;
use crate::concourse::request::InRequest;
use crate::concourse::response::Response;
use crate::concourse::version::State;
use crate::fault::Fault;

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
pub async fn get(request: InRequest, destination: &Path) -> Result<Response, GetError> {
    let version = request.version;
    if version.state == State::Destroyed {
        return Ok(Response { version, metadata: Vec::new() });
    }
    let (cluster, consoles) = fetch(version.endpoint, &version.fingerprint, &request.source.token).await?;
    let secrets = ApiAccess { fingerprint: version.fingerprint.clone(), token: request.source.token.clone() };
    access::write(destination, &cluster, &secrets, &consoles)?;
    Ok(Response { metadata: metadata::of_cluster(&cluster), version })
}
