//! The API's routes, served over TLS with a token and over a Unix socket without.

use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::serve::Listener;
use axum::{Json, Router};
use serde::Deserialize;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::console::Console;
use super::identity::Identity;
use super::refusal::Refusal;
pub use super::refusal::{RefusalBody, RefusalText};
use super::tls;
use super::types::{Cluster, NodeInfo, Readiness, Switch};
pub use super::visit::Limits;
use super::visit::{Guard, Reception};
use crate::agent::machines::NoSwitch;
use crate::agent::wire::prepare;
use crate::concourse::Token;
use crate::report::Report;
use crate::topology::name::Name;

/// What the agent does when it is asked.
pub trait Service: Clone + Send + Sync + 'static {
    /// The cluster as it is now.
    fn cluster(&self) -> Cluster;
    /// Ends it; returns when nothing of it runs any more.
    fn destroy(&self) -> impl Future<Output = ()> + Send;
    /// Where a node's console is written; `None` of a node that there is not.
    fn console(&self, node: &Name) -> Option<Consoles>;
    /// Switches a node's machine; gives the node as it is then.
    fn switch(&self, node: &Name, switch: Switch) -> impl Future<Output = Result<NodeInfo, NoSwitch>> + Send;
    /// Waits until a node is ready, for `limit` at most.
    fn wait(&self, node: &Name, limit: Duration) -> impl Future<Output = Result<Readiness, NoSwitch>> + Send;
    /// How every node came up so far. Blocks while it reads the consoles.
    fn report(&self) -> Report;
    /// A PNG of what a node's display shows.
    fn screenshot(&self, node: &Name) -> impl Future<Output = Result<Vec<u8>, NoScreenshot>> + Send;
    /// Makes an agent go that stands only to tell how its cluster ended; `false` where the cluster has not ended.
    fn dismiss(&self) -> bool;
    /// Turns true when nothing of the cluster runs any more, and no console says anything more.
    fn ended(&self) -> watch::Receiver<bool>;
}

/// The files of a node's console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consoles {
    /// What it has printed before its power was last switched on; need not be there.
    pub earlier: PathBuf,
    /// What it has printed since.
    pub current: PathBuf,
}

/// Why there is no screenshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoScreenshot {
    /// There is no such node.
    Node,
    /// Its machine is not running.
    Off,
    /// It could not be taken; why, for people.
    Failed(String),
}

/// A running server; it and all connections to it end when dropped.
#[derive(Debug)]
pub struct Server {
    task: JoinHandle<()>,
    ending: watch::Sender<bool>,
}

