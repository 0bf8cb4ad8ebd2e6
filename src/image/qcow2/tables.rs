//! Whether everything that a qcow2 image refers to lies inside its file.

use std::io::{self, Read, Seek, SeekFrom};

use super::{HEAD, Header, Refusal};

/// At the most so many bytes of L2 tables are read: enough for 64 KiB clusters of a disk of 1 TiB that is in full use,
/// and it bounds what an odd image can cost.
const L2_BUDGET: u64 = 128 << 20;

/// The offset that an L1 or standard L2 entry holds: bits 9 to 55.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// The bit of an L2 entry that says that its cluster is compressed.
const COMPRESSED: u64 = 1 << 62;

/// Reads the header of an image, and its tables down to the clusters: a truncated image is known before a guest reads
/// zeros from it.
///
/// The last cluster may be cut short: QEMU writes no more of it than was used, and reads zeros after the end.
///
/// # Errors
///
/// The reader's own, or (inside `Ok`) why the image is refused.
pub fn check_tables(image: &mut (impl Read + Seek)) -> io::Result<Result<Header, Refusal>> {
    let end = image.seek(SeekFrom::End(0))?;
    image.seek(SeekFrom::Start(0))?;
    let mut head = Vec::new();
    image.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    let header = match Header::parse(&head) {
        Ok(header) => header,
        Err(refusal) => return Ok(Err(refusal)),
    };
    Ok(walk(image, &header, end)?.map(|()| header))
}

fn walk(image: &mut (impl Read + Seek), header: &Header, end: u64) -> io::Result<Result<(), Refusal>> {
    let l1_bytes = u64::from(header.l1_entries) * 8;
    let refcount_bytes = u64::from(header.refcount_clusters) << header.cluster_bits;
    for (what, at, length) in [
        ("L1 table", header.l1_offset, l1_bytes),
        ("refcount table", header.refcount_offset, refcount_bytes),
    ] {
        if at.saturating_add(length) > end {
            return Ok(Err(Refusal::Truncated { what, at, end }));
        }
    }
    let mut budget = L2_BUDGET;
    let mut table = vec![0; header.cluster() as usize];
    for entry in longs(&read(image, header.l1_offset, l1_bytes)?) {
        let at = entry & OFFSET;
        if at == 0 {
            continue;
        }
        if at % header.cluster() != 0 {
            return Ok(Err(Refusal::Damaged(format!(
                "an L2 table is said to lie at byte {at}"
            ))));
        }
        if at.saturating_add(header.cluster()) > end {
            return Ok(Err(Refusal::Truncated {
                what: "L2 table",
                at,
                end,
            }));
        }
        if budget < header.cluster() {
            continue;
        }
        budget -= header.cluster();
        image.seek(SeekFrom::Start(at))?;
        image.read_exact(&mut table)?;
        if let Some(at) = beyond(&table, header, end) {
            return Ok(Err(Refusal::Truncated {
                what: "data",
                at,
                end,
            }));
        }
    }
    Ok(Ok(()))
}

/// The first cluster of an L2 table that starts where the file has ended already.
fn beyond(table: &[u8], header: &Header, end: u64) -> Option<u64> {
    let step = if header.extended_l2 { 2 } else { 1 };
    // Of a compressed cluster the entry's low bits hold the offset, the higher ones its length in sectors.
    let compressed = (1u64 << (62 - (header.cluster_bits - 8))) - 1;
    longs(table)
        .step_by(step)
        .map(|entry| {
            if entry & COMPRESSED != 0 {
                entry & compressed
            } else {
                entry & OFFSET
            }
        })
        .find(|at| *at != 0 && *at >= end)
}

fn read(image: &mut (impl Read + Seek), at: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    image.seek(SeekFrom::Start(at))?;
    image.by_ref().take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The big-endian 64-bit numbers of a table.
fn longs(table: &[u8]) -> impl Iterator<Item = u64> + '_ {
    table.chunks_exact(8).map(|bytes| {
        bytes
            .iter()
            .fold(0, |value, byte| (value << 8) | u64::from(*byte))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::tests::empty;
    use super::*;

    /// An image with one L2 table that refers to one cluster, the file's last.
    fn full() -> Vec<u8> {
        let mut image = empty(1 << 30);
        image.resize(6 << 16, 0);
        image[3 << 16..(3 << 16) + 8].copy_from_slice(&((4u64 << 16) | (1 << 63)).to_be_bytes());
        image[4 << 16..(4 << 16) + 8].copy_from_slice(&((5u64 << 16) | (1 << 63)).to_be_bytes());
        image
    }

    fn cut(length: usize) -> Result<Header, Refusal> {
        check_tables(&mut Cursor::new(full()[..length].to_vec())).unwrap()
    }

    #[test]
    fn a_whole_image_passes() {
        assert!(cut(6 << 16).is_ok());
    }

    #[test]
    fn the_last_cluster_may_be_cut_short() {
        assert!(cut((5 << 16) + 512).is_ok());
    }

    #[test]
    fn each_missing_part_is_named() {
        for (length, missing) in [
            (5 << 16, "data"),
            ((4 << 16) + 9, "L2 table"),
            (3 << 16, "L1 table"),
        ] {
            match cut(length) {
                Err(Refusal::Truncated { what, end, .. }) => {
                    assert_eq!((what, end), (missing, length as u64))
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_compressed_cluster_beyond_the_end_is_found() {
        let mut image = full();
        image[4 << 16..(4 << 16) + 8].copy_from_slice(&(COMPRESSED | (7 << 16)).to_be_bytes());
        let refusal = check_tables(&mut Cursor::new(image)).unwrap().unwrap_err();
        assert_eq!(
            refusal,
            Refusal::Truncated {
                what: "data",
                at: 7 << 16,
                end: 6 << 16
            }
        );
    }
}
