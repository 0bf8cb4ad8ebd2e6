//! What an init system has begun to start and not told the end of.
//!
//! systemd says what it waits for only while no service writes to the console itself, which cloud-init's single process does for
//! as long as it waits in turn. What was begun and not ended is then all there is.

use std::time::Duration;

/// So many at once are no sign of anything: a system that starts more is not waiting.
const MOST: usize = 64;

/// Characters of a name.
const LENGTH: usize = 120;

/// The starts under way, the oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending(Vec<(Duration, String)>);

impl Pending {
    /// Takes note of a line of the console, where it is of systemd and about a start.
    pub(super) fn read(&mut self, text: &str, now: Duration) {
        if let Some(what) = text.strip_prefix("         Starting ") {
            // What is cut in its middle cannot be told from what is cut at the same place.
            let what = what.trim_end_matches('.');
            if self.0.len() < MOST && !name(what).contains('…') {
                self.0.push((now, what.chars().take(LENGTH).collect()));
            }
        } else if let Some(what) = text.get(8..).filter(|_| text.as_bytes().get(7) == Some(&b']')) {
            let ended = ["Finished ", "Started ", "Failed to start ", "Stopped "];
            if let Some(what) = ended.iter().find_map(|word| what.trim_start().strip_prefix(word)) {
                let what = name(what);
                self.0.retain(|(_, begun)| name(begun) != what);
            }
        }
    }

    /// What has been under way for so long: since when, and its name.
    pub(super) fn since(&self, before: Duration) -> impl Iterator<Item = (Duration, &str)> {
        let old = self.0.iter().filter(move |(at, _)| *at <= before);
        old.map(|(at, what)| (*at, what.as_str()))
    }
}

/// The name of a unit, or where only a description is printed, that.
fn name(what: &str) -> &str {
    what.split_once(" - ")
        .map_or(what.trim_end_matches('.'), |(name, _)| name.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(lines: &[&str]) -> Vec<String> {
        let mut pending = Pending::default();
        for (at, line) in lines.iter().enumerate() {
            pending.read(line, Duration::from_secs(at as u64));
        }
        pending
            .since(Duration::from_secs(1000))
            .map(|(_, what)| what.to_owned())
            .collect()
    }

    #[test]
    fn what_was_begun_and_not_ended_is_left() {
        assert_eq!(
            left(&[
                "         Starting prepare-data.service - Prepare the data disk...",
                "         Starting systemd-journald.service - Journal Service...",
                "[  OK  ] Started systemd-journald.service - Journal Service.",
                "         Starting ssh.service - OpenBSD Secure Shell server...",
                "[FAILED] Failed to start ssh.service - OpenBSD Secure Shell server.",
                "         Starting systemd-tmpfiles-setup-de…eate Static Device Nodes in /dev...",
                "[   14.703723] systemd[1]: Starting another.service - Another...",
                "[  OK  ] Finished systemd-tmpfiles-setup-de…Create Static Device Nodes in /dev.",
            ]),
            ["prepare-data.service - Prepare the data disk"]
        );
        assert_eq!(
            left(&[
                "         Starting Load Kernel Modules...",
                "         Starting Wait for Network to be Configured...",
                "[  OK  ] Finished Load Kernel Modules.",
            ]),
            ["Wait for Network to be Configured"]
        );
        assert!(
            left(&["[", "[ü", "[  OK  ]", "         Starting "])
                .iter()
                .all(String::is_empty)
        );
    }
}
