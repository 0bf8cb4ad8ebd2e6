//! What the judge says.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cause::Cause;
use super::phase::Phase;

/// Why a node is not ready.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// The cause.
    pub code: Cause,
    /// Whether the evidence leaves no other. Otherwise the cause is the likeliest of several.
    pub sure: bool,
    /// The last phase that the node reached.
    pub phase: Phase,
    /// In which boot, counted from 1.
    pub boot: u32,
    /// What is the matter, with its details.
    pub sentence: String,
    /// What it rests on: lines of the console and what was seen from outside, the most telling first.
    pub evidence: Vec<String>,
    /// What to do.
    pub advice: String,
    /// What else it may be, the likelier first.
    pub others: Vec<Candidate>,
    /// Whether it ends the wait: nothing better can be expected.
    pub fatal: bool,
    /// When its first sign was seen, in seconds since power-on.
    pub at_seconds: f64,
}

/// Something else that it may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Candidate {
    /// The cause.
    pub code: Cause,
    /// What would be the matter.
    pub sentence: String,
    /// What speaks for it.
    pub evidence: Vec<String>,
}

/// What has changed by a piece of evidence, or by time.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The node has come to a phase.
    PhaseEntered {
        /// Which boot, counted from 1.
        boot: u32,
        /// The phase.
        phase: Phase,
        /// When, since power-on.
        at: Duration,
    },
    /// A phase is behind it.
    PhaseDone {
        /// Which boot, counted from 1.
        boot: u32,
        /// The phase.
        phase: Phase,
        /// How long it took.
        took: Duration,
    },
    /// It boots again.
    Rebooted {
        /// The number of the boot that begins, from 2.
        boot: u32,
        /// When, since power-on.
        at: Duration,
    },
    /// It is ready.
    Ready {
        /// When, since power-on.
        at: Duration,
    },
    /// The wait may end: this is why.
    Verdict(Box<Verdict>),
    /// A verdict that was given has been refuted by what came after.
    Withdrawn,
}
