//! Asks an agent, over TLS from another container or over its Unix socket from its own.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::{Method, RequestBuilder, StatusCode};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::server::{NODE_CODE, OFF_CODE, RefusalBody, RefusalText, SCREENSHOT_CODE};
use super::tls::{WrongCertificate, pinned};
use super::types::{Cluster, ClusterState};
use crate::concourse::Token;
use crate::fault::Fault;
use crate::step::metadata::utc;
use crate::topology::model::Sha256;
use crate::topology::name::Name;

/// Why an agent did not answer as was hoped.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("the cluster's agent at {at} cannot be reached: the connection is refused")]
    Refused {
        /// Where.
        at: String,
    },
    /// Nobody answers there.
    #[error("the cluster's agent at {at} cannot be reached: {said}")]
    Unreachable {
        /// Where.
        at: String,
        /// What the system said.
        said: String,
    },
    /// Another agent listens there.
    #[error("at {at} is another agent than this cluster's: {wrong}")]
    Certificate {
        /// Where.
        at: String,
        /// Both fingerprints.
        wrong: String,
    },
    /// It does not take the token.
    #[error("the cluster's agent at {at} refuses the token")]
    Token {
        /// Where.
        at: String,
    },
    /// It took the cluster away on request.
    #[error("the cluster {0} was destroyed")]
    Destroyed(Name),
    /// Its time was over.
    #[error("the cluster {cluster} has expired: its lifetime of {lifetime} s ended at {at}")]
    Expired {
        /// The cluster.
        cluster: Name,
        /// Its lifetime in seconds.
        lifetime: u64,
        /// When it ended.
        at: String,
    },
    /// Something died under it.
    #[error("the cluster {cluster} is lost: {reason}")]
    Lost {
        /// The cluster.
        cluster: Name,
        /// What died, and how.
        reason: String,
    },
    /// It is still being brought up.
    #[error("the cluster {0} is still being brought up")]
    Starting(Name),
    /// It did not get ready and is kept.
    #[error("the cluster {cluster} did not get ready: {reason}")]
    Kept {
        /// The cluster.
        cluster: Name,
        /// What failed.
        reason: String,
    },
    /// There is no such node.
    #[error("the cluster has no node {0}")]
    Node(Name),
    /// A node of it does not run.
    #[error("the machine of node {0} is not running")]
    Off(Name),
    /// It could not take a screenshot.
    #[error("no screenshot of node {node}: {said}")]
    Screenshot {
        /// The node.
        node: Name,
        /// Why.
        said: String,
    },
    /// It answered something else than this program knows.
    #[error("what answers at {at} does not speak this program's protocol: {said}")]
    Protocol {
        /// Where.
        at: String,
        /// What it said.
        said: String,
    },
    /// What was read could not be written.
    #[error("the console cannot be written on")]
    Output(#[source] std::io::Error),
}

impl Fault for ClientError {
    fn help(&self) -> Option<String> {
        Some(match self {
            Self::Refused { .. } => "The put's container stands, but its agent is gone: it was killed, or it ended an hour after its cluster did. Run the put again.",
            Self::Unreachable { .. } => "The put's container is gone, or this step runs on another worker: containers of different workers cannot reach each other. Pin put and get to one worker with the same `tags`.",
            Self::Certificate { .. } => "The cluster of this version is gone, and its address was given to another one. Run the put again.",
            Self::Token { .. } => "source.token is another one than when the cluster was put. Set it back, or run the put again.",
            Self::Destroyed(_) => "Run the put again.",
            Self::Expired { .. } => "Run the put again, with a longer `lifetime` if the build needs it.",
            Self::Lost { .. } => "Run the put again; look for the cause in the worker's kernel log (\"Out of memory\") first.",
            Self::Starting(_) => "Wait for its put to end.",
            Self::Kept { .. } => "It is kept for inspection by `fly hijack` (on_failure: keep): see the log of its put.",
            Self::Node(_) => "`nodectl list` lists the nodes.",
            Self::Off(_) => "`nodectl console` shows what it printed before it went off.",
            Self::Screenshot { .. } => "`nodectl console` shows what it prints on its serial line.",
            Self::Protocol { .. } => "Use the same version of this resource type for put and get.",
            Self::Output(_) => return None,
        }.to_owned())
    }
}

