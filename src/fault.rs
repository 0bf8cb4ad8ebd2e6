//! How an error is told to a person: what was wrong and where, its causes, and what to do.

use std::fmt::Write as _;

/// An error that can say what to do about it.
///
/// `Display` says what was wrong and where, without repeating its `source()`; [`Fault::help`] says what to do.
pub trait Fault: std::error::Error {
    /// What the user can do about it, as one or more full sentences. `None` where there is nothing to add.
    fn help(&self) -> Option<String> {
        None
    }
}

/// So that a binary's body can use `?` on the faults of any room.
impl<'a, F: Fault + 'a> From<F> for Box<dyn Fault + 'a> {
    fn from(fault: F) -> Self {
        Box::new(fault)
    }
}

/// The whole text of a fault: message, chain of causes, help; the lines a build log or a terminal shows.
pub fn tell(fault: &dyn Fault) -> String {
    let mut text = fault.to_string();
    let mut cause = std::error::Error::source(fault);
    while let Some(error) = cause {
        let said = error.to_string();
        // Libraries often repeat their cause in their own message; a reader needs it once.
        if !text.ends_with(&said) {
            let _ = write!(text, ": {said}");
        }
        cause = error.source();
    }
    if let Some(help) = fault.help() {
        for line in help.lines() {
            let _ = write!(text, "\n  help: {line}");
        }
    }
    text
}
