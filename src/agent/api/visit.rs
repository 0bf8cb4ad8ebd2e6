//! One connection from its first byte to its last, and how long its holder may take to say who it is.
//!
//! Whoever connects is a stranger until it has shown the token. Strangers are few at a time, have one short time limit
//! for everything (TLS, the request's head, the answer to a wrong token), and are told nothing. One that has shown the
//! token takes no stranger's place any more and may stay.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, header};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OnceCell, OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::refusal::Refusal;
use crate::agent::wire::door::{Door, Pass, Yields};
use crate::concourse::Token;

/// How much the agent takes from whom.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a stranger may take until it has shown the token; a client on the same worker needs milliseconds. Also
    /// how long a known client may be silent between two requests.
    pub patience: Duration,
    /// How long a wrong token is let wait, so that guessing is slow.
    pub damping: Duration,
    /// Strangers at once.
    pub strangers: usize,
    /// Connections at once of those who have shown the token.
    pub known: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(10),
            damping: Duration::from_secs(1),
            strangers: 128,
            known: 256,
        }
    }
}

/// Of a request's head, all of it. Tokens have 512 characters at most.
const HEAD: usize = 16 << 10;

/// Of a request's head.
const HEADERS: usize = 64;

/// Says which program answers, to those who may know.
const SERVER: HeaderValue = HeaderValue::from_static(concat!("libvirt-resource/", env!("CARGO_PKG_VERSION")));

/// What all connections of one server share.
#[derive(Clone, Debug)]
pub(super) struct Reception {
    routes: Router,
    limits: Limits,
    known: Arc<Semaphore>,
    ending: watch::Receiver<bool>,
}

/// Who is at the other end of one connection.
#[derive(Debug, Default)]
struct Caller {
    /// Its place among those who have shown the token, once it has.
    place: OnceCell<OwnedSemaphorePermit>,
    recognised: Notify,
}

/// What guards those that come from other containers.
#[derive(Clone)]
pub(super) struct Guard {
    acceptor: TlsAcceptor,
    token: Arc<Token>,
    strangers: Door,
}

impl Guard {
    pub(super) fn new(acceptor: TlsAcceptor, token: Token, limits: Limits) -> Self {
        Self {
            acceptor,
            token: Arc::new(token),
            strangers: Door::new(limits.strangers, Yields::Oldest),
        }
    }

    /// A place for a stranger.
    pub(super) fn enter(&self, peer: IpAddr) -> Option<Pass> {
        self.strangers.enter(peer)
    }
}

impl Reception {
    pub(super) fn new(routes: Router, limits: Limits, ending: watch::Receiver<bool>) -> Self {
        Self {
            routes,
            limits,
            known: Arc::new(Semaphore::new(limits.known)),
            ending,
        }
    }

    /// Serves one who comes from another container.
    pub(super) async fn receive_stranger(self, stream: TcpStream, pass: Pass, guard: Guard) {
        let caller = Arc::new(Caller::default());
        let visit = async {
            if let Ok(stream) = guard.acceptor.accept(stream).await {
                self.serve(stream, Some(guard.token), caller.clone()).await;
            }
        };
        let mut ending = self.ending.clone();
        // The place is the stranger's for as long as it is one.
        let (who, patience) = (caller.clone(), self.limits.patience);
        let stranger = async move {
            tokio::select! {
                () = who.recognised.notified() => {}
                () = pass.turned_out() => {}
                () = tokio::time::sleep(patience) => {}
                _ = ending.wait_for(|ending| *ending) => {}
            }
        };
        let mut visit = std::pin::pin!(visit);
        tokio::select! {
            () = &mut visit => return,
            () = stranger => {}
        }
        if caller.place.initialized() {
            visit.await;
        }
    }

    /// Serves one of this very container, known by being able to open the socket.
    pub(super) async fn receive_own(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        self.serve(stream, None, Arc::default()).await;
    }

    async fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        token: Option<Arc<Token>>,
        caller: Arc<Caller>,
    ) {
        let routes = TowerToHyperService::new(self.routes.clone());
        let answer = service_fn(|request: Request<Incoming>| {
            let (routes, token, caller) = (routes.clone(), token.clone(), caller.clone());
            async move {
                if let Some(token) = token {
                    if let Err(refusal) = self.recognise(&request, &token, &caller).await {
                        return Ok::<Response, std::convert::Infallible>(refusal.into_response());
                    }
                }
                let Ok(mut response) = routes.call(request.map(Body::new)).await;
                let headers = response.headers_mut();
                headers.insert(header::SERVER, SERVER);
                // Keys and passwords are in it.
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                Ok(response)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.patience)
            .max_buf_size(HEAD)
            .max_headers(HEADERS)
            .serve_connection(TokioIo::new(stream), answer);
        let mut connection = std::pin::pin!(connection);
        let mut ending = self.ending.clone();
        // What a client breaks off or gets wrong is its own affair.
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = ending.wait_for(|ending| *ending) => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }

    /// Before anything else is looked at: a stranger is not told which paths there are.
    async fn recognise(
        &self,
        request: &Request<Incoming>,
        token: &Token,
        caller: &Caller,
    ) -> Result<(), Refusal> {
        match credential(request) {
            None => return Err(Refusal::TOKEN),
            Some(given) if token.matches(given) => {}
            Some(_) => {
                tokio::time::sleep(self.limits.damping).await;
                return Err(Refusal::TOKEN);
            }
        }
        let place = || async { self.known.clone().try_acquire_owned() };
        let placed = caller.place.get_or_try_init(place).await;
        placed.map_err(|_| Refusal::BUSY)?;
        caller.recognised.notify_one();
        Ok(())
    }
}

/// The credential of a request; the scheme's case does not matter (RFC 9110 §11.1).
fn credential<B>(request: &Request<B>) -> Option<&[u8]> {
    let given = request.headers().get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, rest) = given.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(rest)
}
