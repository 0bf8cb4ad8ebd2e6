//! Follows an agent from its order to the commit, and tells the log what it says.

use std::future::Future;
use std::time::Duration;

use super::{LaunchError, Launched};
use crate::agent::order::{Down, Summary, Up};
use crate::buildlog::BuildLog;
use crate::progress::{Event, Level};

/// How bringing a cluster up ended.
#[derive(Debug)]
pub enum Outcome {
    /// It stands.
    Ready(Box<Summary>),
    /// It did not get ready and stands for inspection (`on_failure: keep`).
    Kept {
        /// What stands.
        summary: Box<Summary>,
        /// What failed.
        reason: String,
    },
    /// It did not get ready; nothing is left of it.
    Failed {
        /// What failed.
        reason: String,
    },
    /// This process was told to stop; nothing is left of the cluster.
    Interrupted,
}

/// Concourse kills an aborted step 10 s after it has asked it to stop.
pub const FAREWELL: Duration = Duration::from_secs(8);

/// Follows an agent that was just launched, and answers `word` when the cluster stands. `interrupt` ends when this
/// process is told to stop.
///
/// # Errors
/// When the agent dies on the way: then, too, nothing is left, since the kernel saw to it.
pub async fn follow(
    agent: &mut Launched,
    word: Down,
    log: &BuildLog,
    interrupt: impl Future<Output = &'static str>,
) -> Result<Outcome, LaunchError> {
    let mut interrupt = std::pin::pin!(interrupt);
    let mut ready = None;
    let mut failed = None;
    loop {
        let up = tokio::select! {
            up = agent.next() => up?,
            signal = &mut interrupt => {
                let text = format!("{signal}: taking the cluster down");
                log.event(&Event { level: Level::Warn, node: None, text });
                agent.abandon(FAREWELL).await;
                return Ok(Outcome::Interrupted);
            }
        };
        match up {
            Up::Event(event) => log.event(&event),
            Up::Ready(summary) => {
                ready = Some(summary);
                agent.tell(word).await?;
            }
            Up::Failed {
                kept: Some(summary),
                reason,
            } => {
                failed = Some((summary, reason));
                agent.tell(word).await?;
            }
            Up::Failed { kept: None, reason } => {
                agent.abandon(FAREWELL).await;
                return Ok(Outcome::Failed { reason });
            }
            Up::Committed => {
                if let Some((summary, reason)) = failed {
                    return Ok(Outcome::Kept { summary, reason });
                }
                if let Some(summary) = ready {
                    return Ok(Outcome::Ready(summary));
                }
            }
            Up::Gone => {
                return Ok(Outcome::Failed {
                    reason: "the cluster was taken down before it was ready".to_owned(),
                });
            }
        }
    }
}

/// Ends with the signal's name when this process is told to stop.
pub async fn told_to_stop() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => "told to stop (SIGTERM)",
        _ = interrupt.recv() => "interrupted",
        _ = hangup.recv() => "the terminal is gone",
    }
}
