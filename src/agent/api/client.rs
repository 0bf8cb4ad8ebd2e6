//! Asks an agent, over TLS from another container or over its Unix socket from its own.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use reqwest::{Method, RequestBuilder};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::refusal::RefusalBody;
use super::tls::{WrongCertificate, pinned};
use super::types::{Cluster, ClusterState, NodeInfo, Readiness, Switch};
use crate::concourse::Token;
use crate::fault::Fault;
use crate::report::Report;
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
    /// There is no way there.
    #[error("the cluster's agent at {at} cannot be reached: {said}")]
    Unreachable {
        /// Where.
        at: String,
        /// What the system said.
        said: String,
    },
    /// The connection stands, and nothing comes.
    #[error("the cluster's agent at {at} has not answered within {seconds} s")]
    Silent {
        /// Where.
        at: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The connection stood, and does no more.
    #[error("the cluster's agent at {at} broke off before it had answered: {said}")]
    BrokeOff {
        /// Where.
        at: String,
        /// What the system said.
        said: String,
    },
    /// The socket is not this user's.
    #[error("{at}: cannot be opened: permission denied")]
    Denied {
        /// The socket.
        at: String,
    },
    /// Something listens there that is no agent at all.
    #[error("what listens at {at} is no cluster's agent: it does not speak TLS")]
    NotTls {
        /// Where.
        at: String,
    },
    /// Another agent listens there.
    #[error("at {at} is another agent than this cluster's: {wrong}")]
    Certificate {
        /// Where.
        at: String,
        /// Both fingerprints.
        wrong: String,
    },
    /// It is not the release that this program is.
    #[error("the cluster's agent at {at} is release {theirs}, this program is {}: they do not understand each other", env!("CARGO_PKG_VERSION"))]
    Release {
        /// Where.
        at: String,
        /// Its release.
        theirs: String,
    },
    /// It has its hands full.
    #[error("the cluster's agent at {at} has too many connections")]
    Busy {
        /// Where.
        at: String,
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
    /// A node of it is paused.
    #[error("the machine of node {0} is paused")]
    Paused(Name),
    /// A node of it has panicked.
    #[error("the kernel of node {0} has panicked, its machine stands still")]
    Crashed(Name),
    /// A guest does not switch itself off.
    #[error("node {node} is still on: {said}")]
    Ignored {
        /// The node.
        node: Name,
        /// For how long.
        said: String,
    },
    /// A machine could not be switched.
    #[error("the machine of node {node} cannot be switched: {said}")]
    Power {
        /// The node.
        node: Name,
        /// Why.
        said: String,
    },
    /// The cluster is not, or no longer, one whose nodes can be switched.
    #[error("node {node} is left as it is: {said}")]
    NotNow {
        /// The node.
        node: Name,
        /// Why.
        said: String,
    },
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
            Self::Silent { .. } => "The worker is overloaded, or the agent hangs. Try again; if it stays so, run the put again and report it with the agent's log.",
            Self::BrokeOff { .. } => "The agent died (look for \"Out of memory\" in the worker's kernel log), or its container was ended. Run the put again.",
            Self::Denied { .. } => "Run this as root of the put's container.",
            Self::NotTls { .. } => "The cluster of this version is gone, and its address was given to another container. Run the put again.",
            Self::Release { .. } => "The image of the resource type has changed since the put. Run the put again, or use the image that it ran with.",
            Self::Busy { .. } => "Something opens connections without end: end the `nodectl console --follow` that nobody reads, then try again.",
            Self::Certificate { .. } => "The cluster of this version is gone, and its address was given to another one. Run the put again.",
            Self::Token { .. } => "source.token is another one than when the cluster was put. Set it back, or run the put again.",
            Self::Destroyed(_) => "Run the put again.",
            Self::Expired { .. } => "Run the put again, with a longer `lifetime` if the build needs it.",
            Self::Lost { .. } => "Run the put again; look for the cause in the worker's kernel log (\"Out of memory\") first.",
            Self::Starting(_) => "Wait for its put to end.",
            Self::Kept { .. } => "It is kept for inspection by `fly hijack` (on_failure: keep): see the log of its put.",
            Self::Node(_) => "`nodectl list` lists the nodes.",
            Self::Off(_) => "`nodectl power on` switches it on; `nodectl console` shows what it printed before it went off.",
            Self::Paused(_) => "`nodectl resume` lets it go on, `nodectl power cut` cuts its power.",
            Self::Crashed(_) => "`nodectl console` and `nodectl screenshot` show how; `nodectl power cycle` starts it anew.",
            Self::Ignored { .. } => "A guest that is starting, hangs, or has neither systemd-logind nor acpid does not see its power button: give it longer with --timeout, or cut its power with `nodectl power cut`.",
            Self::Power { .. } => "`nodectl power cycle` cuts its power and starts it anew; the agent's log is in the put's container.",
            Self::NotNow { .. } => "`nodectl list` says how the cluster stands.",
            Self::Screenshot { .. } => "`nodectl console` shows what it prints on its serial line.",
            Self::Protocol { .. } => "Please report it, with the release of the resource type that the put ran with.",
            Self::Output(_) => return None,
        }.to_owned())
    }
}

