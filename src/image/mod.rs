//! A disk image is found or fetched, verified, unpacked and laid under overlays.
//!
//! [`prepare`] makes of an [`ImageSource`] a [`Prepared`] disk: in place where it can be used as it is, else in a store that may outlive
//! the run. [`overlay`] lays a node's own disk over it, [`blank`] makes an empty one, [`inspect()`] tells what a file is.
//!
//! No byte of an image is believed: what a file is, is told by what is in it (`sniff`), a qcow2 is read here and not by
//! QEMU (`qcow2`) until it is known to name no other file, archives are read without writing by their names (`tar`, `vagrant`).

mod codec;
mod error;
mod fetch;
mod inspect;
mod job;
mod overlay;
pub mod qcow2;
mod raw;
mod sniff;
mod store;
mod tar;
mod unpack;
pub mod vagrant;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use codec::Codec;
pub use error::{Broken, ImageError, Nearby};
pub use inspect::{Contents, Inspection, inspect};
pub use overlay::{blank, overlay};
pub use sniff::Alien;

use crate::progress::Progress;
use crate::topology::model::{ImageSource, Sha256};
use crate::units::ByteSize;
use fetch::{Fetching, Patience, shown};
use job::{Limits, blocking};
use sha2::{Digest as _, Sha256 as Hasher};
use store::{Lock, Scratch, Shelf, is_lasting, keep};
pub use store::{make_lasting, prune};
use unpack::Unpacking;
use url::Url;

/// The format of a disk, as QEMU names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The bytes of the disk themselves.
    Raw,
    /// QEMU's own.
    Qcow2,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        })
    }
}

/// A disk image that can be laid under overlays. It must not be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Where it is: absolute, no symbolic link in it.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// The size of the disk that a guest sees: whole sectors of 512 bytes.
    pub virtual_size: ByteSize,
}

/// Makes a disk of an image source. `store` is a directory for what must be fetched or unpacked; it is made if it is not there, several
/// processes may use it at once, and what is in it is used again. If the future is dropped, at most a `.part` file stays.
///
/// # Errors
///
/// Why the image cannot be had or used.
pub async fn prepare(
    source: &ImageSource,
    store: &Path,
    progress: &Progress,
) -> Result<Prepared, ImageError> {
    let preparer = Preparer {
        store,
        progress,
        limits: Limits::default(),
        patience: Patience::default(),
    };
    preparer.prepare(source).await
}

struct Preparer<'a> {
    store: &'a Path,
    progress: &'a Progress,
    limits: Limits,
    patience: Patience,
}