/// How long a connection may take before it is tried again: a packet may be lost, but not every one.
const CONNECT: Duration = Duration::from_secs(3);

/// How often a connection is tried. With [`CONNECT`], an agent that nothing leads to is given up within 10 s.
const TRIES: u32 = 3;

/// How long an answer may take, that to a destroy included.
const ANSWER: Duration = Duration::from_secs(60);

/// The way to one agent.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    /// For people: an address or a path.
    at: String,
    token: Option<Token>,
}

impl Client {
    /// To an agent in another container. Proxies of the environment are for the world outside the worker and not used.
    ///
    /// # Errors
    /// When TLS cannot be set up at all.
    pub fn tls(endpoint: SocketAddrV4, fingerprint: Sha256, token: &Token) -> Result<Self, ClientError> {
        let at = endpoint.to_string();
        let broken = |said: String| ClientError::Protocol { at: at.clone(), said };
        let config = pinned(fingerprint).map_err(|error| broken(error.to_string()))?;
        let http = builder()
            .tls_backend_preconfigured(config)
            .build()
            .map_err(|error| broken(error.to_string()))?;
        Ok(Self {
            http,
            base: format!("https://{endpoint}"),
            at,
            token: Some(token.clone()),
        })
    }

    /// To the agent of this container.
    ///
    /// # Errors
    /// As [`Client::tls`].
    pub fn unix(path: &Path) -> Result<Self, ClientError> {
        let at = path.display().to_string();
        // No server of the web is spoken to, so no certificate of the system is wanted.
        let http = builder()
            .tls_backend_preconfigured(pinned(Sha256([0; 32])).map_err(|error| ClientError::Protocol {
                at: at.clone(),
                said: error.to_string(),
            })?)
            .unix_socket(PathBuf::from(path))
            .build()
            .map_err(|error| ClientError::Protocol {
                at: at.clone(),
                said: error.to_string(),
            })?;
        Ok(Self {
            http,
            base: "http://agent".to_owned(),
            at,
            token: None,
        })
    }

