//! What an agent leaves where others find it: one record a container, a lock, a socket.
//!
//! The lock is held for the agent's life and freed by the kernel when it dies: so whether an agent lives is never a
//! guess from a PID.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::topology::name::Name;

/// Where the record, the lock and the socket of a container's cluster are.
pub const RUN: &str = "/run/libvirt-resource";

/// Of which cluster this container holds the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The cluster's name.
    pub cluster: Name,
    /// A digest of the request that it was made for.
    pub request: String,
    /// Its directory: disks, consoles, logs.
    pub directory: PathBuf,
}

/// The files of [`RUN`], or of another directory in tests.
#[derive(Clone, Debug)]
pub struct Run {
    directory: PathBuf,
}

/// What stands in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// No agent was ever here, or it went in order.
    Nothing,
    /// One is at work (or stands there to tell how its cluster ended): ask it at [`Run::socket`].
    Living(Record),
    /// One was here and died without taking its cluster down in order.
    Dead(Record),
}

impl Default for Run {
    fn default() -> Self {
        Self::at(RUN)
    }
}

impl Run {
    /// The files under another directory.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// The directory itself.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The agent's Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("agent.sock")
    }

    fn record(&self) -> PathBuf {
        self.directory.join("cluster.json")
    }

    fn open_lock(&self) -> io::Result<File> {
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.directory.join("lock"))
    }

    /// What stands here.
    pub fn find(&self) -> io::Result<Found> {
        let bytes = match std::fs::read(self.record()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            other => other?,
        };
        let record: Record = serde_json::from_slice(&bytes)?;
        // Shared, so that two callers who look at the same time do not take each other for an agent.
        match flock(&self.open_lock()?, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Found::Dead(record)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(Found::Living(record)),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the lock for an agent's life and writes the record; `None` where another agent holds it.
    pub fn take(&self, record: &Record) -> io::Result<Option<Taken>> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)?;
        let lock = self.open_lock()?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        file.write_all(&serde_json::to_vec_pretty(record)?)?;
        file.persist(self.record()).map_err(|error| error.error)?;
        Ok(Some(Taken {
            run: self.clone(),
            _lock: lock,
        }))
    }

    /// Removes the record of an agent that is no more.
    pub fn forget(&self) -> io::Result<()> {
        for path in [self.record(), self.socket()] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The agent's hold on its container.
#[derive(Debug)]
pub struct Taken {
    run: Run,
    _lock: File,
}

impl Taken {
    /// Ends in order: whoever comes next finds nothing.
    pub fn leave(self) -> io::Result<()> {
        self.run.forget()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            cluster: "brisk-otter-3f9c".parse().unwrap(),
            request: "abc".to_owned(),
            directory: "/scratch/x".into(),
        }
    }

    #[test]
    fn an_agent_is_seen_for_as_long_as_it_lives_and_missed_when_it_dies() {
        let dir = tempfile::tempdir().unwrap();
        let run = Run::at(dir.path().join("run"));
        assert_eq!(run.find().unwrap(), Found::Nothing);
        let taken = run.take(&record()).unwrap().unwrap();
        assert_eq!(run.find().unwrap(), Found::Living(record()));
        assert!(run.take(&record()).unwrap().is_none(), "one agent a container");
        drop(taken);
        // A child that another test has forked holds a copy of the lock until its exec closes it.
        for _ in 0..5000 {
            if run.find().unwrap() != Found::Living(record()) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(run.find().unwrap(), Found::Dead(record()));
        let again = (0..5000).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            run.take(&record()).unwrap()
        });
        again.unwrap().leave().unwrap();
        assert_eq!(run.find().unwrap(), Found::Nothing);
    }
}
