//! What a person sees who watches nodes boot on a terminal: below the log, which scrolls on, a row a node with what it is doing and
//! for how long. Elsewhere there is the log alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use console::{Term, measure_text_width, truncate_str};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::progress::{Event, Level};

/// How often the times are drawn anew.
const PERIOD: Duration = Duration::from_millis(500);

/// Rows of the terminal that are left to the log.
const LEFT_TO_THE_LOG: usize = 8;

/// The rows below the log. They are gone when this is dropped.
#[derive(Debug)]
pub struct Live {
    bar: ProgressBar,
    rows: Arc<Mutex<Rows>>,
    /// Dropped, it ends the thread that draws.
    _alive: std::sync::mpsc::Sender<()>,
}

/// What is known of the nodes.
#[derive(Debug)]
struct Rows {
    begun: Instant,
    width: usize,
    nodes: BTreeMap<String, Row>,
    order: Vec<String>,
}

#[derive(Debug, Default)]
struct Row {
    /// Since its first word: it was powered on then.
    since: Option<Instant>,
    doing: String,
    ready: bool,
    bad: bool,
}

impl Live {
    /// For these nodes, where stderr is a terminal that can do it and nobody asked for plain lines: `None` elsewhere.
    pub fn begin(nodes: impl Iterator<Item = String>) -> Option<Self> {
        let said = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let term = Term::stderr();
        // A CI system's pseudo-terminal is read by nobody who would see rows move. Concourse gives a task one, but no TERM.
        let able = said("TERM").is_some_and(|term| term != "dumb") && said("CI").is_none();
        if !able || !term.features().is_attended() {
            return None;
        }
        let order: Vec<String> = nodes.collect();
        let width = order
            .iter()
            .map(|name| measure_text_width(name))
            .max()
            .unwrap_or(0);
        let rows = Rows {
            begun: Instant::now(),
            width,
            nodes: order.iter().map(|name| (name.clone(), Row::default())).collect(),
            order,
        };
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::term(term.clone(), 20));
        // The template has nothing in it that could fail to parse.
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        let rows = Arc::new(Mutex::new(rows));
        let (alive, dead) = std::sync::mpsc::channel::<()>();
        let (drawn, known) = (bar.clone(), rows.clone());
        std::thread::spawn(move || {
            while let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = dead.recv_timeout(PERIOD) {
                draw(&drawn, &lock(&known), &term);
            }
        });
        Some(Self {
            bar,
            rows,
            _alive: alive,
        })
    }

    /// Takes an event that was written to the log.
    pub fn see(&self, event: &Event) {
        let mut rows = lock(&self.rows);
        let Some(row) = event.node.as_ref().and_then(|node| rows.nodes.get_mut(node)) else {
            return;
        };
        match event.level {
            Level::Quote => return,
            Level::Good => row.ready = true,
            Level::Bad => row.bad = true,
            Level::Info | Level::Warn => {}
        }
        row.since.get_or_insert_with(Instant::now);
        row.doing = event.text.lines().next().unwrap_or_default().to_owned();
    }

    /// Writes lines of the log, above the rows.
    pub fn log(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn lock(rows: &Mutex<Rows>) -> MutexGuard<'_, Rows> {
    rows.lock().unwrap_or_else(PoisonError::into_inner)
}

fn draw(bar: &ProgressBar, rows: &Rows, term: &Term) {
    let (height, width) = term.size();
    let text = rows.text(Instant::now(), usize::from(height), usize::from(width));
    bar.set_message(text);
}

impl Rows {
    /// As many rows as fit, each as wide as the terminal at most: a line that wraps could not be cleared again.
    fn text(&self, now: Instant, height: usize, width: usize) -> String {
        let all = self.order.len();
        let ready = self.nodes.values().filter(|row| row.ready).count();
        let seconds = now.saturating_duration_since(self.begun).as_secs();
        let mut lines = vec![format!("─ {ready} of {all} ready, {}", clock(seconds))];
        let busy = |name: &&String| {
            self.nodes
                .get(*name)
                .is_some_and(|row| !row.ready && row.since.is_some())
        };
        let busy: Vec<&String> = self.order.iter().filter(busy).collect();
        let waiting = all - ready - busy.len();
        let room = height.saturating_sub(LEFT_TO_THE_LOG).max(1);
        let shown = if busy.len() > room { room - 1 } else { busy.len() };
        for name in &busy[..shown] {
            if let Some(row) = self.nodes.get(*name) {
                let since = row.since.unwrap_or(now);
                let seconds = now.saturating_duration_since(since).as_secs();
                let mark = if row.bad { "✗" } else { "·" };
                let clock = clock(seconds);
                lines.push(format!(
                    "{mark} {name:<0$}  {clock:>7}  {doing}",
                    self.width,
                    doing = row.doing
                ));
            }
        }
        let mut rest = Vec::new();
        if busy.len() > shown {
            rest.push(format!("{} more on their way", busy.len() - shown));
        }
        if waiting > 0 && !busy.is_empty() {
            rest.push(format!("{waiting} not switched on yet"));
        }
        if !rest.is_empty() {
            lines.push(format!("  … {}", rest.join(", ")));
        }
        let cut = |line: String| truncate_str(&line, width.saturating_sub(1), "…").into_owned();
        lines.into_iter().map(cut).collect::<Vec<_>>().join("\n")
    }
}

/// `42 s`, `12:03`.
fn clock(seconds: u64) -> String {
    match seconds {
        0..=59 => format!("{seconds} s"),
        _ => format!("{}:{:02}", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize, busy: usize, ready: usize) -> (Rows, Instant) {
        let now = Instant::now();
        let order: Vec<String> = (1..=count).map(|number| format!("worker-{number}")).collect();
        let row = |number: usize| Row {
            since: (number < busy + ready).then_some(now),
            doing: "initramfs, after 3.2 s of kernel".to_owned(),
            ready: number < ready,
            bad: false,
        };
        let rows = Rows {
            begun: now,
            width: "worker-20".len(),
            nodes: order.iter().cloned().zip((0..count).map(row)).collect(),
            order,
        };
        (rows, now + Duration::from_secs(75))
    }

    #[test]
    fn a_row_a_node_that_is_on_its_way() {
        let (rows, now) = rows(4, 2, 1);
        assert_eq!(
            rows.text(now, 24, 80),
            "─ 1 of 4 ready, 1:15\n· worker-2      1:15  initramfs, after 3.2 s of kernel\n· worker-3      1:15  initramfs, after 3.2 s of kernel\n  … 1 not switched on yet"
        );
    }

    #[test]
    fn no_more_and_no_wider_than_the_terminal() {
        for height in 0..40 {
            for width in [0, 1, 10, 20, 80, 300] {
                for (busy, ready) in [(0, 0), (20, 0), (10, 5), (0, 20)] {
                    let (rows, now) = rows(20, busy, ready);
                    let text = rows.text(now, height, width);
                    assert!(text.lines().count() <= height.saturating_sub(LEFT_TO_THE_LOG).max(1) + 2);
                    assert!(
                        text.lines().all(|line| measure_text_width(line) <= width.max(1)),
                        "{width}: {text}"
                    );
                }
            }
        }
    }
}
