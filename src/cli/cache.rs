//! A folder in which images are kept between runs: a task's cache.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::fault::Fault;
use crate::image;

/// What nobody has used for so long goes: a nightly build finds its images again, the disk of a worker does not fill for ever.
const KEPT: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The folder, which need not be there yet.
#[derive(Clone, Debug)]
pub struct Cache(PathBuf);

impl FromStr for Cache {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.into()))
    }
}

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("--cache {}: cannot be used", folder.display())]
pub struct NoCache {
    folder: PathBuf,
    source: std::io::Error,
}

impl Fault for NoCache {
    fn help(&self) -> Option<String> {
        Some("name a folder that can be made and written, such as a path of the task's `caches`".to_owned())
    }
}

impl Cache {
    /// The folder for the images, made and rid of what nobody uses any more. Absolute.
    pub fn ready(&self) -> Result<PathBuf, NoCache> {
        let failed = |source| NoCache {
            folder: self.0.clone(),
            source,
        };
        let images = std::path::absolute(&self.0).map_err(failed)?.join("images");
        image::make_lasting(&images).map_err(failed)?;
        // A file made and removed tells early what an hour's download would tell late.
        tempfile::tempfile_in(&images).map_err(failed)?;
        prune(&images);
        Ok(images)
    }
}

fn prune(images: &Path) {
    for name in image::prune(images, KEPT) {
        eprintln!(
            "cache: {name} was removed, unused for {} days",
            KEPT.as_secs() / 86_400
        );
    }
}
