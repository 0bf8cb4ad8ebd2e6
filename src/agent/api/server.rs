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
use axum::routing::{delete, get};
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
use super::types::Cluster;
pub use super::visit::Limits;
use super::visit::{Guard, Reception};
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
    fn console(&self, node: &Name) -> Option<PathBuf>;
    /// How every node came up so far. Blocks while it reads the consoles.
    fn report(&self) -> Report;
    /// A PNG of what a node's display shows.
    fn screenshot(&self, node: &Name) -> impl Future<Output = Result<Vec<u8>, NoScreenshot>> + Send;
    /// Makes an agent go that stands only to tell how its cluster ended; `false` where the cluster has not ended.
    fn dismiss(&self) -> bool;
    /// Turns true when nothing of the cluster runs any more, and no console says anything more.
    fn ended(&self) -> watch::Receiver<bool>;
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
    name: Result<UrlPath<String>, axum::extract::rejection::PathRejection>,
    query: Result<Query<ConsoleQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let name: Name = name
        .map_err(|_| Refusal::NODE)?
        .parse()
        .map_err(|_| Refusal::NODE)?;
    let path = service.console(&name).ok_or(Refusal::NODE)?;
    let Query(query) = query.map_err(|_| Refusal::QUERY)?;
    let follow = query.follow.then(|| service.ended());
    let console = Console::open(path, query.tail, follow)
        .await
        .map_err(|_| Refusal::CONSOLE)?;
    if console.is_absent() {
        // The node has not been powered on yet.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(Body::from_stream(console.stream()).into_response())
}

async fn screenshot<S: Service>(
    State(service): State<S>,
    name: Result<UrlPath<String>, axum::extract::rejection::PathRejection>,
) -> Response {
    let Some(name) = name.ok().and_then(|name| name.parse::<Name>().ok()) else {
        return Refusal::NODE.into_response();
    };
    match service.screenshot(&name).await {
        Ok(png) => ([(header::CONTENT_TYPE, "image/png")], png).into_response(),
        Err(NoScreenshot::Node) => Refusal::NODE.into_response(),
        Err(NoScreenshot::Off) => Refusal::OFF.into_response(),
        Err(NoScreenshot::Failed(said)) => Refusal::SCREENSHOT.saying(said),
    }
}
