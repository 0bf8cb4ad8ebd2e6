//! The folder in which a run leaves what it found, however it ended.

use std::fs;
use std::path::{Path, PathBuf};

use crate::agent::state::Run;
use crate::buildlog::BuildLog;
use crate::fault::{Fault, tell};
use crate::report;

/// A folder that is there.
#[derive(Debug)]
pub struct Output(PathBuf);

/// The folder cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("--output {}: cannot be made", folder.display())]
pub struct NoFolder {
    folder: PathBuf,
    source: std::io::Error,
}

impl Fault for NoFolder {
    fn help(&self) -> Option<String> {
        Some("name a folder that can be written".to_owned())
    }
}

impl Output {
    /// Makes it where it is not there. To be done before anything is booted: a folder that cannot be written would be found out too
    /// late.
    pub fn in_folder(folder: &Path) -> Result<Self, NoFolder> {
        let failed = |source| NoFolder {
            folder: folder.to_owned(),
            source,
        };
        fs::create_dir_all(folder).map_err(failed)?;
        tempfile::tempfile_in(folder).map_err(failed)?;
        // Absolute, for a command that goes elsewhere.
        std::path::absolute(folder).map(Self).map_err(failed)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Leaves the consoles and the report of nodes that did not get ready; `directory` is the cluster's own.
    pub fn of_failure(&self, directory: &Path, log: &BuildLog) {
        let into = self.0.join("consoles");
        let consoles = fs::read_dir(directory.join("consoles"));
        let consoles = consoles.into_iter().flatten().flatten();
        let copied = fs::create_dir_all(&into).and_then(|()| {
            for console in consoles {
                fs::copy(console.path(), into.join(console.file_name()))?;
            }
            Ok(())
        });
        if let Err(error) = copied {
            log.error(&format!("{}: cannot be written: {error}", into.display()));
        }
        // It wrote one where it came so far that there is anything to tell.
        if let Ok(told) = report::read(Run::default().directory()) {
            if let Err(error) = report::write(&self.0, &told) {
                log.error(&tell(&error));
            }
        }
    }
}
