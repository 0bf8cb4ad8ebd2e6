//! Disks of nodes: overlays over a shared image, and blank ones.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::error::ImageError;
use super::{Format, Prepared, qcow2};
use crate::units::ByteSize;

/// Makes an empty qcow2 disk over an image: about 200 KiB, whatever its size. Sizes are rounded up to whole sectors.
///
/// # Errors
///
/// A size below the image's own or above the largest; a file that is there already; what qemu-img says.
pub async fn overlay(base: &Prepared, at: &Path, size: Option<ByteSize>) -> Result<(), ImageError> {
    let size = size.unwrap_or(base.virtual_size);
    if size < base.virtual_size {
        return Err(ImageError::Shrinks {
            wanted: size,
            image: base.virtual_size,
            path: base.path.clone(),
        });
    }
    let size = sectors(size, at)?;
    let at = absolute(at)?;
    refuse_to_overwrite(&at)?;
    // -u: the image is not opened once more. Its format and size are known, and were found out without QEMU.
    let made = Command::new("qemu-img")
        .args([
            "create",
            "-q",
            "-u",
            "-f",
            "qcow2",
            "-F",
            &base.format.to_string(),
            "-b",
        ])
        .arg(&base.path)
        .arg(&at)
        .arg(size.to_string())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(ImageError::NoTool)?;
    if made.status.success() {
        return Ok(());
    }
    let _ = fs::remove_file(&at);
    let said = String::from_utf8_lossy(&made.stderr).trim().to_owned();
    let said = if said.is_empty() {
        made.status.to_string()
    } else {
        said
    };
    Err(ImageError::Tool { path: at, said })
}

/// Makes a blank raw disk, which occupies no space until it is written to. Its size is rounded up to whole sectors.
///
/// # Errors
///
/// A size above the largest; a file that is there already; those of the file system.
pub async fn blank(at: &Path, size: ByteSize) -> Result<Prepared, ImageError> {
    let size = sectors(size, at)?;
    let path = absolute(at)?;
    refuse_to_overwrite(&path)?;
    let made = fs::File::create_new(&path).and_then(|file| file.set_len(size));
    made.map_err(|source| ImageError::Io {
        doing: "create the disk",
        path: path.clone(),
        source,
    })?;
    Ok(Prepared {
        path,
        format: Format::Raw,
        virtual_size: ByteSize(size),
    })
}

fn sectors(size: ByteSize, at: &Path) -> Result<u64, ImageError> {
    if size > qcow2::LARGEST {
        return Err(ImageError::Large {
            place: at.display().to_string(),
            size,
            limit: qcow2::LARGEST,
        });
    }
    Ok(size.bytes().next_multiple_of(512))
}

/// A path that QEMU cannot take for a protocol (`nbd:…`) nor qemu-img for an option.
fn absolute(path: &Path) -> Result<PathBuf, ImageError> {
    std::path::absolute(path).map_err(|source| ImageError::Io {
        doing: "find",
        path: path.to_owned(),
        source,
    })
}

/// A disk that is there may be in use by a node.
fn refuse_to_overwrite(path: &Path) -> Result<(), ImageError> {
    match fs::symlink_metadata(path) {
        Ok(_) => {
            let source = ErrorKind::AlreadyExists.into();
            Err(ImageError::Io {
                doing: "create the disk",
                path: path.to_owned(),
                source,
            })
        }
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn has_qemu_img() -> bool {
        let there = std::process::Command::new("qemu-img")
            .arg("--version")
            .output()
            .is_ok();
        if !there {
            eprintln!("skipped: qemu-img is not installed");
        }
        there
    }

    async fn base(dir: &Path) -> Prepared {
        blank(&dir.join("base, with: odd=name.img"), ByteSize::mib(5))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn an_overlay_is_small_and_knows_its_base() {
        if !has_qemu_img() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let base = base(dir.path()).await;
        let at = dir.path().join("node.qcow2");
        overlay(&base, &at, Some(ByteSize::gib(100))).await.unwrap();
        let metadata = fs::metadata(&at).unwrap();
        assert!(
            metadata.len() <= 256 << 10 && metadata.blocks() * 512 <= 256 << 10,
            "{}",
            metadata.len()
        );
        let info = std::process::Command::new("qemu-img")
            .args(["info", "--output=json"])
            .arg(&at)
            .output()
            .unwrap();
        let info: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
        assert_eq!(info["virtual-size"], 100u64 << 30);
        assert_eq!(info["backing-filename"], base.path.to_str().unwrap());
        assert_eq!(info["backing-filename-format"], "raw");
        assert!(
            overlay(&base, &at, None)
                .await
                .unwrap_err()
                .to_string()
                .contains("cannot create the disk")
        );
    }

    #[tokio::test]
    async fn an_overlay_never_shrinks_its_base() {
        let dir = tempfile::tempdir().unwrap();
        let base = base(dir.path()).await;
        let error = overlay(&base, &dir.path().join("node.qcow2"), Some(ByteSize::mib(4)))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("4MiB") && error.contains("5MiB"), "{error}");
    }

    #[tokio::test]
    async fn what_qemu_img_says_is_told() {
        if !has_qemu_img() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let base = base(dir.path()).await;
        let error = overlay(&base, &dir.path().join("no/such/node.qcow2"), None)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("No such file"), "{error}");
    }

    #[tokio::test]
    async fn a_blank_disk_takes_no_space() {
        let dir = tempfile::tempdir().unwrap();
        let disk = blank(&dir.path().join("data.img"), ByteSize((10 << 30) + 1))
            .await
            .unwrap();
        let metadata = fs::metadata(&disk.path).unwrap();
        assert_eq!(
            (metadata.len(), disk.virtual_size.bytes()),
            ((10 << 30) + 512, (10 << 30) + 512)
        );
        assert!(metadata.blocks() < 16);
        assert!(blank(&disk.path, ByteSize::mib(1)).await.is_err());
    }
}
