//! What a file is, and whether it can be a node's disk.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::codec::Codec;
use super::error::{ImageError, Nearby};
use super::sniff::{self, Kind};
use super::{Format, qcow2, raw};
use crate::units::ByteSize;

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The size of the file in bytes.
    pub size: u64,
    /// What is in it.
    pub contents: Contents,
    /// What is odd about it, though it is taken: each a phrase such as "it has no boot sector …".
    pub warnings: Vec<String>,
}

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// A disk that can be used as it is.
    Disk {
        /// Its format.
        format: Format,
        /// The size of the disk that a guest sees: whole sectors of 512 bytes.
        virtual_size: ByteSize,
    },
    /// Something compressed; what, shows when it is unpacked.
    Packed(Codec),
    /// A tar archive; whether it is a Vagrant box, shows when it is read.
    Archive,
}

/// Tells from its bytes what a file is. Reads headers and tables, not the whole file.
///
/// # Errors
///
/// Why it can be no disk, box or compressed disk.
pub fn inspect(path: &Path) -> Result<Inspection, ImageError> {
    inspect_as(path, &path.display().to_string())
}

/// The same, for a file that the user knows by another name.
pub fn inspect_as(path: &Path, place: &str) -> Result<Inspection, ImageError> {
    let failed = |doing| {
        move |source| ImageError::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let nearby = path
                .ancestors()
                .skip(1)
                .find(|dir| dir.is_dir())
                .map(nearby)
                .unwrap_or_default();
            return Err(ImageError::Missing {
                path: path.to_owned(),
                nearby,
            });
        }
        Err(error) => return Err(failed("look at")(error)),
    };
    if !metadata.is_file() {
        let (what, nearby) = if metadata.is_dir() {
            ("directory", nearby(path))
        } else {
            ("device", Nearby::default())
        };
        return Err(ImageError::NoFile {
            path: path.to_owned(),
            what,
            nearby,
        });
    }
    let mut file = File::open(path).map_err(failed("open"))?;
    let mut head = Vec::new();
    file.by_ref()
        .take(sniff::HEAD as u64)
        .read_to_end(&mut head)
        .map_err(failed("read"))?;
    let size = metadata.len();
    let (contents, warnings) = match sniff::sniff(&head) {
        Kind::Alien(alien) => {
            return Err(ImageError::NoDisk {
                place: place.to_owned(),
                alien,
            });
        }
        Kind::Packed(codec) => (Contents::Packed(codec), Vec::new()),
        Kind::Tar => (Contents::Archive, Vec::new()),
        Kind::Qcow2 => {
            let header = qcow2::check_tables(&mut file)
                .map_err(failed("read"))?
                .map_err(|refusal| ImageError::Qcow2 {
                    place: place.to_owned(),
                    refusal,
                })?;
            (disk(Format::Qcow2, header.virtual_size.bytes()), Vec::new())
        }
        Kind::Raw => {
            if size > qcow2::LARGEST.bytes() {
                return Err(ImageError::Large {
                    place: place.to_owned(),
                    size: ByteSize(size),
                    limit: qcow2::LARGEST,
                });
            }
            (disk(Format::Raw, size), raw_warnings(&head, size, place)?)
        }
    };
    Ok(Inspection {
        size,
        contents,
        warnings,
    })
}

/// QEMU rounds up to whole sectors, and the guest reads zeros there.
fn disk(format: Format, size: u64) -> Contents {
    Contents::Disk {
        format,
        virtual_size: ByteSize(size.next_multiple_of(512)),
    }
}

fn raw_warnings(head: &[u8], size: u64, place: &str) -> Result<Vec<String>, ImageError> {
    let notices = raw::look(head, size);
    for notice in &notices {
        if let raw::Notice::Truncated { whole } = notice {
            return Err(ImageError::Short {
                place: place.to_owned(),
                size,
                whole: *whole,
            });
        }
    }
    Ok(notices.iter().map(ToString::to_string).collect())
}

fn nearby(dir: &Path) -> Nearby {
    let mut names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| sniff::clean(&entry.file_name().to_string_lossy()))
        .collect();
    names.sort();
    names.truncate(8);
    Nearby {
        dir: dir.to_owned(),
        names,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Fault, tell};

    fn of(bytes: &[u8]) -> Result<Inspection, ImageError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.img");
        fs::write(&path, bytes).unwrap();
        inspect(&path)
    }

    #[test]
    fn a_qcow2_and_a_raw_disk_are_known() {
        let contents = of(&qcow2::tests::empty(5 << 30)).unwrap().contents;
        assert_eq!(
            contents,
            Contents::Disk {
                format: Format::Qcow2,
                virtual_size: ByteSize::gib(5)
            }
        );
        let inspection = of(&raw::tests::gpt_disk(4096)).unwrap();
        assert_eq!(
            inspection.contents,
            Contents::Disk {
                format: Format::Raw,
                virtual_size: ByteSize(4096)
            }
        );
        assert_eq!(inspection.warnings, Vec::<String>::new());
    }

    #[test]
    fn a_truncated_gpt_disk_is_refused_with_both_numbers() {
        let error = of(&raw::tests::gpt_disk(1 << 30)).unwrap_err().to_string();
        assert!(
            error.contains("4096 bytes") && error.contains("1073741824"),
            "{error}"
        );
    }

    #[test]
    fn a_ragged_disk_is_taken_with_a_warning_and_rounded_up() {
        let inspection = of(&[0; 1000]).unwrap();
        assert_eq!(
            inspection.contents,
            Contents::Disk {
                format: Format::Raw,
                virtual_size: ByteSize(1024)
            }
        );
        assert_eq!(inspection.warnings.len(), 2);
    }

    #[test]
    fn what_is_missing_or_a_directory_is_told_with_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("real.qcow2"), "").unwrap();
        let text = tell(&inspect(&dir.path().join("wrong.qcow2")).unwrap_err());
        assert!(
            text.contains("there is no image") && text.contains("holds: real.qcow2."),
            "{text}"
        );
        let text = tell(&inspect(dir.path()).unwrap_err());
        assert!(
            text.contains("no file but a directory") && text.contains("real.qcow2"),
            "{text}"
        );
    }

    #[test]
    fn an_alien_comes_with_its_cure() {
        let error = of(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n").unwrap_err();
        assert!(error.to_string().contains("Git LFS pointer"));
        assert!(error.help().unwrap().contains("git lfs pull"));
    }
}
