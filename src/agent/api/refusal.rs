//! What is not answered, and how that is said: `{"error":{"code":…,"message":…}}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

/// A status, a code for programs, a message for people.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal(StatusCode, &'static str, &'static str);

impl Refusal {
    pub(super) const TOKEN: Self = Self(StatusCode::UNAUTHORIZED, "token", "the token is missing or wrong");
    pub(super) const PATH: Self = Self(StatusCode::NOT_FOUND, "path", "there is nothing at this path");
    pub(super) const METHOD: Self = Self(
        StatusCode::METHOD_NOT_ALLOWED,
        "method",
        "this cannot be done with it",
    );
    pub(super) const NODE: Self = Self(StatusCode::NOT_FOUND, "node", "there is no such node");
    pub(super) const QUERY: Self = Self(
        StatusCode::BAD_REQUEST,
        "query",
        "follow is true or false, tail a number of lines",
    );
    pub(super) const ACTION: Self = Self(
        StatusCode::BAD_REQUEST,
        "action",
        "action is one of on, off, cut, cycle, pause, resume, and timeout a number of seconds, 86400 at most",
    );
    pub(super) const STARTING: Self = Self(
        StatusCode::CONFLICT,
        "starting",
        "the cluster is still being brought up",
    );
    pub(super) const ENDED: Self = Self(StatusCode::CONFLICT, "ended", "the cluster has ended");
    pub(super) const PAUSED: Self = Self(StatusCode::CONFLICT, "paused", "the node's machine is paused");
    pub(super) const CRASHED: Self = Self(StatusCode::CONFLICT, "crashed", "the node's kernel has panicked");
    pub(super) const IGNORED: Self = Self(
        StatusCode::GATEWAY_TIMEOUT,
        "ignored",
        "the guest ignores the power button",
    );
    pub(super) const POWER: Self = Self(
        StatusCode::INTERNAL_SERVER_ERROR,
        "power",
        "the machine could not be switched",
    );
    pub(super) const CONSOLE: Self = Self(
        StatusCode::INTERNAL_SERVER_ERROR,
        "console",
        "the console cannot be read",
    );
    pub(super) const OFF: Self = Self(StatusCode::CONFLICT, "off", "the node's machine is not running");
    pub(super) const HELD: Self = Self(
        StatusCode::CONFLICT,
        "held",
        "the agent holds a cluster that has not ended",
    );
    pub(super) const REPORT: Self = Self(
        StatusCode::INTERNAL_SERVER_ERROR,
        "report",
        "the report cannot be made",
    );
    pub(super) const SCREENSHOT: Self = Self(
        StatusCode::INTERNAL_SERVER_ERROR,
        "screenshot",
        "no picture could be taken",
    );
    pub(super) const BUSY: Self = Self(
        StatusCode::SERVICE_UNAVAILABLE,
        "busy",
        "too many connections at once",
    );
}

impl Refusal {
    /// With a message that is known only now.
    pub(super) fn saying(self, message: String) -> Response {
        let Self(status, code, _) = self;
        let body = RefusalBody {
            error: RefusalText {
                code: code.into(),
                message,
            },
        };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.saying(self.2.to_owned())
    }
}

/// The body of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalBody {
    /// What was refused, and why.
    pub error: RefusalText,
}

/// What was refused, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalText {
    /// For programs: one of a few words, each with one meaning.
    pub code: String,
    /// For people.
    pub message: String,
}
