//! The qcow2 header, read without QEMU: what an image says of itself, and why some are refused.
//!
//! The format: QEMU's `docs/interop/qcow2.rst`. An image may name other files of the host (a backing file, an external
//! data file), which QEMU would open on its behalf; so an image that names any is refused before QEMU ever sees it.

mod tables;

use crate::units::ByteSize;

pub use tables::check_tables;

/// The first four bytes of every version.
pub const MAGIC: [u8; 4] = *b"QFI\xfb";

/// How many bytes of an image's start hold everything that [`Header::parse`] reads: the largest first cluster.
pub const HEAD: usize = 2 << 20;

/// The largest disk taken. QEMU's own limit is higher; nothing that a test boots comes near.
pub const LARGEST: ByteSize = ByteSize(64 << 40);

/// The largest L1 table that QEMU opens (`QCOW_MAX_L1_SIZE`), in bytes.
const LARGEST_L1: u64 = 32 << 20;

/// The largest refcount table that QEMU opens (`QCOW_MAX_REFTABLE_SIZE`), in bytes.
const LARGEST_REFCOUNT_TABLE: u64 = 8 << 20;

/// Why a qcow2 image was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// The file ends inside its own header.
    #[error("ends within its own header")]
    Short,
    /// Not the magic number of a qcow2.
    #[error("does not start as a qcow2 does")]
    Magic,
    /// Neither version 2 nor 3.
    #[error("is of qcow version {0}; versions 2 and 3 are read")]
    Version(u32),
    /// It is laid over another file.
    #[error("is laid over a backing file, {0:?}")]
    BackingFile(String),
    /// Its data are in another file.
    #[error("keeps its data in an external file{}", .0.as_ref().map(|name| format!(", {name:?}")).unwrap_or_default())]
    ExternalData(Option<String>),
    /// Encrypted, with AES or LUKS.
    #[error("is encrypted (method {0})")]
    Encrypted(u32),
    /// A feature that this program does not know and may therefore not ignore.
    #[error("needs features that are not known here (incompatible feature bits {0:#x})")]
    Features(u64),
    /// QEMU itself has marked it as damaged.
    #[error("is marked as corrupt by the QEMU that last wrote it")]
    MarkedCorrupt,
    /// Compressed by something other than zlib and zstd.
    #[error("is compressed by method {0}; 0 (zlib) and 1 (zstd) are read")]
    Compression(u8),
    /// More than [`LARGEST`].
    #[error("says that its disk has {}; {LARGEST} is the most that is taken", ByteSize(*.0))]
    Large(u64),
    /// A disk without a single sector.
    #[error("says that its disk has {0} bytes, not even a sector")]
    Small(u64),
    /// A field holds what no image can hold.
    #[error("is damaged: {0}")]
    Damaged(String),
    /// The file ends before something that it refers to.
    #[error("is truncated: its {what} lies at byte {at}, the file ends at {end}")]
    Truncated {
        /// What is not there.
        what: &'static str,
        /// Where it should be.
        at: u64,
        /// The file's size.
        end: u64,
    },
}

/// What a qcow2 image says of itself. Holds only values that were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// The size of the disk that a guest sees.
    pub virtual_size: ByteSize,
    /// The power of two that is a cluster's size: 9 to 21.
    pub cluster_bits: u32,
    /// Whether L2 entries are 16 bytes with a bitmap of subclusters.
    pub extended_l2: bool,
    /// Entries of the L1 table.
    pub l1_entries: u32,
    /// Where the L1 table lies.
    pub l1_offset: u64,
    /// Where the refcount table lies.
    pub refcount_offset: u64,
    /// How many clusters the refcount table has.
    pub refcount_clusters: u32,
}

/// The incompatible feature bits that this program knows: dirty, corrupt, external data, compression, extended L2.
const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// The header extensions that matter here.
const EXTENSION_END: u32 = 0;
const EXTENSION_DATA_FILE: u32 = 0x4441_5441;
const EXTENSION_ENCRYPTION: u32 = 0x0537_be77;

