//! Files that stay empty while all is well: QEMU's log, and the journal of a failed Ignition.

use std::path::PathBuf;
use std::time::Duration;

use super::Gathered;
use super::tail::{Tail, incomplete};
use crate::boot::evidence::Evidence;
use crate::hypervisor::qemu_said;

/// How often they are looked at.
const PAUSE: Duration = Duration::from_secs(1);

/// A log longer than this says the same thing over and over.
const QEMU_LIMIT: usize = 256 << 10;

/// A whole boot's journal as JSON takes some 3 MiB.
const JOURNAL_LIMIT: usize = 8 << 20;

/// Tells the new lines that QEMU writes to its log.
pub(super) async fn qemu(log: PathBuf, gathered: Gathered) {
    let mut tail = Tail::new(log);
    let mut text = Vec::new();
    let mut told = 0;
    loop {
        // A log that cannot be read is no evidence; it may be there the next time.
        while let Ok(true) = more(&mut tail, &mut text, QEMU_LIMIT).await {}
        let whole_lines = text
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let lines = String::from_utf8_lossy(text.get(..whole_lines).unwrap_or_default());
        let said = qemu_said(&lines);
        if let Some(new) = said.get(told..).filter(|new| !new.is_empty()) {
            let text = new.join("\n");
            told = said.len();
            if gathered.send(Evidence::QemuLog { text }).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Tells what a guest whose Ignition has failed writes of it.
pub(super) async fn ignition(journal: PathBuf, gathered: Gathered) {
    let mut tail = Tail::new(journal);
    let mut left = JOURNAL_LIMIT;
    let mut text = Vec::new();
    loop {
        while let Ok(true) = more(&mut tail, &mut text, CHUNK).await {}
        let whole = text.len() - incomplete(&text);
        if whole > 0 && left > 0 {
            let chunk: Vec<u8> = text.drain(..whole.min(left)).collect();
            left -= chunk.len();
            let text = String::from_utf8_lossy(&chunk).into_owned();
            if gathered.send(Evidence::IgnitionJournal { text }).await.is_err() {
                return;
            }
            continue;
        }
        if left == 0 {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

const CHUNK: usize = 64 << 10;

/// Reads on into `text` as far as `limit`; whether anything came.
async fn more(tail: &mut Tail, text: &mut Vec<u8>, limit: usize) -> std::io::Result<bool> {
    let mut block = [0; 4096];
    let room = limit.saturating_sub(text.len()).min(block.len());
    if room == 0 {
        return Ok(false);
    }
    let count = tail.read(&mut block[..room]).await?;
    text.extend_from_slice(&block[..count]);
    Ok(count > 0)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_journal_arrives_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let said = "{\"MESSAGE\":\"Ignition failed: é\"}\n".repeat(5000);
        std::fs::write(&path, &said).unwrap();
        let (sender, mut receiver) = mpsc::channel(4);
        let task = tokio::spawn(ignition(path, sender));
        let mut heard = String::new();
        while heard.len() < said.len() {
            let Some(Evidence::IgnitionJournal { text }) = receiver.recv().await else {
                panic!("another kind");
            };
            heard += &text;
        }
        assert_eq!(heard, said);
        task.abort();
    }

    #[tokio::test]
    async fn qemus_words_are_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        std::fs::write(
            &path,
            "t: starting up libvirt version: 1\nPATH=/ \\\nqemu\nqemu: no\nqemu: hal",
        )
        .unwrap();
        let (sender, mut receiver) = mpsc::channel(4);
        let task = tokio::spawn(qemu(path.clone(), sender));
        let qemu_log = |text: &str| {
            Some(Evidence::QemuLog {
                text: text.to_owned(),
            })
        };
        assert_eq!(receiver.recv().await, qemu_log("qemu: no"));
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut file, b"f\nqemu: full\n").unwrap();
        assert_eq!(receiver.recv().await, qemu_log("qemu: half\nqemu: full"));
        task.abort();
    }
}
