//! What the partition tables of a raw disk say about its size.

use crate::units::ByteSize;

/// What was noticed about a raw disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Something that lies beyond the end of the file according to the partition table: certain for GPT, which keeps
    /// its second header in the disk's last sector (UEFI specification, 5.3).
    Truncated {
        /// How large the disk must have been, in bytes.
        whole: u64,
    },
    /// Not a whole number of sectors.
    Ragged,
    /// No boot sector, with what is there instead.
    NoBootSector(&'static str),
    /// A partition of an MBR reaches so far beyond the end.
    PartitionBeyond(u64),
}

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Truncated { whole } => {
                write!(
                    f,
                    "its GPT was made for a disk of {whole} bytes ({})",
                    ByteSize(*whole)
                )
            }
            Self::Ragged => f.write_str("its size is no multiple of 512 bytes: it may be truncated"),
            Self::NoBootSector(what) => {
                write!(f, "it has no boot sector ({what}): firmware will not boot it")
            }
            Self::PartitionBeyond(whole) => {
                write!(
                    f,
                    "its partition table needs {}, more than it has: it may be truncated",
                    ByteSize(*whole)
                )
            }
        }
    }
}

/// What is odd about a raw disk of `size` bytes that begins with `head`. Never reads further than the head: the second GPT header
/// is only asked for its place.
pub fn look(head: &[u8], size: u64) -> Vec<Notice> {
    let mut notices = Vec::new();
    if size % 512 != 0 {
        notices.push(Notice::Ragged);
    }
    let signature = head.get(510..512) == Some(b"\x55\xaa");
    if let Some(whole) = gpt(head) {
        if whole > size {
            notices.push(Notice::Truncated { whole });
        }
    } else if signature && !is_filesystem_sector(head) {
        let whole = (0..4)
            .filter_map(|index| mbr_partition_end(head, index))
            .max()
            .unwrap_or(0);
        if whole > size {
            notices.push(Notice::PartitionBeyond(whole));
        }
    }
    if !signature {
        notices.push(Notice::NoBootSector(contents(head)));
    }
    notices
}

/// How large the disk was that a GPT was made for. Sectors have 512 bytes, or 4096 on disks that say so.
fn gpt(head: &[u8]) -> Option<u64> {
    [512usize, 4096].into_iter().find_map(|sector| {
        let header = head.get(sector..sector + 92)?;
        if !header.starts_with(b"EFI PART") {
            return None;
        }
        let last = u64::from_le_bytes(header[32..40].try_into().ok()?);
        last.checked_add(1)?.checked_mul(sector as u64)
    })
}

/// A boot sector of FAT or NTFS: its bytes at the place of a partition table are code.
fn is_filesystem_sector(head: &[u8]) -> bool {
    [(3, &b"NTFS"[..]), (54, b"FAT"), (82, b"FAT32"), (3, b"EXFAT")]
        .iter()
        .any(|(at, mark)| head.get(*at..).is_some_and(|there| there.starts_with(mark)))
}

fn mbr_partition_end(head: &[u8], index: usize) -> Option<u64> {
    let entry = head.get(446 + index * 16..446 + (index + 1) * 16)?;
    // The first byte is 0x80 or 0; anything else is boot code and no table. 0xEE protects a GPT.
    if entry[0] & 0x7f != 0 || matches!(entry[4], 0 | 0xee) {
        return None;
    }
    let start = u32::from_le_bytes(entry[8..12].try_into().ok()?);
    let length = u32::from_le_bytes(entry[12..16].try_into().ok()?);
    Some((u64::from(start) + u64::from(length)) * 512)
}

/// What stands where a boot sector should be.
fn contents(head: &[u8]) -> &'static str {
    let marks: [(usize, &[u8], &str); 5] = [
        (
            1080,
            b"\x53\xef",
            "an ext2, ext3 or ext4 file system without partitions",
        ),
        (0, b"XFSB", "an XFS file system without partitions"),
        (0x10040, b"_BHRfS_M", "a btrfs file system without partitions"),
        (512, b"LABELONE", "an LVM volume without partitions"),
        (0, b"LUKS\xba\xbe", "a LUKS volume without partitions"),
    ];
    let known = marks
        .iter()
        .find(|(at, mark, _)| head.get(*at..).is_some_and(|there| there.starts_with(mark)));
    match known {
        Some((_, _, name)) => name,
        None if head.iter().all(|byte| *byte == 0) => "it starts with zeros",
        None => "unknown contents",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The start of a disk with a GPT made for `size` bytes.
    pub(crate) fn gpt_disk(size: u64) -> Vec<u8> {
        let mut head = vec![0; 4096];
        head[510..512].copy_from_slice(b"\x55\xaa");
        head[450] = 0xee;
        head[512..520].copy_from_slice(b"EFI PART");
        head[544..552].copy_from_slice(&(size / 512 - 1).to_le_bytes());
        head
    }

    #[test]
    fn a_gpt_knows_whether_its_disk_is_whole() {
        let disk = gpt_disk(1 << 20);
        assert_eq!(look(&disk, 1 << 20), []);
        assert_eq!(look(&disk, 2 << 20), []);
        assert_eq!(
            look(&disk, (1 << 20) - 512),
            [Notice::Truncated { whole: 1 << 20 }]
        );
    }

    #[test]
    fn an_mbr_partition_beyond_the_end_is_noticed() {
        let mut disk = vec![0; 512];
        disk[510..].copy_from_slice(b"\x55\xaa");
        disk[450] = 0x83;
        disk[454..458].copy_from_slice(&2048u32.to_le_bytes());
        disk[458..462].copy_from_slice(&2048u32.to_le_bytes());
        assert_eq!(look(&disk, 4096 * 512), []);
        assert_eq!(look(&disk, 4000 * 512), [Notice::PartitionBeyond(4096 * 512)]);
    }

    #[test]
    fn a_bare_file_system_is_noticed() {
        let mut disk = vec![0; 2048];
        disk[1080..1082].copy_from_slice(b"\x53\xef");
        let notices = look(&disk, 2048 + 1);
        assert_eq!(notices[0], Notice::Ragged);
        assert!(notices[1].to_string().contains("ext4"));
    }

    proptest! {
        #[test]
        fn no_bytes_upset_it(bytes in proptest::collection::vec(any::<u8>(), 0..1200), size: u64, gpt: bool) {
            let mut bytes = bytes;
            if gpt && bytes.len() > 520 {
                bytes[512..520].copy_from_slice(b"EFI PART");
            }
            for notice in look(&bytes, size) {
                let _ = notice.to_string();
            }
        }
    }
}
