//! A FAT image in memory.

use std::io::{self, Cursor, Write as _};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};

/// The volume label, padded to FAT's 11 bytes. cloud-init takes it in upper and lower case; FAT has it in upper case.
const LABEL: [u8; 11] = *b"CIDATA     ";

/// Room for boot sector, FATs, root directory and the clusters' unused ends.
const OVERHEAD: usize = 256 << 10;

/// The smallest image: every tool that mounts FAT takes one of 1 MiB.
const SMALLEST: usize = 1 << 20;

/// An image that holds these files in its root directory. The same files give the same bytes: no time and no random
/// number goes in.
pub fn image(files: &[(&str, &[u8])]) -> io::Result<Vec<u8>> {
    let content: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    // FATs and clusters' ends grow with the content.
    let size = (content + content / 32 + OVERHEAD)
        .max(SMALLEST)
        .next_multiple_of(1 << 20);
    let mut disk = Cursor::new(vec![0; size]);
    fatfs::format_volume(&mut disk, FormatVolumeOptions::new().volume_label(LABEL))?;
    {
        let fs = FileSystem::new(&mut disk, FsOptions::new().update_accessed_date(false))?;
        let root = fs.root_dir();
        for (name, bytes) in files {
            root.create_file(name)?.write_all(bytes)?;
        }
    }
    Ok(disk.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn read(image: Vec<u8>, name: &str) -> Vec<u8> {
        let fs = FileSystem::new(Cursor::new(image), FsOptions::new()).unwrap();
        assert_eq!(fs.volume_label(), "CIDATA");
        let mut bytes = Vec::new();
        fs.root_dir()
            .open_file(name)
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        bytes
    }

    #[test]
    fn files_come_back_whole_and_the_image_is_small() {
        let image = image(&[
            ("meta-data", b"instance-id: a\n"),
            ("user-data", b"#cloud-config\n"),
        ])
        .unwrap();
        assert_eq!(image.len(), 1 << 20);
        assert_eq!(read(image.clone(), "meta-data"), b"instance-id: a\n");
        assert_eq!(read(image, "user-data"), b"#cloud-config\n");
    }

    #[test]
    fn it_grows_with_what_it_holds() {
        for size in [700 << 10, 1 << 20, 5 << 20, 12 << 20] {
            let content: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            assert_eq!(
                read(image(&[("user-data", &content)]).unwrap(), "user-data"),
                content
            );
        }
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let files: [(&str, &[u8]); 1] = [("user-data", b"#!/bin/sh\n")];
        assert_eq!(image(&files).unwrap(), image(&files).unwrap());
    }
}
