//! What has become of a console's escape sequences (ECMA-48) in a text that somebody keeps: JSON, logs and shells spell the
//! byte that begins them, and web pages lose it.

use std::borrow::Cow;

const ESCAPE: &str = "\x1b";

/// Spellings of that byte.
const SPELT: [&str; 7] = ["\\x1b", "\\x1B", "\\u001b", "\\u001B", "\\033", "^[", "\u{241b}"];

/// How a text has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escapes {
    /// As they were printed, or not at all.
    Kept,
    /// With a spelling of the byte.
    Spelt(&'static str),
    /// Without the byte: `[0;1;31m`.
    Lost,
}

impl Escapes {
    /// How this text has them.
    pub fn of(sample: &str) -> Self {
        if sample.contains(ESCAPE) {
            return Self::Kept;
        }
        let begins = |rest: &str| {
            let rest = rest.strip_prefix('[');
            rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || "mKJH?".contains(c)))
        };
        let spelt = SPELT.into_iter().find(|spelt| {
            let mut found = sample.match_indices(spelt);
            found.any(|(at, _)| sample.get(at + spelt.len()..).is_some_and(begins))
        });
        match spelt {
            Some(spelt) => Self::Spelt(spelt),
            None if sample.contains("[0m") => Self::Lost,
            None => Self::Kept,
        }
    }

    /// A line with escape sequences as they were printed, or without those that lost their first byte.
    pub fn restore(self, line: &str) -> Cow<'_, str> {
        match self {
            Self::Kept => Cow::Borrowed(line),
            Self::Spelt(spelt) => Cow::Owned(line.replace(spelt, ESCAPE)),
            Self::Lost => Cow::Owned(without_lost(line)),
        }
    }
}

/// Without `[0;1;31m`, `[K`, and the `M` before it by which systemd goes back to a line that it writes anew.
fn without_lost(line: &str) -> String {
    let mut kept = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('[') {
        kept.push_str(before);
        let end = after.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        let colour = end.strip_prefix('m');
        let erase = after.strip_prefix('K');
        rest = match colour.or(erase) {
            Some(rest) => {
                if erase.is_some() && kept == "M" {
                    kept.clear();
                }
                rest
            }
            None => {
                kept.push('[');
                after
            }
        };
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn they_are_found_and_restored() {
        for (text, escapes, restored) in [
            (
                "[\x1b[0;32m  OK  \x1b[0m] up",
                Escapes::Kept,
                "[\x1b[0;32m  OK  \x1b[0m] up",
            ),
            ("[    0.000000] ^[a-z]", Escapes::Kept, "[    0.000000] ^[a-z]"),
            (
                "[\\u001b[0;32m  OK  \\u001b[0m] up",
                Escapes::Spelt("\\u001b"),
                "[\x1b[0;32m  OK  \x1b[0m] up",
            ),
            (
                "^[[0;1;31mFAILED^[[0m",
                Escapes::Spelt("^["),
                "\x1b[0;1;31mFAILED\x1b[0m",
            ),
            (
                "M[K[[0;1;31mFAILED[0m] [    1.0] x[1]",
                Escapes::Lost,
                "[FAILED] [    1.0] x[1]",
            ),
        ] {
            assert_eq!(Escapes::of(text), escapes, "{text}");
            assert_eq!(escapes.restore(text), restored, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_no_escape_stays(text in "([\\[0-9;mKé\\\\x1b^]{0,4}[a-z ]{0,3}){0,9}") {
            let kept = Escapes::Lost.restore(&text);
            let letters = |text: &str| text.chars().filter(|c| !"[0123456789;mKM".contains(*c)).collect::<String>();
            prop_assert_eq!(letters(&kept), letters(&text));
            prop_assert!(Escapes::of(&text).restore(&text).len() <= text.len());
        }
    }
}