impl Header {
    /// Reads a header from an image's first bytes: the whole file, or [`HEAD`] bytes of it.
    ///
    /// # Errors
    ///
    /// What is wrong with the image, or why an image that is right is not taken all the same.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let magic = bytes.get(..4).ok_or(Refusal::Short)?;
        if magic != MAGIC {
            return Err(Refusal::Magic);
        }
        let version = word(bytes, 4)?;
        if !(2..=3).contains(&version) {
            return Err(Refusal::Version(version));
        }
        let (incompatible, header_length) = if version == 3 {
            (long(bytes, 72)?, u64::from(word(bytes, 100)?))
        } else {
            (0, 72)
        };
        if version == 3 && (header_length < 104 || header_length % 8 != 0) {
            return Err(Refusal::Damaged(format!("its header length is {header_length}")));
        }
        let cluster_bits = word(bytes, 20)?;
        if !(9..=21).contains(&cluster_bits) {
            return Err(Refusal::Damaged(format!(
                "its cluster size is 2^{cluster_bits}; 2^9 to 2^21 are possible"
            )));
        }
        if header_length > 1 << cluster_bits {
            return Err(Refusal::Damaged(format!("its header length is {header_length}")));
        }
        refuse_other_files(bytes, incompatible, header_length, cluster_bits)?;
        refuse_features(bytes, incompatible, header_length)?;
        let header = Self {
            version,
            virtual_size: ByteSize(long(bytes, 24)?),
            cluster_bits,
            extended_l2: incompatible & EXTENDED_L2 != 0,
            l1_entries: word(bytes, 36)?,
            l1_offset: long(bytes, 40)?,
            refcount_offset: long(bytes, 48)?,
            refcount_clusters: word(bytes, 56)?,
        };
        if version == 3 && word(bytes, 96)? > 6 {
            return Err(Refusal::Damaged(
                "its refcounts are wider than 64 bits".to_owned(),
            ));
        }
        header.refuse_sizes()?;
        Ok(header)
    }

    /// The size of a cluster in bytes.
    pub fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// How many entries an L2 table has; it always fills a cluster.
    pub fn l2_entries(&self) -> u64 {
        self.cluster() / if self.extended_l2 { 16 } else { 8 }
    }

    fn refuse_sizes(&self) -> Result<(), Refusal> {
        let size = self.virtual_size.bytes();
        if size > LARGEST.bytes() {
            return Err(Refusal::Large(size));
        }
        if size < 512 {
            return Err(Refusal::Small(size));
        }
        if self.extended_l2 && self.cluster_bits < 14 {
            return Err(Refusal::Damaged(
                "its clusters are too small for subclusters".to_owned(),
            ));
        }
        let l1_bytes = u64::from(self.l1_entries) * 8;
        let needed = size.div_ceil(self.cluster() * self.l2_entries());
        if u64::from(self.l1_entries) < needed || l1_bytes > LARGEST_L1 {
            let entries = self.l1_entries;
            return Err(Refusal::Damaged(format!(
                "its L1 table has {entries} entries where {needed} are needed"
            )));
        }
        if u64::from(self.refcount_clusters) << self.cluster_bits > LARGEST_REFCOUNT_TABLE {
            let clusters = self.refcount_clusters;
            return Err(Refusal::Damaged(format!(
                "its refcount table has {clusters} clusters"
            )));
        }
        for (what, offset) in [
            ("L1 table", self.l1_offset),
            ("refcount table", self.refcount_offset),
        ] {
            if offset % self.cluster() != 0 || offset == 0 || offset > i64::MAX as u64 {
                return Err(Refusal::Damaged(format!(
                    "its {what} is said to lie at byte {offset}"
                )));
            }
        }
        Ok(())
    }
}

