//! How closely a node has to be looked at, shared by those who look.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

/// Without a word on the console for so long, the node has to be asked in other ways.
const SILENCE: Duration = Duration::from_secs(3);

/// How often its hardware is looked at while it is silent.
const CLOSE: Duration = Duration::from_secs(2);

/// How often while its console tells how it gets on.
const RELAXED: Duration = Duration::from_secs(5);

/// A look may cost this part of the time at the most: each takes QEMU's big lock, for which a translated guest waits.
const SHARE: u32 = 20;

/// On a host that is overrun everything takes long, and most of that is waiting: there a look is still worth its cost.
const RAREST: Duration = Duration::from_secs(10);

/// What decides.
#[derive(Debug)]
pub(super) struct Pace(Mutex<State>);

#[derive(Clone, Copy, Debug)]
struct State {
    last_word: Instant,
    logged_in: bool,
}

impl Pace {
    pub fn new() -> Self {
        Self(Mutex::new(State {
            last_word: Instant::now(),
            logged_in: false,
        }))
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The console has printed something.
    pub fn console_spoke(&self) {
        self.with(|state| state.last_word = Instant::now());
    }

    /// Somebody has logged in: what is to be known, the node can be asked.
    pub fn logged_in(&self) {
        self.with(|state| state.logged_in = true);
    }

    /// It boots anew.
    pub fn reset(&self) {
        self.with(|state| state.logged_in = false);
    }

    /// When the hardware is to be looked at next, as it looks `now`, where the last look began `before` and took `cost`;
    /// `None` for as long as it need not be.
    pub fn next_look(&self, now: Instant, before: Instant, cost: Duration) -> Option<Instant> {
        let state = self.with(|state| *state);
        let pause = if now.duration_since(state.last_word) >= SILENCE {
            CLOSE
        } else {
            RELAXED
        };
        (!state.logged_in).then(|| before + pause.max((cost * SHARE).min(RAREST)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_node_is_looked_at_closely_and_a_ready_one_not_at_all() {
        let pace = Pace::new();
        let cheap = Duration::from_millis(10);
        let began = Instant::now();
        let silent = began + SILENCE * 2;
        assert_eq!(pace.next_look(began, began, cheap), Some(began + RELAXED));
        assert_eq!(pace.next_look(silent, began, cheap), Some(began + CLOSE));
        let dear = Duration::from_millis(300);
        assert_eq!(pace.next_look(silent, began, dear), Some(began + dear * SHARE));
        assert_eq!(pace.next_look(silent, began, dear * 9), Some(began + RAREST));
        pace.logged_in();
        assert_eq!(pace.next_look(silent, began, cheap), None);
        pace.reset();
        assert!(pace.next_look(silent, began, cheap).is_some());
    }
}
