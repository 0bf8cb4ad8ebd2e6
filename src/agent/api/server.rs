//! The API's routes, served over TLS with a token and over a Unix socket without.

use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path as UrlPath, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::net::{TcpListener, UnixListener};

use super::identity::Identity;
use super::tls::TlsListener;
use super::types::Cluster;
use crate::agent::watch::tail::Tail;
use crate::concourse::Token;
use crate::topology::name::Name;

/// What the agent does when it is asked.
pub trait Service: Clone + Send + Sync + 'static {
    /// The cluster as it is now.
    fn cluster(&self) -> Cluster;
    /// Ends it; returns when nothing of it runs any more.
    fn destroy(&self) -> impl Future<Output = ()> + Send;
    /// Where a node's console is written; `None` of a node that there is not.
    fn console(&self, node: &Name) -> Option<PathBuf>;
    /// A PNG of what a node's display shows.
    fn screenshot(&self, node: &Name) -> impl Future<Output = Result<Vec<u8>, NoScreenshot>> + Send;
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

/// A running server; ends when dropped.
#[derive(Debug)]
pub struct Server(tokio::task::JoinHandle<()>);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves over TLS to whoever shows the token.
///
/// # Errors
/// As [`TlsListener::new`].
pub fn serve_tls(
    listener: TcpListener,
    identity: Identity,
    token: Token,
    service: impl Service,
) -> std::io::Result<Server> {
    let listener = TlsListener::new(listener, identity)?;
    let token = Arc::new(token);
    let guard = from_fn(move |request: Request, next: Next| {
        let token = token.clone();
        async move {
            let given = request
                .headers()
                .get(header::AUTHORIZATION)
                .map(|value| value.as_bytes());
            match given.and_then(|given| given.strip_prefix(b"Bearer ")) {
                Some(given) if token.matches(given) => next.run(request).await,
                _ => Refusal::TOKEN.into_response(),
            }
        }
    });
    let routes = routes(service).layer(guard);
    Ok(Server(tokio::spawn(async move {
        let _ = axum::serve(listener, routes).await;
    })))
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
    let routes = routes(service);
    Ok(Server(tokio::spawn(async move {
        let _ = axum::serve(listener, routes).await;
    })))
}

fn routes<S: Service>(service: S) -> Router {
    Router::new()
        .route("/v1/cluster", get(cluster::<S>).delete(destroy::<S>))
        .route("/v1/nodes/{name}/console", get(console::<S>))
        .route("/v1/nodes/{name}/screenshot", get(screenshot::<S>))
        .fallback(|| async { Refusal::PATH })
        .method_not_allowed_fallback(|| async { Refusal::METHOD })
        .with_state(service)
}

async fn cluster<S: Service>(State(service): State<S>) -> Json<Cluster> {
    Json(service.cluster())
}

async fn destroy<S: Service>(State(service): State<S>) -> StatusCode {
    // In a task of its own: a caller who goes away must not leave a cluster half destroyed.
    let _ = tokio::spawn(async move { service.destroy().await }).await;
    StatusCode::NO_CONTENT
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

/// How often a followed console is looked at.
const FOLLOW_PAUSE: Duration = Duration::from_millis(200);

async fn console<S: Service>(
    State(service): State<S>,
    UrlPath(name): UrlPath<String>,
    Query(query): Query<ConsoleQuery>,
) -> Response {
    let path = name.parse().ok().and_then(|name: Name| service.console(&name));
    let Some(path) = path else {
        return Refusal::NODE.into_response();
    };
    let tail = match tokio::fs::File::open(&path).await {
        Ok(file) => match from_tail(file, query.tail).await {
            Ok(file) => Tail::resume(path, file).await,
            Err(error) => Err(error),
        },
        // The node has not been powered on yet.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => match query.follow {
            true => Ok(Tail::new(path)),
            false => return StatusCode::NO_CONTENT.into_response(),
        },
        Err(error) => Err(error),
    };
    match tail {
        Ok(tail) => Body::from_stream(chunks(tail, query.follow)).into_response(),
        Err(_) => Refusal::CONSOLE.into_response(),
    }
}

async fn screenshot<S: Service>(State(service): State<S>, UrlPath(name): UrlPath<String>) -> Response {
    let Ok(name) = name.parse::<Name>() else {
        return Refusal::NODE.into_response();
    };
    match service.screenshot(&name).await {
        Ok(png) => ([(header::CONTENT_TYPE, "image/png")], png).into_response(),
        Err(NoScreenshot::Node) => Refusal::NODE.into_response(),
        Err(NoScreenshot::Off) => Refusal::OFF.into_response(),
        Err(NoScreenshot::Failed(said)) => refuse(StatusCode::INTERNAL_SERVER_ERROR, SCREENSHOT_CODE, &said),
    }
}

/// Sets the file to the start of its last `lines` lines, reading it backwards.
async fn from_tail(mut file: tokio::fs::File, lines: Option<usize>) -> std::io::Result<tokio::fs::File> {
    const BLOCK: u64 = 8 << 10;
    let Some(lines) = lines else { return Ok(file) };
    let mut end = file.metadata().await?.len();
    let mut seen = 0;
    // The line end that closes the last line starts no other.
    let mut last = true;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let mut block = vec![0; (end - start) as usize];
        file.seek(std::io::SeekFrom::Start(start)).await?;
        file.read_exact(&mut block).await?;
        for (at, byte) in block.iter().enumerate().rev() {
            if *byte == b'\n' && !std::mem::take(&mut last) {
                seen += 1;
                if seen == lines {
                    file.seek(std::io::SeekFrom::Start(start + at as u64 + 1)).await?;
                    return Ok(file);
                }
            }
            last = false;
        }
        end = start;
    }
    file.seek(std::io::SeekFrom::Start(0)).await?;
    Ok(file)
}

