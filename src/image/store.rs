//! A directory of prepared images. Several processes may use one at once.
//!
//! Of an image `KEY` there may be: `KEY.disk` (finished: a raw or qcow2 disk), `KEY.part` (being fetched, kept to go on
//! with), `KEY.fetched` (whole, its digest right, not yet unpacked), `KEY.unpacking`, and `KEY.lock` while one process
//! works on it. A name without a suffix of work appears by `rename` alone, so what has it is whole.
//!
//! A store may be lasting: kept from one run to the next, on another machine perhaps. There `KEY` is always of the content, since the
//! file that an image came in is another one in every run, and what nobody uses any more is pruned.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256 as Hasher};

use super::error::ImageError;
use crate::progress::Progress;
use crate::topology::model::Sha256;

/// Where an image's files lie in a store.
#[derive(Clone, Debug)]
pub struct Shelf {
    dir: PathBuf,
    key: String,
}

impl Shelf {
    /// The place of what is fetched with a digest: its content alone decides.
    pub fn of_digest(dir: &Path, digest: &Sha256) -> Self {
        Self {
            dir: dir.to_owned(),
            key: format!("sha256-{digest}"),
        }
    }

    /// The place of what is unpacked from a file. Name, size, times and inode number stand for its content: reading it whole would
    /// take as long as unpacking it. The time of change cannot be set by whoever makes the file, so that a file made anew, even with
    /// its old name, size and time, has another place.
    pub fn of_file(dir: &Path, path: &Path, metadata: &fs::Metadata) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        for number in [
            metadata.size() as i64,
            metadata.ino() as i64,
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        ] {
            hasher.update(number.to_le_bytes());
        }
        Self {
            dir: dir.to_owned(),
            key: format!("file-{}", hex::encode(&hasher.finalize()[..16])),
        }
    }

    /// The finished disk.
    pub fn disk(&self) -> PathBuf {
        self.file("disk")
    }

    /// What is being fetched.
    pub fn part(&self) -> PathBuf {
        self.file("part")
    }

    /// What was fetched.
    pub fn fetched(&self) -> PathBuf {
        self.file("fetched")
    }

    /// What is being unpacked.
    pub fn unpacking(&self) -> PathBuf {
        self.file("unpacking")
    }

    fn file(&self, suffix: &str) -> PathBuf {
        self.dir.join(format!("{}.{suffix}", self.key))
    }

    /// Waits until no other process works on this image, and makes the store if it is not there.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub async fn lock(&self, place: &str, progress: &Progress) -> Result<Lock, ImageError> {
        let io = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| ImageError::Io { doing, path, source }
        };
        fs::create_dir_all(&self.dir).map_err(io("create the directory", &self.dir))?;
        let path = self.file("lock");
        let mut told = false;
        loop {
            if let Some(lock) = Lock::try_take(&path).map_err(io("lock", &path))? {
                return Ok(lock);
            }
            if !told {
                told = true;
                progress.info(format!("image {place}: another process is preparing it, waiting"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The right to work on one image; given back, and its file removed, when dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    /// Never read: the lock lasts as long as it is open.
    _file: File,
}

impl Lock {
    fn try_take(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
        // Whoever had it before removed it while it was waited for: a lock on a file without a name excludes nobody.
        match fs::metadata(path) {
            Ok(now) if now.ino() == file.metadata()?.ino() => Ok(Some(Self {
                path: path.to_owned(),
                _file: file,
            })),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Gives a whole file its lasting name: first its bytes, then the name.
///
/// # Errors
///
/// Those of the file system.
pub fn keep(from: &Path, to: &Path) -> Result<(), ImageError> {
    let result = File::open(from).and_then(|file| {
        file.sync_data()?;
        fs::rename(from, to)
    });
    result.map_err(|source| ImageError::Io {
        doing: "keep",
        path: to.to_owned(),
        source,
    })
}

/// Says of a directory, to programs that make backups too, that it is a cache (<https://bford.info/cachedir/>).
const TAG: &str = "CACHEDIR.TAG";

/// The signature, without which the file is none.
const SIGNATURE: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# Images that libvirt-resource has downloaded and unpacked.\n";

/// Makes a lasting store, where it is not there.
///
/// # Errors
///
/// Those of the file system.
pub fn make_lasting(store: &Path) -> io::Result<()> {
    fs::create_dir_all(store)?;
    if is_lasting(store) {
        return Ok(());
    }
    let tag = tempfile::NamedTempFile::new_in(store)?;
    fs::write(tag.path(), SIGNATURE)?;
    tag.persist(store.join(TAG))
        .map(drop)
        .map_err(|error| error.error)
}

/// Whether a store is kept from one run to the next.
pub fn is_lasting(store: &Path) -> bool {
    store.join(TAG).exists()
}

/// Notes that a disk was used: it is not pruned for a while.
pub fn used(disk: &Path) {
    // On a store that cannot be written nothing is pruned either.
    let _ = File::open(disk).and_then(|file| file.set_modified(SystemTime::now()));
}

/// Removes from a store what nobody has used for `age`, half of an image that was never finished too; gives the names of what was
/// removed. What another process works on is let be.
pub fn prune(store: &Path, age: Duration) -> Vec<String> {
    let mut removed = Vec::new();
    for entry in fs::read_dir(store).into_iter().flatten().flatten() {
        let path = entry.path();
        let ours = path
            .extension()
            .and_then(|suffix| suffix.to_str())
            .is_some_and(|suffix| ["disk", "part", "fetched", "unpacking"].contains(&suffix));
        let old = || {
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            modified.is_ok_and(|at| at.elapsed().is_ok_and(|since| since > age))
        };
        if !ours || !old() {
            continue;
        }
        if let Ok(Some(_lock)) = Lock::try_take(&path.with_extension("lock")) {
            // Again, now that nobody works on it.
            if old() && fs::remove_file(&path).is_ok() {
                removed.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
    }
    removed
}

/// A file that is removed unless it was kept.
pub struct Scratch(PathBuf);

impl Scratch {
    /// The file, which need not be there yet.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_works_at_a_time_and_leaves_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::of_digest(&dir.path().join("a/b"), &Sha256([0; 32]));
        let (progress, mut events) = Progress::channel();
        let first = shelf.lock("x", &progress).await.unwrap();
        let second = tokio::spawn({
            let shelf = shelf.clone();
            async move { shelf.lock("x", &progress).await.unwrap() }
        });
        assert!(events.recv().await.unwrap().text.contains("another process"));
        assert!(!second.is_finished());
        drop(first);
        drop(second.await.unwrap());
        assert_eq!(fs::read_dir(&shelf.dir).unwrap().count(), 0);
    }

    #[test]
    fn what_nobody_uses_is_pruned_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        make_lasting(dir.path()).unwrap();
        make_lasting(dir.path()).unwrap();
        assert!(fs::read_to_string(at(TAG)).unwrap().starts_with("Signature: "));
        let long_ago = SystemTime::now() - Duration::from_secs(100);
        for name in [
            "old.disk",
            "old.part",
            "busy.fetched",
            "theirs.txt",
            "new.disk",
            "again.disk",
        ] {
            fs::write(at(name), "x").unwrap();
            if name != "new.disk" {
                let file = File::options().write(true).open(at(name)).unwrap();
                file.set_modified(long_ago).unwrap();
            }
        }
        used(&at("again.disk"));
        let busy = Lock::try_take(&at("busy.lock")).unwrap().unwrap();
        let mut removed = prune(dir.path(), Duration::from_secs(50));
        removed.sort();
        assert_eq!(removed, ["old.disk", "old.part"]);
        drop(busy);
        assert_eq!(prune(dir.path(), Duration::from_secs(50)), ["busy.fetched"]);
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [TAG, "again.disk", "new.disk", "theirs.txt"]);
    }

    #[test]
    fn a_file_made_anew_has_another_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.xz");
        let place = || Shelf::of_file(dir.path(), &path, &fs::metadata(&path).unwrap()).disk();
        fs::write(&path, "one").unwrap();
        let first = place();
        assert_eq!(first, place());
        let mtime = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(dir.path().join("other"), "two").unwrap();
        fs::rename(dir.path().join("other"), &path).unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(mtime)
            .unwrap();
        assert_ne!(first, place());
    }
}
