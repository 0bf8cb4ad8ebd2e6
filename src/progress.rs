//! How a long piece of work is told while it goes on: one event a line of the build log.

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How much a line matters to the person who watches the build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The ordinary course of things.
    Info,
    /// Something reached its goal.
    Good,
    /// Works, but not as the user would wish.
    Warn,
    /// Failed.
    Bad,
    /// Raw evidence: a line of a node's console or of a daemon's log.
    Quote,
}

/// One line of the log: about a node, or about the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// How much it matters.
    pub level: Level,
    /// The node it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The line, without colour, node name or time: whoever prints it adds those.
    pub text: String,
}

/// Where the rooms send their events. Cheap to clone; sending never blocks and never fails.
#[derive(Clone, Debug)]
pub struct Progress {
    sender: UnboundedSender<Event>,
}

impl Progress {
    /// A progress and the end from which its events are read.
    pub fn channel() -> (Self, UnboundedReceiver<Event>) {
        let (sender, receiver) = unbounded_channel();
        (Self { sender }, receiver)
    }

    /// Sends any event.
    pub fn send(&self, event: Event) {
        // Nobody listens any more once the put has ended; the work goes on all the same.
        let _ = self.sender.send(event);
    }

    /// The ordinary course of things, about the whole cluster.
    pub fn info(&self, text: impl Into<String>) {
        self.send(Event {
            level: Level::Info,
            node: None,
            text: text.into(),
        });
    }

    /// Something that works but not as wished, about the whole cluster.
    pub fn warn(&self, text: impl Into<String>) {
        self.send(Event {
            level: Level::Warn,
            node: None,
            text: text.into(),
        });
    }

    /// A line about one node.
    pub fn node(&self, level: Level, node: impl std::fmt::Display, text: impl Into<String>) {
        self.send(Event {
            level,
            node: Some(node.to_string()),
            text: text.into(),
        });
    }
}
