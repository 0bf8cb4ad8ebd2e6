//! What was seen of a node, on disk: JSON lines that can be judged again.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncWriteExt as _, BufWriter};

use crate::boot::evidence::{Evidence, Seen};

/// How much of a recording's kinds is kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of console text from the beginning.
    pub console: usize,
    /// Bytes of console text before the end, where more was printed than that.
    pub console_end: usize,
    /// Bytes of all other records together, as written.
    pub other: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            console: 16 << 20,
            console_end: 64 << 10,
            other: 16 << 20,
        }
    }
}

/// A recording being written.
///
/// Of a console that prints without end, the beginning is kept as it comes; its end is kept in memory and written last,
/// behind a record that says how much is missing between.
#[derive(Debug)]
pub struct Recording {
    file: BufWriter<File>,
    left: Limits,
    end: VecDeque<u8>,
    /// When the last piece of `end` was printed.
    end_at: Duration,
    missing: u64,
}

impl Recording {
    /// Begins a recording, in place of one that is there.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub async fn create(path: &Path, limits: Limits) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        // It holds what the node printed, which may be anything.
        options.create(true).truncate(true).write(true).mode(0o600);
        Ok(Self {
            file: BufWriter::with_capacity(32 << 10, options.open(path).await?),
            left: limits,
            end: VecDeque::new(),
            end_at: Duration::ZERO,
            missing: 0,
        })
    }

    /// Adds a record.
    ///
    /// # Errors
    /// When it cannot be written: the disk is full, as a rule.
    pub async fn add(&mut self, seen: &Seen) -> io::Result<()> {
        if let Evidence::Console { bytes } = &seen.what {
            let fits = self.missing == 0 && self.end.is_empty() && bytes.len() <= self.left.console;
            if !fits {
                self.keep_end(bytes, seen.at);
                return Ok(());
            }
            self.left.console -= bytes.len();
            return self.write(seen).await.map(drop);
        }
        let last = matches!(seen.what, Evidence::End { .. });
        if last {
            self.write_end().await?;
        }
        if last || self.left.other > 0 {
            let length = self.write(seen).await?;
            self.left.other = self.left.other.saturating_sub(length);
        }
        if last { self.flush().await } else { Ok(()) }
    }

    /// Hands what was added to the system.
    ///
    /// # Errors
    /// As [`Recording::add`].
    pub async fn flush(&mut self) -> io::Result<()> {
        self.file.flush().await
    }

    fn keep_end(&mut self, bytes: &[u8], at: Duration) {
        self.end.extend(bytes);
        self.end_at = at;
        let over = self.end.len().saturating_sub(self.left.console_end);
        self.end.drain(..over);
        self.missing += over as u64;
    }

    async fn write_end(&mut self) -> io::Result<()> {
        let bytes: Vec<u8> = std::mem::take(&mut self.end).into();
        if self.missing > 0 {
            let bytes = self.missing;
            self.write(&Seen::new(self.end_at, Evidence::ConsoleCut { bytes }))
                .await?;
        }
        if !bytes.is_empty() {
            self.write(&Seen::new(self.end_at, Evidence::Console { bytes }))
                .await?;
        }
        Ok(())
    }

    async fn write(&mut self, seen: &Seen) -> io::Result<usize> {
        let mut line = serde_json::to_vec(seen)?;
        line.push(b'\n');
        self.file.write_all(&line).await?;
        Ok(line.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::evidence::{Counters, Outcome};

    fn console(at: u64, text: &str) -> Seen {
        Seen::new(
            Duration::from_secs(at),
            Evidence::Console {
                bytes: text.as_bytes().to_vec(),
            },
        )
    }

    fn counters(at: u64) -> Seen {
        Seen::new(Duration::from_secs(at), Evidence::Counters(Counters::default()))
    }

    fn end(at: u64) -> Seen {
        let outcome = Outcome::Failed;
        Seen::new(Duration::from_secs(at), Evidence::End { outcome })
    }

    async fn recorded(limits: Limits, all: &[Seen]) -> Vec<Seen> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let mut recording = Recording::create(&path, limits).await.unwrap();
        for seen in all {
            recording.add(seen).await.unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    const SMALL: Limits = Limits {
        console: 10,
        console_end: 4,
        other: 400,
    };

    #[tokio::test]
    async fn what_fits_comes_back_as_it_was() {
        let all = [console(1, "0123456789"), counters(2), end(3)];
        assert_eq!(recorded(SMALL, &all).await, all);
    }

    #[tokio::test]
    async fn of_an_endless_console_beginning_and_end_are_kept() {
        let said = recorded(
            SMALL,
            &[
                console(1, "01234567"),
                console(2, "abcdef"),
                counters(3),
                console(4, "xy"),
                end(5),
            ],
        )
        .await;
        let cut = Seen::new(Duration::from_secs(4), Evidence::ConsoleCut { bytes: 4 });
        assert_eq!(
            said,
            [
                console(1, "01234567"),
                counters(3),
                cut,
                console(4, "efxy"),
                end(5)
            ]
        );
        let said = recorded(SMALL, &[console(1, "01234567"), console(2, "abc"), end(5)]).await;
        assert_eq!(
            said,
            [console(1, "01234567"), console(2, "abc"), end(5)],
            "nothing is missing"
        );
    }

    #[tokio::test]
    async fn other_records_are_bounded_too() {
        let mut all: Vec<Seen> = (0..100).map(counters).collect();
        all.push(end(100));
        let said = recorded(SMALL, &all).await;
        assert!(said.len() < 10, "{}", said.len());
        assert_eq!(said.last(), Some(&end(100)));
    }
}
