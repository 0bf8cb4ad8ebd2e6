//! A node's console, as it was written and as it goes on.

use std::io::SeekFrom;
use std::path::Path;
use std::time::Duration;

use futures_util::Stream;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::watch;

use super::server::Consoles;
use crate::agent::watch::tail::Tail;

/// How often a followed console is looked at.
const PAUSE: Duration = Duration::from_millis(200);

/// How much is read at once. Nothing more is read until the client has taken this: a slow one costs no memory.
const CHUNK: usize = 16 << 10;

/// A console that is being read.
#[derive(Debug)]
pub(super) struct Console {
    /// What was printed before the power was last switched on, as far as it is still to be read.
    earlier: Option<File>,
    tail: Tail,
    /// When the cluster has ended nothing more will come.
    follow: Option<watch::Receiver<bool>>,
}

impl Console {
    /// From the start, or from the last `tail` lines on. To be followed until the cluster has ended, where that is
    /// given.
    pub(super) async fn open(
        Consoles { earlier, current }: Consoles,
        tail: Option<usize>,
        follow: Option<watch::Receiver<bool>>,
    ) -> std::io::Result<Self> {
        let mut earlier = present(&earlier).await?;
        let mut wanted = tail;
        let tail = match present(&current).await? {
            Some(mut file) => {
                if let Some(lines) = &mut wanted {
                    let found = seek_tail(&mut file, *lines).await?;
                    *lines = lines.saturating_sub(found);
                }
                Tail::resume(current, file).await?
            }
            // The node has not been powered on yet.
            None => Tail::new(current),
        };
        if let (Some(file), Some(lines)) = (&mut earlier, wanted) {
            seek_tail(file, lines).await?;
        }
        Ok(Self {
            earlier,
            tail,
            follow,
        })
    }

    /// Whether nothing has been written and nothing will be waited for.
    pub(super) fn is_absent(&self) -> bool {
        !self.tail.is_open() && self.earlier.is_none() && self.follow.is_none()
    }

    /// Its bytes, as they come.
    pub(super) fn stream(self) -> impl Stream<Item = std::io::Result<Vec<u8>>> + Send + 'static {
        futures_util::stream::try_unfold(self, |mut console| async move {
            Ok(console.next().await?.map(|chunk| (chunk, console)))
        })
    }

    async fn next(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        if let Some(earlier) = &mut self.earlier {
            let mut chunk = vec![0; CHUNK];
            let count = earlier.read(&mut chunk).await?;
            if count > 0 {
                chunk.truncate(count);
                return Ok(Some(chunk));
            }
            self.earlier = None;
        }
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

/// A file, where it is there.
async fn present(path: &Path) -> std::io::Result<Option<File>> {
    match File::open(path).await {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets the file to the start of its last `lines` lines, reading it backwards; gives how many there are, where they are fewer.
async fn seek_tail(file: &mut File, lines: usize) -> std::io::Result<usize> {
    const BLOCK: u64 = 8 << 10;
    let mut end = file.metadata().await?.len();
    if lines == 0 {
        file.seek(SeekFrom::Start(end)).await?;
        return Ok(0);
    }
    let empty = end == 0;
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
                    return Ok(lines);
                }
            }
            last = false;
        }
        end = start;
    }
    file.seek(SeekFrom::Start(0)).await?;
    // The first line has no line end before it.
    Ok(if empty { 0 } else { seen + 1 })
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    /// Of a node that was switched on once.
    fn alone(path: &Path) -> Consoles {
        Consoles {
            earlier: path.with_extension("earlier"),
            current: path.to_owned(),
        }
    }

    #[tokio::test]
    async fn what_was_printed_before_the_last_start_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        std::fs::write(path.with_extension("earlier"), "a\nb\n").unwrap();
        assert!(!Console::open(alone(&path), None, None).await.unwrap().is_absent());
        for current in [None, Some("c\nd\n")] {
            if let Some(text) = current {
                std::fs::write(&path, text).unwrap();
            }
            let whole = format!("a\nb\n{}", current.unwrap_or_default());
            for lines in [0, 1, 2, 3, 4, 9] {
                let expected: Vec<&str> = whole.split_inclusive('\n').collect();
                let expected = expected[expected.len().saturating_sub(lines)..].concat();
                let console = Console::open(alone(&path), Some(lines), None).await.unwrap();
                assert_eq!(read(console).await, expected, "{lines} of {whole:?}");
            }
            assert_eq!(
                read(Console::open(alone(&path), None, None).await.unwrap()).await,
                whole
            );
        }
    }

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
            let console = Console::open(alone(&path), Some(lines), None).await.unwrap();
            assert_eq!(read(console).await, expected, "{lines} of {:.20}", text);
        }
    }

    #[tokio::test]
    async fn one_that_is_not_there_yet_is_waited_for_and_the_next_file_is_read_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        assert!(Console::open(alone(&path), None, None).await.unwrap().is_absent());
        let (end, ended) = watch::channel(false);
        let console = Console::open(alone(&path), Some(1), Some(ended)).await.unwrap();
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