fn chunks(
    tail: Tail,
    follow: bool,
) -> impl futures_util::Stream<Item = std::io::Result<Vec<u8>>> + Send + 'static {
    futures_util::stream::try_unfold(tail, move |mut tail| async move {
        let mut chunk = vec![0; 16 << 10];
        loop {
            let count = tail.read(&mut chunk).await?;
            if count > 0 {
                chunk.truncate(count);
                return Ok(Some((chunk, tail)));
            }
            if !follow {
                return Ok(None);
            }
            tokio::time::sleep(FOLLOW_PAUSE).await;
        }
    })
}

/// A refusal, as JSON: `{"error":{"code":…,"message":…}}`.
#[derive(Clone, Copy, Debug)]
struct Refusal(StatusCode, &'static str, &'static str);

impl Refusal {
    const TOKEN: Self = Self(StatusCode::UNAUTHORIZED, "token", "the token is missing or wrong");
    const PATH: Self = Self(StatusCode::NOT_FOUND, "path", "there is nothing at this path");
    const METHOD: Self = Self(
        StatusCode::METHOD_NOT_ALLOWED,
        "method",
        "this cannot be done with it",
    );
    const NODE: Self = Self(StatusCode::NOT_FOUND, NODE_CODE, "there is no such node");
    const OFF: Self = Self(
        StatusCode::CONFLICT,
        OFF_CODE,
        "the node's machine is not running",
    );
    const CONSOLE: Self = Self(
        StatusCode::INTERNAL_SERVER_ERROR,
        "console",
        "the console cannot be read",
    );
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(status, code, message) = self;
        refuse(status, code, message)
    }
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    let error = RefusalText {
        code: code.to_owned(),
        message: message.to_owned(),
    };
    (status, Json(RefusalBody { error })).into_response()
}

/// There is no such node.
pub(super) const NODE_CODE: &str = "node";
/// Its machine is not running.
pub(super) const OFF_CODE: &str = "off";
/// No picture could be taken of it.
pub(super) const SCREENSHOT_CODE: &str = "screenshot";

/// The body of a refusal.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RefusalBody {
    /// What was refused, and why.
    pub error: RefusalText,
}

/// What was refused, and why.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RefusalText {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::super::client::{Client, ClientError};
    use super::*;

    /// An agent of which nothing stands but consoles and displays.
    #[derive(Clone)]
    struct Displays(PathBuf);

    impl Service for Displays {
        fn cluster(&self) -> Cluster {
            panic!("nobody asks for the cluster")
        }

        async fn destroy(&self) {}

        fn console(&self, node: &Name) -> Option<PathBuf> {
            (node.as_str() != "nobody").then(|| self.0.join(node.as_str()))
        }

        async fn screenshot(&self, node: &Name) -> Result<Vec<u8>, NoScreenshot> {
            match node.as_str() {
                "on" => Ok(b"\x89PNG".to_vec()),
                "off" => Err(NoScreenshot::Off),
                "broken" => Err(NoScreenshot::Failed("no display".to_owned())),
                _ => Err(NoScreenshot::Node),
            }
        }
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_screenshot_or_why_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let _server = serve_unix(&socket, Displays(dir.path().to_owned())).unwrap();
        let client = Client::unix(&socket).unwrap();
        assert_eq!(client.screenshot(&name("on")).await.unwrap(), b"\x89PNG");
        let mut said = Vec::new();
        for node in ["off", "broken", "nobody"] {
            let error = client.screenshot(&name(node)).await.unwrap_err();
            said.push(error.to_string());
        }
        assert_eq!(
            said,
            [
                "the machine of node off is not running",
                "no screenshot of node broken: no display",
                "the cluster has no node nobody"
            ]
        );
    }

    #[tokio::test]
    async fn a_console_is_followed_from_before_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let _server = serve_unix(&socket, Displays(dir.path().to_owned())).unwrap();
        let client = Client::unix(&socket).unwrap();
        let mut nothing = Vec::new();
        client
            .console(&name("a"), false, None, &mut nothing)
            .await
            .unwrap();
        assert!(nothing.is_empty());
        let (mut reader, mut writer) = tokio::io::duplex(1024);
        let follow =
            tokio::spawn(async move { client.console(&name("a"), true, Some(5), &mut writer).await });
        let path = dir.path().join("a");
        let mut heard = [0; 9];
        for (at, text) in [(0, "one"), (3, "two"), (6, "six")] {
            // Each in a file of its own, as when virtlogd puts the last one aside.
            let next = dir.path().join("next");
            std::fs::write(&next, text).unwrap();
            std::fs::rename(&next, &path).unwrap();
            reader.read_exact(&mut heard[at..at + 3]).await.unwrap();
        }
        assert_eq!(&heard, b"onetwosix");
        follow.abort();
        let client = Client::unix(&socket).unwrap();
        let error = client
            .console(&name("nobody"), true, None, &mut Vec::new())
            .await
            .unwrap_err();
        assert!(matches!(error, ClientError::Node(_)), "{error}");
    }
}