impl Preparer<'_> {
    async fn prepare(&self, source: &ImageSource) -> Result<Prepared, ImageError> {
        match source {
            ImageSource::File(path) => self.file(path, false).await,
            ImageSource::Box(path) => self.file(path, true).await,
            ImageSource::Url { url, sha256 } => self.url(url, sha256).await,
        }
    }

    async fn file(&self, path: &Path, must_be_box: bool) -> Result<Prepared, ImageError> {
        let place = path.display().to_string();
        let inspection = self.inspect(path, &place).await?;
        if let Contents::Disk { format, virtual_size } = inspection.contents {
            if must_be_box {
                let found = match format {
                    Format::Raw => "a raw disk, or damaged",
                    Format::Qcow2 => "a qcow2 disk",
                };
                return Err(ImageError::NoBox { place, found });
            }
            self.progress
                .info(format!("image {place}: {format}, {virtual_size}, used in place"));
            self.warn(&place, &inspection);
            return prepared(path, format, virtual_size);
        }
        let failed = |source| ImageError::Io {
            doing: "look at",
            path: path.to_owned(),
            source,
        };
        let path = path.canonicalize().map_err(failed)?;
        let shelf = if is_lasting(self.store) {
            Shelf::of_digest(self.store, &digest(&path, &place).await?)
        } else {
            Shelf::of_file(self.store, &path, &path.metadata().map_err(failed)?)
        };
        if let Some(disk) = self.cached(&shelf, &place).await {
            return Ok(disk);
        }
        let lock = Arc::new(shelf.lock(&place, self.progress).await?);
        // Another process may have made it while this one waited.
        if let Some(disk) = self.cached(&shelf, &place).await {
            return Ok(disk);
        }
        self.unpack(&path, &shelf, &place, inspection.contents, lock)
            .await
    }

    async fn url(&self, url: &Url, sha256: &Sha256) -> Result<Prepared, ImageError> {
        let place = shown(url);
        let shelf = Shelf::of_digest(self.store, sha256);
        if let Some(disk) = self.cached(&shelf, &place).await {
            return Ok(disk);
        }
        let lock = Arc::new(shelf.lock(&place, self.progress).await?);
        if let Some(disk) = self.cached(&shelf, &place).await {
            return Ok(disk);
        }
        let fetched = shelf.fetched();
        if fetched.exists() {
            self.progress
                .info(format!("image {place}: fetched earlier, not fetched again"));
        } else {
            let part = shelf.part();
            let (patience, limits, progress) = (&self.patience, self.limits, self.progress);
            Fetching {
                url,
                sha256,
                part: &part,
                patience,
                limits,
                progress,
            }
            .run()
            .await?;
            self.progress
                .info(format!("image {place}: fetched, its SHA-256 digest is right"));
            self.keep(&part, &fetched, &place).await?;
        }
        let result = self.open_fetched(&fetched, &shelf, &place, lock).await;
        // Unpacked it is not needed any more; and what is no disk would be none the next time either.
        if !matches!(
            result,
            Err(ImageError::NoRoom { .. } | ImageError::Stopped { .. } | ImageError::Io { .. })
        ) {
            let _ = std::fs::remove_file(&fetched);
        }
        result
    }

    async fn open_fetched(
        &self,
        fetched: &Path,
        shelf: &Shelf,
        place: &str,
        lock: Arc<Lock>,
    ) -> Result<Prepared, ImageError> {
        let inspection = self.inspect(fetched, place).await?;
        if let Contents::Disk { format, virtual_size } = inspection.contents {
            self.warn(place, &inspection);
            self.keep(fetched, &shelf.disk(), place).await?;
            return prepared(&shelf.disk(), format, virtual_size);
        }
        self.unpack(fetched, shelf, place, inspection.contents, lock)
            .await
    }

    async fn unpack(
        &self,
        from: &Path,
        shelf: &Shelf,
        place: &str,
        contents: Contents,
        lock: Arc<Lock>,
    ) -> Result<Prepared, ImageError> {
        let codec = match contents {
            Contents::Packed(codec) => Some(codec),
            _ => None,
        };
        match codec {
            Some(codec) => self.progress.info(format!("image {place}: unpacking ({codec})")),
            None => self
                .progress
                .info(format!("image {place}: unpacking a Vagrant box")),
        }
        let to = Scratch::new(shelf.unpacking());
        let (place, disk) = (place.to_owned(), shelf.disk());
        let work = Unpacking {
            from: from.to_owned(),
            place: place.clone(),
            codec,
            to,
            limits: self.limits,
            progress: self.progress.clone(),
        };
        let inspection = blocking(&place, {
            let (place, disk) = (place.clone(), disk.clone());
            move |stop| {
                // Held until the work has noticed that nobody waits for it, should that happen.
                let _lock = lock;
                let work = work;
                work.run(stop)?;
                let inspection = inspect::inspect_as(work.to.path(), &place)?;
                keep(work.to.path(), &disk)?;
                Ok(inspection)
            }
        })
        .await?;
        self.warn(&place, &inspection);
        match inspection.contents {
            Contents::Disk { format, virtual_size } => prepared(&disk, format, virtual_size),
            // Refused by its first bytes already.
            Contents::Packed(_) | Contents::Archive => Err(ImageError::NoBox {
                place,
                found: "an archive in an archive",
            }),
        }
    }

    /// What the store has already. A file that is damaged is made anew.
    async fn cached(&self, shelf: &Shelf, place: &str) -> Option<Prepared> {
        let path = shelf.disk();
        if !path.exists() {
            return None;
        }
        match self.inspect(&path, place).await {
            Ok(Inspection {
                contents: Contents::Disk { format, virtual_size },
                ..
            }) => {
                self.progress.info(format!(
                    "image {place}: {format}, {virtual_size}, cached in {}",
                    self.store.display()
                ));
                store::used(&path);
                prepared(&path, format, virtual_size).ok()
            }
            _ => {
                self.progress.warn(format!(
                    "image {place}: what is cached of it is damaged, preparing it anew"
                ));
                None
            }
        }
    }

    async fn inspect(&self, path: &Path, place: &str) -> Result<Inspection, ImageError> {
        let (path, name) = (path.to_owned(), place.to_owned());
        blocking(place, move |_| inspect::inspect_as(&path, &name)).await
    }

    async fn keep(&self, from: &Path, to: &Path, place: &str) -> Result<(), ImageError> {
        let (from, to) = (from.to_owned(), to.to_owned());
        blocking(place, move |_| keep(&from, &to)).await
    }

    fn warn(&self, place: &str, inspection: &Inspection) {
        for warning in &inspection.warnings {
            self.progress.warn(format!("image {place}: {warning}"));
        }
    }
}

/// The digest of a file's content.
async fn digest(path: &Path, place: &str) -> Result<Sha256, ImageError> {
    let (path, name) = (path.to_owned(), place.to_owned());
    blocking(place, move |stop| {
        let failed = |source| ImageError::Io {
            doing: "read",
            path: path.clone(),
            source,
        };
        let mut file = std::fs::File::open(&path).map_err(failed)?;
        let (mut hasher, mut chunk) = (Hasher::new(), vec![0; 1 << 20]);
        loop {
            if stop.asked() {
                return Err(ImageError::Stopped { place: name });
            }
            match std::io::Read::read(&mut file, &mut chunk) {
                Ok(0) => return Ok(Sha256(hasher.finalize().into())),
                Ok(count) => hasher.update(&chunk[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
    })
    .await
}

fn prepared(path: &Path, format: Format, virtual_size: ByteSize) -> Result<Prepared, ImageError> {
    let failed = |source| ImageError::Io {
        doing: "find",
        path: path.to_owned(),
        source,
    };
    Ok(Prepared {
        path: path.canonicalize().map_err(failed)?,
        format,
        virtual_size,
    })
}

#[cfg(test)]
mod tests;