/// How long a client waits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a connection, TLS included, before it is tried again: a packet may be lost, but not every one.
    pub connect: Duration,
    /// For a whole answer, that to a destroy included.
    pub answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            answer: Duration::from_secs(60),
        }
    }
}

/// How often a connection is tried: an agent that nothing leads to is given up within 10 s.
const TRIES: u32 = 3;

/// How many consoles are read at once.
const SIDE_BY_SIDE: usize = 16;

/// The way to one agent.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    /// For people: an address or a path.
    at: String,
    /// `None` where it is a path.
    endpoint: Option<SocketAddrV4>,
    token: Option<Token>,
    limits: Limits,
}

impl Client {
    /// To an agent in another container. Proxies of the environment are for the world outside the worker and not used.
    ///
    /// # Errors
    /// When TLS cannot be set up at all.
    pub fn tls(endpoint: SocketAddrV4, fingerprint: Sha256, token: &Token) -> Result<Self, ClientError> {
        Self::tls_within(Limits::default(), endpoint, fingerprint, token)
    }

    /// As [`Client::tls`], for who waits longer or less long than others.
    ///
    /// # Errors
    /// As [`Client::tls`].
    pub fn tls_within(
        limits: Limits,
        endpoint: SocketAddrV4,
        fingerprint: Sha256,
        token: &Token,
    ) -> Result<Self, ClientError> {
        let at = endpoint.to_string();
        let broken = |said: String| ClientError::Protocol { at: at.clone(), said };
        let config = pinned(fingerprint).map_err(|error| broken(error.to_string()))?;
        let http = builder(limits)
            .tls_backend_preconfigured(config)
            .build()
            .map_err(|error| broken(error.to_string()))?;
        Ok(Self {
            http,
            base: format!("https://{endpoint}"),
            at,
            endpoint: Some(endpoint),
            token: Some(token.clone()),
            limits,
        })
    }

    /// To the agent of this container.
    ///
    /// # Errors
    /// As [`Client::tls`].
    pub fn unix(path: &Path) -> Result<Self, ClientError> {
        let limits = Limits::default();
        let at = path.display().to_string();
        let broken = |said: String| ClientError::Protocol { at: at.clone(), said };
        // No server of the web is spoken to, so no certificate of the system is wanted.
        let config = pinned(Sha256([0; 32])).map_err(|error| broken(error.to_string()))?;
        let http = builder(limits)
            .tls_backend_preconfigured(config)
            .unix_socket(PathBuf::from(path))
            .build()
            .map_err(|error| broken(error.to_string()))?;
        Ok(Self {
            http,
            base: "http://agent".to_owned(),
            at,
            endpoint: None,
            token: None,
            limits,
        })
    }

