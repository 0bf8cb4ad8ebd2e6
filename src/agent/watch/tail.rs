//! Reads a file as it grows.

use std::io::SeekFrom;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

/// A file that another program writes: it may not be there yet, be emptied, or be put aside for a new one of its name
/// (virtlogd's rotation). Nothing is read twice, and what was written before a file was put aside is read to its end.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    inode: u64,
    at: u64,
}

impl Tail {
    /// From the start of the file at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            open: None,
        }
    }

    /// From the place where an open file stands.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub async fn resume(path: impl Into<PathBuf>, mut file: File) -> std::io::Result<Self> {
        let inode = file.metadata().await?.ino();
        let at = file.stream_position().await?;
        Ok(Self {
            path: path.into(),
            open: Some(Open { file, inode, at }),
        })
    }

    /// Whether the file was there when it was last looked for.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what is there, as far as it fits; 0 where there is nothing new.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub async fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let now = match tokio::fs::metadata(&self.path).await {
            Ok(now) => Some(now),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let Some(open) = &mut self.open {
            let same = now.as_ref().is_none_or(|now| now.ino() == open.inode);
            if same && now.is_some_and(|now| now.len() < open.at) {
                open.at = open.file.seek(SeekFrom::Start(0)).await?;
            }
            let count = open.read(buffer).await?;
            if count > 0 || same {
                return Ok(count);
            }
            // Put aside, and read to its end.
            self.open = None;
        }
        match File::open(&self.path).await {
            Ok(file) => {
                let inode = file.metadata().await?.ino();
                let open = self.open.insert(Open { file, inode, at: 0 });
                open.read(buffer).await
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }
}

impl Open {
    async fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer).await?;
        self.at += count as u64;
        Ok(count)
    }
}

/// How many bytes at the end are the beginning of a character (UTF-8) that is not complete yet: at most 3.
pub fn incomplete(bytes: &[u8]) -> usize {
    let begins = |length: &usize| {
        let start = bytes.len().checked_sub(*length);
        let end = start.and_then(|start| bytes.get(start..)).unwrap_or_default();
        std::str::from_utf8(end).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (1..=3).find(begins).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    async fn all(tail: &mut Tail) -> String {
        let mut said = Vec::new();
        let mut buffer = [0; 3];
        loop {
            match tail.read(&mut buffer).await.unwrap() {
                0 => return String::from_utf8(said).unwrap(),
                count => said.extend(&buffer[..count]),
            }
        }
    }

    #[tokio::test]
    async fn a_file_is_followed_through_its_life() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        let mut tail = Tail::new(&path);
        assert_eq!(all(&mut tail).await, "", "not there yet");
        std::fs::write(&path, "one ").unwrap();
        assert_eq!(all(&mut tail).await, "one ");
        let append = |text: &str| {
            let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
            std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        };
        append("two ");
        assert_eq!(all(&mut tail).await, "two ");
        // Put aside with something unread in it.
        append("three ");
        std::fs::rename(&path, dir.path().join("console.log.0")).unwrap();
        assert_eq!(all(&mut tail).await, "three ", "while there is no new one");
        std::fs::write(&path, "four ").unwrap();
        assert_eq!(all(&mut tail).await, "four ");
        // Emptied in place.
        std::fs::write(&path, "5 ").unwrap();
        assert_eq!(all(&mut tail).await, "5 ");
        append("six");
        assert_eq!(all(&mut tail).await, "six");
        assert_eq!(all(&mut tail).await, "");
    }

    #[tokio::test]
    async fn a_file_put_aside_is_read_to_its_end_before_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        std::fs::write(&path, "old ").unwrap();
        let mut tail = Tail::new(&path);
        let mut buffer = [0; 2];
        assert_eq!(tail.read(&mut buffer).await.unwrap(), 2);
        std::fs::rename(&path, dir.path().join("console.log.0")).unwrap();
        std::fs::write(&path, "new").unwrap();
        assert_eq!(all(&mut tail).await, "d new");
    }

    #[test]
    fn half_characters_are_known() {
        for (bytes, held) in [
            (&b""[..], 0),
            (b"a", 0),
            (b"a\xc3", 1),
            (b"a\xc3\xa9", 0),
            (b"\xe2\x82", 2),
            (b"\xf0\x9f\x98", 3),
            (b"\xf0\x9f\x98\x80", 0),
            (b"\xff", 0),
            (b"\x82\x82\x82", 0),
        ] {
            assert_eq!(incomplete(bytes), held, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_character_is_broken_wherever_a_chunk_ends(text in "\\PC{0,40}", at in 0usize..160) {
            let bytes = text.as_bytes();
            let (first, _) = bytes.split_at(at.min(bytes.len()));
            let cut = first.len() - incomplete(first);
            prop_assert!(std::str::from_utf8(&first[..cut]).is_ok());
            prop_assert!(std::str::from_utf8(&bytes[cut..]).is_ok());
        }
    }
}