/// Refuses whatever would have QEMU open another file.
fn refuse_other_files(
    bytes: &[u8],
    incompatible: u64,
    header_length: u64,
    cluster_bits: u32,
) -> Result<(), Refusal> {
    let backing_offset = long(bytes, 8)?;
    if backing_offset != 0 {
        let length = word(bytes, 16)? as usize;
        let name = usize::try_from(backing_offset)
            .ok()
            .and_then(|start| bytes.get(start..start.checked_add(length.min(1023))?))
            .map(printable);
        return Err(Refusal::BackingFile(name.unwrap_or_default()));
    }
    let external = incompatible & EXTERNAL_DATA != 0;
    let mut data_file = None;
    let mut at = header_length as usize;
    let end = 1usize << cluster_bits;
    // Bounded by the first cluster; every round takes at least the eight bytes of an extension's own head.
    while at + 8 <= end {
        let (kind, length) = match (word(bytes, at), word(bytes, at + 4)) {
            (Ok(kind), Ok(length)) => (kind, length as usize),
            // A header that ends with the file has no more extensions: QEMU would read zeros there.
            _ => break,
        };
        if kind == EXTENSION_END {
            break;
        }
        if length > end - at - 8 {
            return Err(Refusal::Damaged(format!("a header extension has {length} bytes")));
        }
        match kind {
            EXTENSION_ENCRYPTION => return Err(Refusal::Encrypted(2)),
            EXTENSION_DATA_FILE => {
                let name = bytes.get(at + 8..at + 8 + length).ok_or(Refusal::Short)?;
                data_file = Some(printable(name));
            }
            _ => {}
        }
        at += 8 + length.next_multiple_of(8);
    }
    if external || data_file.is_some() {
        Err(Refusal::ExternalData(data_file))
    } else {
        Ok(())
    }
}

/// A file name as far as it makes sense to print it.
fn printable(name: &[u8]) -> String {
    String::from_utf8_lossy(name)
        .chars()
        .take_while(|c| !c.is_control())
        .take(200)
        .collect()
}

fn refuse_features(bytes: &[u8], incompatible: u64, header_length: u64) -> Result<(), Refusal> {
    let method = word(bytes, 32)?;
    if method != 0 {
        return Err(Refusal::Encrypted(method));
    }
    let unknown = incompatible & !(DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION | EXTENDED_L2);
    if unknown != 0 {
        return Err(Refusal::Features(unknown));
    }
    if incompatible & CORRUPT != 0 {
        return Err(Refusal::MarkedCorrupt);
    }
    if incompatible & COMPRESSION != 0 {
        let method = if header_length > 104 {
            *bytes.get(104).ok_or(Refusal::Short)?
        } else {
            0
        };
        if method > 1 {
            return Err(Refusal::Compression(method));
        }
    }
    Ok(())
}

/// The big-endian 32 bits at an offset.
fn word(bytes: &[u8], at: usize) -> Result<u32, Refusal> {
    let slice = bytes.get(at..at.saturating_add(4)).ok_or(Refusal::Short)?;
    Ok(slice
        .iter()
        .fold(0, |value, byte| (value << 8) | u32::from(*byte)))
}