    /// The cluster as it is now, whatever its state.
    pub async fn cluster(&self) -> Result<Cluster, ClientError> {
        let response = self
            .send(Method::GET, "/v1/cluster", Some(self.limits.answer), None)
            .await?;
        let theirs = release(&response);
        let bytes = response.bytes().await.map_err(|error| self.broken(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| self.foreign(theirs, error.to_string()))
    }

    /// The cluster and its nodes' consoles, for the files of a later step.
    ///
    /// # Errors
    /// When it is not ready (any more), each state its own error.
    pub async fn fetch(&self) -> Result<(Cluster, BTreeMap<Name, Vec<u8>>, Report), ClientError> {
        let cluster = self.cluster().await?;
        ready(&cluster)?;
        // Side by side over one connection each: ten consoles cost one round trip. Not all of a large cluster's at once:
        // an agent lets in so many strangers and no more.
        let consoles = cluster.nodes.iter().map(|node| async {
            let mut console = Vec::new();
            self.console(&node.name, false, None, &mut console).await?;
            Ok::<_, ClientError>((node.name.clone(), console))
        });
        let consoles = futures_util::stream::iter(consoles)
            .buffer_unordered(SIDE_BY_SIDE)
            .try_collect();
        let (consoles, report) = tokio::try_join!(consoles, self.report())?;
        Ok((cluster, consoles, report))
    }

    /// Ends the cluster; returns when nothing of it runs any more. One that has ended already is no error.
    pub async fn destroy(&self) -> Result<(), ClientError> {
        self.send(Method::DELETE, "/v1/cluster", Some(self.limits.answer), None)
            .await
            .map(drop)
    }

    /// Makes the agent of this container go, whose cluster has ended.
    ///
    /// # Errors
    /// Also when its cluster has not ended.
    pub async fn dismiss(&self) -> Result<(), ClientError> {
        self.send(Method::DELETE, "/v1/agent", Some(self.limits.answer), None)
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
        let limit = (!follow).then_some(self.limits.answer);
        let response = self.send(Method::GET, &path, limit, Some(node)).await?;
        let mut body = response.bytes_stream();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| self.broken(&error))?;
            out.write_all(&chunk).await.map_err(ClientError::Output)?;
            out.flush().await.map_err(ClientError::Output)?;
        }
        if follow {
            // It ends with the cluster. Where the agent has gone with it there is nobody left to say how.
            if let Ok(cluster) = self.cluster().await {
                return ready(&cluster);
            }
        }
        Ok(())
    }

    /// How every node came up so far.
    pub async fn report(&self) -> Result<Report, ClientError> {
        let response = self
            .send(Method::GET, "/v1/report", Some(self.limits.answer), None)
            .await?;
        response.json().await.map_err(|error| self.broken(&error))
    }

    /// A PNG of what a node's display shows.
    pub async fn screenshot(&self, node: &Name) -> Result<Vec<u8>, ClientError> {
        let path = format!("/v1/nodes/{node}/screenshot");
        let response = self
            .send(Method::GET, &path, Some(self.limits.answer), Some(node))
            .await?;
        let png = response.bytes().await.map_err(|error| self.broken(&error))?;
        Ok(png.into())
    }

    /// Switches a node's machine; gives the node as it is then.
    pub async fn switch(&self, node: &Name, switch: Switch) -> Result<NodeInfo, ClientError> {
        let mut path = format!("/v1/nodes/{node}/power?action={}", switch.action());
        let mut limit = self.limits.answer;
        if let Switch::Off { seconds } = switch {
            path += &format!("&timeout={seconds}");
            limit += Duration::from_secs(seconds);
        }
        self.post(&path, limit, node).await
    }

    /// Waits until a node is ready, for `limit` at most; whole seconds.
    pub async fn wait(&self, node: &Name, limit: Duration) -> Result<Readiness, ClientError> {
        let path = format!("/v1/nodes/{node}/wait?timeout={}", limit.as_secs());
        self.post(&path, limit + self.limits.answer, node).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        limit: Duration,
        node: &Name,
    ) -> Result<T, ClientError> {
        let response = self.send(Method::POST, path, Some(limit), Some(node)).await?;
        let theirs = release(&response);
        let bytes = response.bytes().await.map_err(|error| self.broken(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| self.foreign(theirs, error.to_string()))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        limit: Option<Duration>,
        node: Option<&Name>,
    ) -> Result<reqwest::Response, ClientError> {
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
            let error = match request().send().await {
                Ok(response) => break response,
                Err(error) => error,
            };
            let told = self.broken(&error);
            // Nothing has been asked yet, so nothing is asked twice.
            let lost =
                error.is_connect() && (error.is_timeout() || matches!(told, ClientError::BrokeOff { .. }));
            if !lost {
                return Err(told);
            }
            if tries == TRIES {
                return Err(self.lost(told).await);
            }
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let theirs = release(&response);
        let at = self.at.clone();
        let Ok(RefusalBody { error }) = response.json().await else {
            return Err(self.foreign(theirs, format!("HTTP status {status}")));
        };
        Err(match (error.code.as_str(), node) {
            ("token", _) => ClientError::Token { at },
            ("busy", _) => ClientError::Busy { at },
            ("node", Some(node)) => ClientError::Node(node.clone()),
            ("off", Some(node)) => ClientError::Off(node.clone()),
            ("paused", Some(node)) => ClientError::Paused(node.clone()),
            ("crashed", Some(node)) => ClientError::Crashed(node.clone()),
            ("ignored", Some(node)) => ClientError::Ignored {
                node: node.clone(),
                said: error.message,
            },
            ("power", Some(node)) => ClientError::Power {
                node: node.clone(),
                said: error.message,
            },
            ("starting" | "ended", Some(node)) => ClientError::NotNow {
                node: node.clone(),
                said: error.message,
            },
            ("screenshot", Some(node)) => ClientError::Screenshot {
                node: node.clone(),
                said: error.message,
            },
            _ => self.foreign(theirs, error.message),
        })
    }

    /// What cannot be understood: as a rule because it is of another release.
    fn foreign(&self, theirs: Option<String>, said: String) -> ClientError {
        let at = self.at.clone();
        match theirs {
            Some(theirs) if theirs != env!("CARGO_PKG_VERSION") => ClientError::Release { at, theirs },
            _ => ClientError::Protocol { at, said },
        }
    }

    /// Whether it was the way or the agent, where no handshake came to its end: the kernel of a container whose agent
    /// hangs accepts connections all the same.
    async fn lost(&self, told: ClientError) -> ClientError {
        let (ClientError::Unreachable { at, .. }, Some(endpoint)) = (&told, self.endpoint) else {
            return told;
        };
        let connection = tokio::net::TcpStream::connect(endpoint);
        match tokio::time::timeout(self.limits.connect, connection).await {
            Ok(Ok(_)) => ClientError::Silent {
                at: at.clone(),
                seconds: self.limits.connect.as_secs() * u64::from(TRIES),
            },
            _ => told,
        }
    }

    fn broken(&self, error: &reqwest::Error) -> ClientError {
        let at = self.at.clone();
        let mut said = error.to_string();
        let mut broke_off = !error.is_connect();
        for cause in causes(error) {
            if let Some(rustls) = cause.downcast_ref::<rustls::Error>() {
                if let Some(wrong) = wrong_certificate(rustls) {
                    return ClientError::Certificate { at, wrong };
                }
                if matches!(rustls, rustls::Error::InvalidMessage(_)) && error.is_connect() {
                    return ClientError::NotTls { at };
                }
            }
            if let Some(hyper) = cause.downcast_ref::<hyper::Error>() {
                if hyper.is_parse() {
                    let said = hyper.to_string();
                    return ClientError::Protocol { at, said };
                }
            }
            if let Some(io) = cause.downcast_ref::<std::io::Error>() {
                match io.kind() {
                    ErrorKind::ConnectionRefused | ErrorKind::NotFound => {
                        return ClientError::Refused { at };
                    }
                    ErrorKind::PermissionDenied if self.endpoint.is_none() => {
                        return ClientError::Denied { at };
                    }
                    ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => {
                        broke_off = true;
                    }
                    _ => {}
                }
            }
            said = cause.to_string();
        }
        if broke_off && error.is_timeout() {
            let seconds = self.limits.answer.as_secs();
            ClientError::Silent { at, seconds }
        } else if broke_off {
            ClientError::BrokeOff { at, said }
        } else {
            if error.is_timeout() {
                said = "nothing answers".to_owned();
            }
            ClientError::Unreachable { at, said }
        }
    }
}

/// The release that an answer comes from, where it comes from an agent.
fn release(response: &reqwest::Response) -> Option<String> {
    let server = response.headers().get(reqwest::header::SERVER)?.to_str().ok()?;
    server.strip_prefix("libvirt-resource/").map(str::to_owned)
}

/// An error and everything under it. Those who use rustls wrap its errors in I/O errors, one in the other, whose
/// `source()` skips what they hold.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        match error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            Some(held) => Some(held as &(dyn std::error::Error + 'static)),
            None => error.source(),
        }
    })
}

/// What our verifier said, which rustls wraps in an error of its own.
fn wrong_certificate(error: &rustls::Error) -> Option<String> {
    match error {
        rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) => other
            .0
            .downcast_ref::<WrongCertificate>()
            .map(ToString::to_string),
        _ => None,
    }
}

fn builder(limits: Limits) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .http1_only()
        .connect_timeout(limits.connect)
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
