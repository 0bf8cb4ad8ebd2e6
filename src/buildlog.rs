//! What a person who watches the build sees: one line an event, with the time since the start and the node's name.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use crate::agent::order::Summary;
use crate::live::Live;
use crate::progress::{Event, Level};
use crate::topology::name::Name;

/// Writes to stderr, which is the build log; stdout belongs to the protocol.
#[derive(Debug)]
pub struct BuildLog {
    started: Instant,
    colour: bool,
    /// What paths are shown relative to, with a slash at its end.
    inputs: OnceLock<String>,
    /// The rows below the log, while nodes boot.
    live: Mutex<Option<Live>>,
}

const RESET: &str = "\x1b[0m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[1;31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const CYAN: &str = "\x1b[36m";

impl BuildLog {
    /// For `out`: coloured though stderr is no terminal, since Concourse's build page shows colours.
    pub fn concourse() -> Self {
        Self {
            started: Instant::now(),
            colour: true,
            inputs: OnceLock::new(),
            live: Mutex::default(),
        }
    }

    /// For `nodectl`: coloured where stderr is a terminal and `NO_COLOR` is not set.
    pub fn terminal() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            started: Instant::now(),
            colour: wanted && std::io::IsTerminal::is_terminal(&std::io::stderr()),
            inputs: OnceLock::new(),
            live: Mutex::default(),
        }
    }

    /// From here on paths below the directory of the inputs are shown as the user wrote them.
    pub fn show_relative_to(&self, inputs: &Path) {
        let _ = self.inputs.set(format!("{}/", inputs.display()));
    }

    /// From here on a person at a terminal sees below the log what each of these nodes is doing; until [`BuildLog::rest`].
    pub fn watch(&self, nodes: impl Iterator<Item = String>) {
        *self.live() = Live::begin(nodes);
    }

    /// Nothing boots any more: the log alone is left.
    pub fn rest(&self) {
        *self.live() = None;
    }

    fn live(&self) -> MutexGuard<'_, Option<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One event.
    pub fn event(&self, event: &Event) {
        if let Some(live) = &*self.live() {
            live.see(event);
        }
        let colour = match event.level {
            Level::Info => "",
            Level::Good => GREEN,
            Level::Warn => YELLOW,
            Level::Bad => RED,
            Level::Quote => DIM,
        };
        let node = event.node.as_deref().unwrap_or_default();
        for line in event.text.lines() {
            let bar = if event.level == Level::Quote { "│ " } else { "" };
            let time = format!("{:>7.1}s", self.started.elapsed().as_secs_f64());
            self.write(&format!(
                "{} {} {}",
                self.paint(DIM, &time),
                self.paint(CYAN, &format!("{node:<12}")),
                self.paint(colour, &format!("{bar}{line}"))
            ));
        }
    }

    /// An error, as [`crate::fault::tell`] gives it.
    pub fn error(&self, text: &str) {
        let mut lines = text.lines();
        if let Some(first) = lines.next() {
            self.write(&format!(
                "{}{}",
                self.paint(RED, "error: "),
                self.paint(BOLD, first)
            ));
        }
        for line in lines {
            self.write(&match line.trim_start().strip_prefix("help: ") {
                Some(help) => format!("  {}{help}", self.paint(CYAN, "help: ")),
                None => format!("  {line}"),
            });
        }
    }

    /// A line without time or node.
    pub fn note(&self, text: &str) {
        self.write(text);
    }

    /// The table at the end of a put.
    pub fn summary(&self, summary: &Summary) {
        let width = name_width(summary.nodes.iter().map(|node| &node.name));
        let head = format!(
            "{:<width$}  {:<15}  {:<21}  {:>4}  {:>7}  {:>7}",
            "NODE", "ADDRESS", "SSH BY", "CPUS", "MEMORY", "READY"
        );
        let mut text = format!("\n{}\n", self.paint(BOLD, &head));
        for node in &summary.nodes {
            let ready = node
                .ready_seconds
                .map_or("never".to_owned(), |seconds| format!("{seconds:.1}s"));
            let _ = writeln!(
                text,
                "{:<width$}  {:<15}  {:<21}  {:>4}  {:>7}  {:>7}",
                node.name.as_str(),
                node.address.to_string(),
                format!("{}:{}", summary.endpoint.ip(), node.ssh_port),
                node.cpus,
                node.memory.to_string(),
                ready
            );
        }
        self.write(&text);
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour && !colour.is_empty() {
            format!("{colour}{text}{RESET}")
        } else {
            text.to_owned()
        }
    }

    fn write(&self, line: &str) {
        let line = match self.inputs.get() {
            Some(inputs) => &line.replace(inputs, ""),
            None => line,
        };
        // Nobody may be listening any more (the build page's pipe is closed after an abort): that is no reason to stop.
        let write = || {
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        };
        match &*self.live() {
            Some(live) => live.log(write),
            None => write(),
        }
    }
}

/// Of a column of nodes' names, in characters: at least its head's.
pub fn name_width<'a>(names: impl Iterator<Item = &'a Name>) -> usize {
    names
        .map(|name| name.as_str().len())
        .max()
        .unwrap_or(0)
        .max("NODE".len())
}