/// The big-endian 64 bits at an offset.
fn long(bytes: &[u8], at: usize) -> Result<u64, Refusal> {
    Ok((u64::from(word(bytes, at)?) << 32) | u64::from(word(bytes, at.saturating_add(4))?))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A whole, empty image of version 3 with 64 KiB clusters: header, refcount table, refcount block, L1 table.
    pub(crate) fn empty(size: u64) -> Vec<u8> {
        let mut image = vec![0; 4 << 16];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(4, &3u32.to_be_bytes());
        put(20, &16u32.to_be_bytes());
        put(24, &size.to_be_bytes());
        put(36, &(size.div_ceil(1 << 29) as u32).to_be_bytes());
        put(40, &(3u64 << 16).to_be_bytes());
        put(48, &(1u64 << 16).to_be_bytes());
        put(56, &1u32.to_be_bytes());
        put(96, &4u32.to_be_bytes());
        put(100, &104u32.to_be_bytes());
        put(1 << 16, &(2u64 << 16).to_be_bytes());
        image
    }

    fn with(at: usize, bytes: &[u8]) -> Result<Header, Refusal> {
        let mut image = empty(1 << 30);
        image[at..at + bytes.len()].copy_from_slice(bytes);
        Header::parse(&image)
    }

    #[test]
    fn a_right_header_is_read() {
        let header = Header::parse(&empty(1 << 30)).unwrap();
        assert_eq!(header.virtual_size, ByteSize::gib(1));
        assert_eq!(
            (header.version, header.cluster(), header.l1_entries),
            (3, 1 << 16, 2)
        );
    }

    #[test]
    fn version_2_is_read() {
        assert_eq!(with(4, &2u32.to_be_bytes()).unwrap().version, 2);
    }

    #[test]
    fn other_files_are_refused_by_name() {
        let mut image = empty(1 << 30);
        image[8..16].copy_from_slice(&200u64.to_be_bytes());
        image[16..20].copy_from_slice(&11u32.to_be_bytes());
        image[200..211].copy_from_slice(b"/etc/shadow");
        assert_eq!(
            Header::parse(&image),
            Err(Refusal::BackingFile("/etc/shadow".to_owned()))
        );

        let mut image = empty(1 << 30);
        image[104..108].copy_from_slice(&EXTENSION_DATA_FILE.to_be_bytes());
        image[108..112].copy_from_slice(&8u32.to_be_bytes());
        image[112..120].copy_from_slice(b"/dev/sda");
        assert_eq!(
            Header::parse(&image),
            Err(Refusal::ExternalData(Some("/dev/sda".to_owned())))
        );
        assert_eq!(with(72, &4u64.to_be_bytes()), Err(Refusal::ExternalData(None)));
    }

    #[test]
    fn a_backing_file_beyond_the_head_is_refused_all_the_same() {
        assert_eq!(
            with(8, &u64::MAX.to_be_bytes()),
            Err(Refusal::BackingFile(String::new()))
        );
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert_eq!(with(4, &1u32.to_be_bytes()), Err(Refusal::Version(1)));
        assert_eq!(with(32, &2u32.to_be_bytes()), Err(Refusal::Encrypted(2)));
        assert_eq!(
            with(72, &(1u64 << 40).to_be_bytes()),
            Err(Refusal::Features(1 << 40))
        );
        assert_eq!(with(72, &2u64.to_be_bytes()), Err(Refusal::MarkedCorrupt));
        assert_eq!(
            with(24, &(65u64 << 40).to_be_bytes()),
            Err(Refusal::Large(65 << 40))
        );
        assert_eq!(with(24, &0u64.to_be_bytes()), Err(Refusal::Small(0)));
        assert!(matches!(with(20, &63u32.to_be_bytes()), Err(Refusal::Damaged(_))));
        assert!(matches!(with(36, &0u32.to_be_bytes()), Err(Refusal::Damaged(_))));
        assert!(matches!(with(100, &9u32.to_be_bytes()), Err(Refusal::Damaged(_))));
    }

    #[test]
    fn an_unknown_compression_is_refused() {
        let mut image = empty(1 << 30);
        image[72..80].copy_from_slice(&8u64.to_be_bytes());
        image[100..104].copy_from_slice(&112u32.to_be_bytes());
        image[104] = 7;
        assert_eq!(Header::parse(&image), Err(Refusal::Compression(7)));
        image[104] = 1;
        assert!(Header::parse(&image).is_ok());
    }

    #[test]
    fn a_header_cut_anywhere_is_refused() {
        let image = empty(1 << 30);
        for end in 0..104 {
            assert_eq!(Header::parse(&image[..end]), Err(Refusal::Short), "{end}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_upset_the_parser(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Header::parse(&bytes);
        }

        #[test]
        fn no_change_of_a_right_header_upsets_the_parser(
            changes in proptest::collection::vec((0usize..256, any::<u8>()), 1..24),
        ) {
            let mut image = empty(1 << 30);
            for (at, byte) in changes {
                image[at] = byte;
            }
            if let Ok(header) = Header::parse(&image) {
                prop_assert!(header.virtual_size <= LARGEST);
                prop_assert!(u64::from(header.l1_entries) * 8 <= LARGEST_L1);
            }
            let _ = check_tables(&mut std::io::Cursor::new(image));
        }
    }
}
