//! When a node walked through which phase.

use std::ops::RangeInclusive;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::phase::Phase;

/// A phase that a node was in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// In which boot, counted from 1.
    pub boot: u32,
    /// The phase.
    pub phase: Phase,
    /// When it began, in seconds since power-on.
    pub from_seconds: f64,
    /// How long it took so far, or until it was done, in seconds.
    pub seconds: f64,
    /// Whether it is done.
    pub done: bool,
}

impl Step {
    /// When it began, since power-on.
    pub fn from(&self) -> Duration {
        Duration::try_from_secs_f64(self.from_seconds).unwrap_or_default()
    }

    /// How long it took.
    pub fn took(&self) -> Duration {
        Duration::try_from_secs_f64(self.seconds).unwrap_or_default()
    }
}

/// The phases of all boots, in the order in which they were entered.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    steps: Vec<Step>,
}

/// A node that reboots without end must not fill the memory: of its boots, the first and the last are kept.
const STEPS: usize = 120;

fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}

impl Timeline {
    /// A phase begins.
    pub fn enter(&mut self, boot: u32, phase: Phase, at: Duration) {
        if self.steps.len() >= STEPS {
            self.steps.remove(STEPS / 2);
        }
        self.steps.push(Step {
            boot,
            phase,
            from_seconds: rounded(at),
            seconds: 0.0,
            done: false,
        });
    }

    /// A phase is over. Gives its length, if it was under way.
    pub fn done(&mut self, boot: u32, phase: Phase, at: Duration) -> Option<Duration> {
        let step = self
            .steps
            .iter_mut()
            .rev()
            .find(|step| step.boot == boot && step.phase == phase && !step.done)?;
        step.done = true;
        step.seconds = rounded(at.saturating_sub(step.from()));
        Some(step.took())
    }

    /// Some phases of a boot were not entered after all. Gives when the first of them would have begun.
    pub fn take_back(&mut self, boot: u32, phases: RangeInclusive<Phase>) -> Option<Duration> {
        let wrong =
            |step: &Step| step.boot == boot && phases.contains(&step.phase) && step.phase != Phase::FirstBoot;
        let first = self.steps.iter().find(|step| wrong(step)).map(Step::from);
        self.steps.retain(|step| !wrong(step));
        first
    }

    /// Whether a phase of a boot has begun.
    pub fn entered(&self, boot: u32, phase: Phase) -> bool {
        self.steps
            .iter()
            .any(|step| step.boot == boot && step.phase == phase)
    }

    /// All steps, those under way as long as they are now.
    pub fn steps(&self, now: Duration) -> Vec<Step> {
        self.steps
            .iter()
            .map(|step| {
                let mut step = *step;
                if !step.done {
                    step.seconds = rounded(now.saturating_sub(step.from()));
                }
                step
            })
            .collect()
    }

    /// The phase that took longest: what to speed up.
    pub fn slowest(&self, now: Duration) -> Option<Step> {
        self.steps(now)
            .into_iter()
            .max_by(|one, other| one.seconds.total_cmp(&other.seconds))
    }
}