    /// The cluster as it is now, whatever its state.
    pub async fn cluster(&self) -> Result<Cluster, ClientError> {
        let response = self.send(Method::GET, "/v1/cluster", Some(ANSWER)).await?;
        let bytes = response.bytes().await.map_err(|error| self.broken(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::Protocol {
            at: self.at.clone(),
            said: error.to_string(),
        })
    }

    /// The cluster and its nodes' consoles, for the files of a later step.
    ///
    /// # Errors
    /// When it is not ready (any more), each state its own error.
    pub async fn fetch(&self) -> Result<(Cluster, BTreeMap<Name, Vec<u8>>), ClientError> {
        let cluster = self.cluster().await?;
        ready(&cluster)?;
        // Side by side over one connection each: ten consoles cost one round trip.
        let consoles = cluster.nodes.iter().map(|node| async {
            let mut console = Vec::new();
            self.console(&node.name, false, None, &mut console).await?;
            Ok::<_, ClientError>((node.name.clone(), console))
        });
        let consoles = futures_util::future::try_join_all(consoles).await?;
        Ok((cluster, consoles.into_iter().collect()))
    }

    /// Ends the cluster; returns when nothing of it runs any more. One that has ended already is no error.
    pub async fn destroy(&self) -> Result<(), ClientError> {
        self.send(Method::DELETE, "/v1/cluster", Some(ANSWER))
            .await
            .map(drop)
    }

    /// Copies a node's console, the last `tail` lines of it where given; goes on as it grows with `follow`.
    pub async fn console(
        &self,
        node: &Name,
        follow: bool,
        tail: Option<usize>,
        out: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), ClientError> {
        let mut path = format!("/v1/nodes/{node}/console?follow={follow}");
        if let Some(lines) = tail {
            path += &format!("&tail={lines}");
        }
        let answer = self.ask(Method::GET, &path, (!follow).then_some(ANSWER)).await?;
        let response = answer.map_err(|refusal| self.refused(Some(node), refusal))?;
        let mut body = response.bytes_stream();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| self.broken(&error))?;
            out.write_all(&chunk).await.map_err(ClientError::Output)?;
            out.flush().await.map_err(ClientError::Output)?;
        }
        Ok(())
    }

    /// A PNG of what a node's display shows.
    pub async fn screenshot(&self, node: &Name) -> Result<Vec<u8>, ClientError> {
        let path = format!("/v1/nodes/{node}/screenshot");
        let answer = self.ask(Method::GET, &path, Some(ANSWER)).await?;
        let response = answer.map_err(|refusal| self.refused(Some(node), refusal))?;
        let png = response.bytes().await.map_err(|error| self.broken(&error))?;
        Ok(png.into())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        limit: Option<Duration>,
    ) -> Result<reqwest::Response, ClientError> {
        let answer = self.ask(method, path, limit).await?;
        answer.map_err(|refusal| self.refused(None, refusal))
    }

    /// What a refusal means; `node` is the one that was asked about.
    fn refused(&self, node: Option<&Name>, refusal: RefusalText) -> ClientError {
        match (refusal.code.as_str(), node) {
            (NODE_CODE, Some(node)) => ClientError::Node(node.clone()),
            (OFF_CODE, Some(node)) => ClientError::Off(node.clone()),
            (SCREENSHOT_CODE, Some(node)) => ClientError::Screenshot {
                node: node.clone(),
                said: refusal.message,
            },
            _ => ClientError::Protocol {
                at: self.at.clone(),
                said: refusal.message,
            },
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        limit: Option<Duration>,
    ) -> Result<Result<reqwest::Response, RefusalText>, ClientError> {
        let request = || {
            let mut request: RequestBuilder =
                self.http.request(method.clone(), format!("{}{path}", self.base));
            if let Some(limit) = limit {
                request = request.timeout(limit);
            }
            match &self.token {
                Some(token) => request.bearer_auth(token.expose()),
                None => request,
            }
        };
        let mut tries = 0;
        let response = loop {
            tries += 1;
            match request().send().await {
                Ok(response) => break response,
                Err(error) if error.is_connect() && error.is_timeout() && tries < TRIES => {}
                Err(error) => return Err(self.broken(&error)),
            }
        };
        match response.status() {
            status if status.is_success() => Ok(Ok(response)),
            StatusCode::UNAUTHORIZED => Err(ClientError::Token { at: self.at.clone() }),
            status => Ok(Err(match response.json::<RefusalBody>().await {
                Ok(body) => body.error,
                Err(_) => RefusalText {
                    code: String::new(),
                    message: format!("HTTP status {status}"),
                },
            })),
        }
    }

    fn broken(&self, error: &reqwest::Error) -> ClientError {
        let at = self.at.clone();
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        let mut said = error.to_string();
        while let Some(error) = cause {
            if let Some(wrong) = wrong_certificate(error) {
                return ClientError::Certificate { at, wrong };
            }
            if let Some(io) = error.downcast_ref::<std::io::Error>() {
                match io.kind() {
                    std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound => {
                        return ClientError::Refused { at };
                    }
                    _ => {}
                }
            }
            said = error.to_string();
            cause = error.source();
        }
        if error.is_timeout() {
            said = "nothing answers".to_owned();
        }
        if error.is_connect() || error.is_timeout() {
            ClientError::Unreachable { at, said }
        } else {
            ClientError::Protocol { at, said }
        }
    }
}

/// rustls wraps what a verifier says in an error of its own, and those who use it wrap that in I/O errors, one in the
/// other, whose `source()` skips what they hold.
fn wrong_certificate(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(held) = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref)
    {
        return wrong_certificate(held);
    }
    match error.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) => other
            .0
            .downcast_ref::<WrongCertificate>()
            .map(ToString::to_string),
        _ => None,
    }
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(CONNECT)
        .redirect(reqwest::redirect::Policy::none())
}

/// Whether a cluster can be reached, and if not, why.
pub fn ready(cluster: &Cluster) -> Result<(), ClientError> {
    let name = cluster.cluster.clone();
    Err(match &cluster.state {
        ClusterState::Ready => return Ok(()),
        ClusterState::Starting => ClientError::Starting(name),
        ClusterState::Kept { reason } => ClientError::Kept {
            cluster: name,
            reason: reason.clone(),
        },
        ClusterState::Destroyed => ClientError::Destroyed(name),
        ClusterState::Expired { lifetime } => ClientError::Expired {
            cluster: name,
            lifetime: *lifetime,
            at: utc(cluster.expires_at),
        },
        ClusterState::Lost { reason } => ClientError::Lost {
            cluster: name,
            reason: reason.clone(),
        },
    })
}
