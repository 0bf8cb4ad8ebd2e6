//! Judges a node while it boots: what is seen of it goes to its judge, what the judge says goes to the log.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::watch::{Notes, Rounds, Subject, Watch, node};
use crate::boot::evidence::{Evidence, Outcome, Seen};
use crate::boot::judge::Judge;
use crate::boot::phase::Phase;
use crate::boot::recording::Diagnosis;
use crate::boot::verdict::Change;
use crate::progress::{Level, Progress};
use crate::topology::name::Name;

/// How often the judge is asked what has not come.
const TICK: Duration = Duration::from_millis(500);

/// Pieces of evidence that may wait for the judge; a console that prints faster is read slower.
const QUEUE: usize = 256;

/// A judge that others may look at while it works.
#[derive(Clone, Debug, Default)]
pub struct Judged(Arc<Mutex<Judge>>);

impl Judged {
    fn lock(&self) -> MutexGuard<'_, Judge> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it says now.
    pub fn diagnosis(&self) -> Diagnosis {
        Diagnosis::of(&self.lock())
    }

    /// Where the node is.
    pub fn phase(&self) -> Phase {
        self.lock().phase()
    }
}

/// A node that is being judged. When dropped, it no longer is.
#[derive(Debug)]
pub struct Judging {
    judged: Judged,
    watch: Watch,
    ends: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Judging {
    /// Begins with a node whose machine has just been started. To be called on a Tokio runtime.
    pub fn begin(rounds: &Arc<Rounds>, subject: Subject, name: Name, progress: Progress) -> Self {
        let (sender, seen) = mpsc::channel(QUEUE);
        let (verdict, ends) = watch::channel(false);
        let judged = Judged::default();
        Self {
            watch: node(rounds, subject, sender),
            task: tokio::spawn(judge(judged.clone(), seen, verdict, name, progress)),
            judged,
            ends,
        }
    }

    /// Where others tell what they see of the node.
    pub fn notes(&self) -> Notes {
        self.watch.notes()
    }

    /// The judge itself.
    pub fn judged(&self) -> Judged {
        self.judged.clone()
    }

    /// Tells when the judge sees no sense in waiting any longer.
    pub fn ends(&self) -> watch::Receiver<bool> {
        self.ends.clone()
    }

    /// Ends the watch; everything that was seen by then has been judged, and recorded, when this returns.
    pub async fn end(self, outcome: Outcome) -> Diagnosis {
        self.watch.close(outcome).await;
        // The watch was the only one that fed it.
        let _ = self.task.await;
        self.judged.diagnosis()
    }
}

async fn judge(
    judged: Judged,
    mut seen: mpsc::Receiver<Seen>,
    ends: watch::Sender<bool>,
    name: Name,
    progress: Progress,
) {
    let begun = Instant::now();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut teller = Teller {
        name,
        progress,
        done: None,
    };
    loop {
        let changes = tokio::select! {
            // Evidence first: what has come must not count as missing.
            biased;
            seen = seen.recv() => match seen {
                Some(seen) => {
                    let over = matches!(seen.what, Evidence::End { .. });
                    let mut judge = judged.lock();
                    let mut changes = judge.see(seen);
                    if over {
                        changes.extend(judge.finish());
                    }
                    changes
                }
                None => return,
            },
            _ = ticks.tick() => judged.lock().at(begun.elapsed()),
        };
        for change in changes {
            match &change {
                Change::Verdict(verdict) => {
                    ends.send_replace(verdict.fatal);
                }
                Change::Withdrawn => {
                    ends.send_replace(false);
                }
                _ => teller.tell(&change),
            }
        }
    }
}

/// One line a phase.
struct Teller {
    name: Name,
    progress: Progress,
    /// The phase that was done last, and how long it took.
    done: Option<(Phase, Duration)>,
}

impl Teller {
    fn tell(&mut self, change: &Change) {
        let text = match change {
            Change::PhaseDone { phase, took, .. } => {
                self.done = Some((*phase, *took));
                return;
            }
            // That it was powered on has been said, and that it is ready will be.
            Change::PhaseEntered {
                phase: Phase::Firmware | Phase::Ready,
                ..
            }
            | Change::Ready { .. } => return,
            Change::PhaseEntered { phase, .. } => match self.done.take() {
                Some((before, took)) => format!("{phase}, after {:.1} s of {before}", took.as_secs_f64()),
                None => phase.to_string(),
            },
            Change::Rebooted { boot, .. } => {
                self.done = None;
                format!("boots again (boot {boot})")
            }
            Change::Verdict(_) | Change::Withdrawn => return,
        };
        self.progress.node(Level::Info, &self.name, text);
    }
}
