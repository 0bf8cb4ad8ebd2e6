//! A node's console, as it was written and as it goes on.

use std::io::SeekFrom;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::Stream;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::watch;

use crate::agent::watch::tail::Tail;

/// How often a followed console is looked at.
const PAUSE: Duration = Duration::from_millis(200);

/// How much is read at once. Nothing more is read until the client has taken this: a slow one costs no memory.
const CHUNK: usize = 16 << 10;

/// A console that is being read.
#[derive(Debug)]
pub(super) struct Console {
    tail: Tail,
    /// When the cluster has ended nothing more will come.
    follow: Option<watch::Receiver<bool>>,
}

impl Console {
    /// From the start, or from the last `tail` lines on. To be followed until the cluster has ended, where that is
    /// given.
    pub(super) async fn open(
        path: PathBuf,
        tail: Option<usize>,
        follow: Option<watch::Receiver<bool>>,
    ) -> std::io::Result<Self> {
        let tail = match File::open(&path).await {
            Ok(mut file) => {
                if let Some(lines) = tail {
                    seek_tail(&mut file, lines).await?;
                }
                Tail::resume(path, file).await?
            }
            // The node has not been powered on yet.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Tail::new(path),
            Err(error) => return Err(error),
        };
        Ok(Self { tail, follow })
    }

    /// Whether nothing has been written and nothing will be waited for.
    pub(super) fn is_absent(&self) -> bool {
        !self.tail.is_open() && self.follow.is_none()
    }

    /// Its bytes, as they come.
    pub(super) fn stream(self) -> impl Stream<Item = std::io::Result<Vec<u8>>> + Send + 'static {
        futures_util::stream::try_unfold(self, |mut console| async move {
            Ok(console.next().await?.map(|chunk| (chunk, console)))
        })
    }

    async fn next(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        loop {
            // Asked before it is read: what was written before the end is still told.
            let over = self.follow.as_ref().is_none_or(|ended| *ended.borrow());
            let mut chunk = vec![0; CHUNK];
            let count = self.tail.read(&mut chunk).await?;
            if count > 0 {
                chunk.truncate(count);
                return Ok(Some(chunk));
            }
            match &mut self.follow {
                Some(ended) if !over => {
                    let _ = tokio::time::timeout(PAUSE, ended.wait_for(|ended| *ended)).await;
                }
                _ => return Ok(None),
            }
        }
    }
}

/// Sets the file to the start of its last `lines` lines, reading it backwards.
async fn seek_tail(file: &mut File, lines: usize) -> std::io::Result<()> {
    const BLOCK: u64 = 8 << 10;
    let mut end = file.metadata().await?.len();
    if lines == 0 {
        file.seek(SeekFrom::Start(end)).await?;
        return Ok(());
    }
    let mut seen = 0;
    // The line end that closes the last line starts no other.
    let mut last = true;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let mut block = vec![0; usize::try_from(end - start).unwrap_or_default()];
        file.seek(SeekFrom::Start(start)).await?;
        file.read_exact(&mut block).await?;
        for (at, byte) in block.iter().enumerate().rev() {
            if *byte == b'\n' && !std::mem::take(&mut last) {
                seen += 1;
                if seen == lines {
                    file.seek(SeekFrom::Start(start + at as u64 + 1)).await?;
                    return Ok(());
                }
            }
            last = false;
        }
        end = start;
    }
    file.seek(SeekFrom::Start(0)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    async fn read(console: Console) -> String {
        let chunks: Vec<_> = console.stream().collect().await;
        let bytes: Vec<u8> = chunks.into_iter().flat_map(Result::unwrap).collect();
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test]
    async fn the_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        let long = "x".repeat(20_000);
        for (text, lines, expected) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\nc\n", 0, ""),
            ("a\nb\nc\n", 3, "a\nb\nc\n"),
            ("a\nb\nc\n", usize::MAX, "a\nb\nc\n"),
            ("\n\n\n", 2, "\n\n"),
            ("", 5, ""),
            (&format!("a\n{long}\n"), 1, &format!("{long}\n")),
            (&format!("{long}\nb\n"), 1, "b\n"),
        ] {
            std::fs::write(&path, text).unwrap();
            let console = Console::open(path.clone(), Some(lines), None).await.unwrap();
            assert_eq!(read(console).await, expected, "{lines} of {:.20}", text);
        }
    }

    #[tokio::test]
    async fn one_that_is_not_there_yet_is_waited_for_and_the_next_file_is_read_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        assert!(Console::open(path.clone(), None, None).await.unwrap().is_absent());
        let (end, ended) = watch::channel(false);
        let console = Console::open(path.clone(), Some(1), Some(ended)).await.unwrap();
        let mut stream = std::pin::pin!(console.stream());
        std::fs::write(&path, "first").unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), b"first");
        std::fs::rename(&path, dir.path().join("console.log.0")).unwrap();
        std::fs::write(&path, "second").unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), b"second");
        std::fs::write(&path, "second, and the last").unwrap();
        end.send_replace(true);
        assert_eq!(stream.next().await.unwrap().unwrap(), b", and the last");
        assert!(stream.next().await.is_none());
    }
}