impl Server {
    fn start<F>(serve: impl FnOnce(watch::Receiver<bool>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (ending, ended) = watch::channel(false);
        Self {
            task: tokio::spawn(serve(ended)),
            ending,
        }
    }

    /// Takes no more requests; returns when those that were taken are answered, or `limit` is over.
    pub async fn finish(mut self, limit: Duration) {
        self.ending.send_replace(true);
        let _ = tokio::time::timeout(limit, &mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves over TLS to whoever shows the token.
///
/// # Errors
/// When the identity's key and certificate do not fit each other.
pub fn serve_tls(
    listener: TcpListener,
    identity: Identity,
    token: Token,
    service: impl Service,
) -> std::io::Result<Server> {
    serve_tls_within(Limits::default(), listener, identity, token, service)
}

/// As [`serve_tls`], with other limits.
///
/// # Errors
/// As [`serve_tls`].
pub fn serve_tls_within(
    limits: Limits,
    listener: TcpListener,
    identity: Identity,
    token: Token,
    service: impl Service,
) -> std::io::Result<Server> {
    let guard = Guard::new(tls::acceptor(identity)?, token, limits);
    let routes = routes(service);
    Ok(Server::start(|ending| {
        let reception = Reception::new(routes, limits, ending.clone());
        attend(listener, ending, move |stream, peer| {
            let pass = guard.enter(peer.ip())?;
            prepare(&stream);
            Some(reception.clone().receive_stranger(stream, pass, guard.clone()))
        })
    }))
}

/// Serves on a Unix socket to whoever may open it: root of this container. A socket that is there is replaced.
///
/// # Errors
/// When the socket cannot be made.
pub fn serve_unix(path: &Path, service: impl Service) -> std::io::Result<Server> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    // Only from this very container: others want to be told how the cluster ended.
    let routes = routes(service.clone()).merge(own_routes(service));
    Ok(Server::start(|ending| {
        let reception = Reception::new(routes, Limits::default(), ending.clone());
        attend(listener, ending, move |stream, _| {
            Some(reception.clone().receive_own(stream))
        })
    }))
}

/// Takes connections until it ends, each received (or turned away: `None`) by itself; returns when all visits are over.
async fn attend<L, F>(
    mut listener: L,
    mut ending: watch::Receiver<bool>,
    receive: impl Fn(L::Io, L::Addr) -> Option<F>,
) where
    L: Listener,
    F: Future<Output = ()> + Send + 'static,
{
    let mut visits = JoinSet::new();
    loop {
        while visits.try_join_next().is_some() {}
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ending.wait_for(|ending| *ending) => break,
        };
        if let Some(visit) = receive(stream, peer) {
            visits.spawn(visit);
        }
    }
    drop(listener);
    while visits.join_next().await.is_some() {}
}

fn routes<S: Service>(service: S) -> Router {
    Router::new()
        .route("/v1/cluster", get(cluster::<S>).delete(destroy::<S>))
        .route("/v1/report", get(report::<S>))
        .route("/v1/nodes/{name}/console", get(console::<S>))
        .route("/v1/nodes/{name}/screenshot", get(screenshot::<S>))
        .route("/v1/nodes/{name}/power", post(power::<S>))
        .route("/v1/nodes/{name}/wait", post(wait::<S>))
        .fallback(|| async { Refusal::PATH })
        .method_not_allowed_fallback(|| async { Refusal::METHOD })
        .with_state(service)
}

fn own_routes<S: Service>(service: S) -> Router {
    Router::new()
        .route("/v1/agent", delete(dismiss::<S>))
        .with_state(service)
}

async fn cluster<S: Service>(State(service): State<S>) -> Json<Cluster> {
    Json(service.cluster())
}

async fn report<S: Service>(State(service): State<S>) -> Result<Json<Report>, Refusal> {
    let report = tokio::task::spawn_blocking(move || service.report()).await;
    report.map(Json).map_err(|_| Refusal::REPORT)
}

async fn destroy<S: Service>(State(service): State<S>) -> StatusCode {
    // In a task of its own: a caller who goes away must not leave a cluster half destroyed.
    let _ = tokio::spawn(async move { service.destroy().await }).await;
    StatusCode::NO_CONTENT
}

async fn dismiss<S: Service>(State(service): State<S>) -> Result<StatusCode, Refusal> {
    match service.dismiss() {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Refusal::HELD),
    }
}

/// What stands in a path where a node's name belongs.
type NodeName = Result<UrlPath<String>, axum::extract::rejection::PathRejection>;

fn node(name: NodeName) -> Result<Name, Refusal> {
    let UrlPath(name) = name.map_err(|_| Refusal::NODE)?;
    name.parse().map_err(|_| Refusal::NODE)
}

/// How a console is asked for.
#[derive(Debug, Default, Deserialize)]
struct ConsoleQuery {
    /// Go on as the node prints.
    #[serde(default)]
    follow: bool,
    /// Only the last so many lines.
    tail: Option<usize>,
}

async fn console<S: Service>(
    State(service): State<S>,
    name: NodeName,
    query: Result<Query<ConsoleQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let name = node(name)?;
    let consoles = service.console(&name).ok_or(Refusal::NODE)?;
    let Query(query) = query.map_err(|_| Refusal::QUERY)?;
    let follow = query.follow.then(|| service.ended());
    let console = Console::open(consoles, query.tail, follow)
        .await
        .map_err(|_| Refusal::CONSOLE)?;
    if console.is_absent() {
        // The node has not been powered on yet.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(Body::from_stream(console.stream()).into_response())
}

async fn screenshot<S: Service>(State(service): State<S>, name: NodeName) -> Response {
    let name = match node(name) {
        Ok(name) => name,
        Err(refusal) => return refusal.into_response(),
    };
    match service.screenshot(&name).await {
        Ok(png) => ([(header::CONTENT_TYPE, "image/png")], png).into_response(),
        Err(NoScreenshot::Node) => Refusal::NODE.into_response(),
        Err(NoScreenshot::Off) => Refusal::OFF.into_response(),
        Err(NoScreenshot::Failed(said)) => Refusal::SCREENSHOT.saying(said),
    }
}

/// How a machine is switched.
#[derive(Debug, Deserialize)]
struct PowerQuery {
    action: String,
    /// Seconds.
    timeout: Option<u64>,
}

/// How long a guest may take to switch itself off, where nothing else is said: a server with many services, translated.
pub const SWITCH_OFF: Duration = Duration::from_secs(120);

/// Nobody waits longer.
const LONGEST: u64 = 86_400;

async fn power<S: Service>(
    State(service): State<S>,
    name: NodeName,
    query: Result<Query<PowerQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let name = node(name)?;
    let Query(query) = query.map_err(|_| Refusal::ACTION)?;
    let seconds = query.timeout.unwrap_or(SWITCH_OFF.as_secs());
    let switch = match query.action.as_str() {
        "on" => Switch::On,
        "off" if seconds <= LONGEST => Switch::Off { seconds },
        "cut" => Switch::Cut,
        "cycle" => Switch::Cycle,
        "pause" => Switch::Pause,
        "resume" => Switch::Resume,
        _ => return Err(Refusal::ACTION),
    };
    // In a task of its own: who goes away must not leave a machine off that was to be switched on again.
    let switched = tokio::spawn(async move { service.switch(&name, switch).await }).await;
    Ok(match switched {
        Ok(Ok(node)) => Json(node).into_response(),
        Ok(Err(why)) => not_switched(why),
        Err(_) => Refusal::POWER.into_response(),
    })
}

/// How a node is waited for.
#[derive(Debug, Deserialize)]
struct WaitQuery {
    /// Seconds.
    timeout: u64,
}

async fn wait<S: Service>(
    State(service): State<S>,
    name: NodeName,
    query: Result<Query<WaitQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let name = node(name)?;
    let Query(query) = query.map_err(|_| Refusal::ACTION)?;
    let limit = Duration::from_secs(query.timeout.min(LONGEST));
    Ok(match service.wait(&name, limit).await {
        Ok(readiness) => Json(readiness).into_response(),
        Err(why) => not_switched(why),
    })
}

fn not_switched(why: NoSwitch) -> Response {
    match why {
        NoSwitch::Node => Refusal::NODE.into_response(),
        NoSwitch::Starting => Refusal::STARTING.into_response(),
        NoSwitch::Ended => Refusal::ENDED.into_response(),
        NoSwitch::Off => Refusal::OFF.into_response(),
        NoSwitch::Paused => Refusal::PAUSED.into_response(),
        NoSwitch::Crashed => Refusal::CRASHED.into_response(),
        NoSwitch::Ignored(seconds) => Refusal::IGNORED.saying(format!(
            "the guest has not switched its machine off within {seconds} s of its power button being pressed"
        )),
        NoSwitch::Failed(said) => Refusal::POWER.saying(said),
    }
}
