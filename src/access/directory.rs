//! A directory of files that comes into place as a whole.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::{AccessError, KUBECONFIG, NODES_JSON};

/// Who may do what with a file.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// 0644.
    Open,
    /// 0600.
    Secret,
    /// 0755.
    Program,
}

impl Mode {
    fn bits(self) -> u32 {
        match self {
            Self::Open => 0o644,
            Self::Secret => 0o600,
            Self::Program => 0o755,
        }
    }
}

/// What a cluster may have or not have: removed when a cluster without takes the place of one with.
const OPTIONAL: [&str; 3] = [KUBECONFIG, "collected", "consoles"];

/// A directory being filled. Dropped before [`Directory::replace`], it is gone.
pub struct Directory {
    filling: tempfile::TempDir,
}

impl Directory {
    /// An empty one inside `dir`: the same file system, so that its files can be moved.
    pub fn beside(dir: &Path) -> Result<Self, AccessError> {
        let filling = tempfile::Builder::new()
            .prefix(".nodes-")
            .tempdir_in(dir)
            .map_err(|source| AccessError::Write {
                path: dir.to_owned(),
                source,
            })?;
        Ok(Self { filling })
    }

    /// Writes a file; a `/` in its name makes a folder.
    pub fn file(&self, name: &str, mode: Mode, content: impl AsRef<[u8]>) -> Result<(), AccessError> {
        let path = self.filling.path().join(name);
        let write = || -> io::Result<()> {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            // Created with the mode, so that nobody can read a secret in between; set again, so that no umask counts.
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode.bits())
                .open(&path)?;
            file.set_permissions(Permissions::from_mode(mode.bits()))?;
            file.write_all(content.as_ref())
        };
        write().map_err(|source| AccessError::Write {
            path: path.clone(),
            source,
        })
    }

    /// Moves everything into `dir`. The file that says that a directory is whole goes first and comes last.
    pub fn replace(self, dir: &Path) -> Result<(), AccessError> {
        let mut moved = Vec::new();
        let result = self.move_all(dir, &mut moved);
        if result.is_err() {
            for path in moved {
                let _ = remove(&path);
            }
        }
        result
    }

    fn move_all(&self, dir: &Path, moved: &mut Vec<PathBuf>) -> Result<(), AccessError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| AccessError::Write { path, source }
        };
        let whole = dir.join(NODES_JSON);
        remove(&whole).map_err(at(&whole))?;
        for name in OPTIONAL {
            let old = dir.join(name);
            remove(&old).map_err(at(&old))?;
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(self.filling.path()).map_err(at(self.filling.path()))? {
            names.push(entry.map_err(at(self.filling.path()))?.file_name());
        }
        names.sort_by_key(|name| name == NODES_JSON);
        for name in names {
            let to = dir.join(&name);
            fs::rename(self.filling.path().join(&name), &to).map_err(at(&to))?;
            moved.push(to);
        }
        Ok(())
    }
}

/// Removes a file or a folder with all it holds; none is as good.
fn remove(path: &Path) -> io::Result<()> {
    let result = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Reads a file of a directory that was written.
pub fn read(dir: &Path, name: &'static str) -> Result<String, AccessError> {
    let path = dir.join(name);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Err(AccessError::NotOurs {
                dir: dir.to_owned(),
                missing: name,
            })
        }
        Err(source) => Err(AccessError::Read { path, source }),
    }
}
