//! A tar archive read front to back, as little of it as a Vagrant box needs: names, kinds, data; GNU sparse files, as
//! vagrant-libvirt's own script makes them (`tar -S`). Nothing is ever written by the name of an entry.
//!
//! The format: POSIX.1 pax and GNU tar's manual ("Basic Tar Format"). Extension headers are bounded, so that an archive
//! of a few bytes cannot ask for gigabytes of memory.

use std::io::{self, Read};

use ::tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

use super::vagrant::BoxError;

const BLOCK: u64 = 512;

/// The largest extension header that is read.
const LARGEST_EXTENSION: u64 = 64 << 10;

/// The most pieces that a sparse file may have: so many fit into 2 MiB of map.
const MOST_PIECES: usize = 1 << 17;

/// Whether bytes start with a tar header: its checksum is right.
pub fn is_header(head: &[u8]) -> bool {
    head.get(..512)
        .is_some_and(|block| block.iter().any(|byte| *byte != 0) && checked(Header::from_byte_slice(block)))
}

/// The sum of all bytes, those of the checksum's own field taken for spaces.
fn checked(header: &Header) -> bool {
    let bytes = header.as_bytes();
    let sum: u32 = bytes
        .iter()
        .enumerate()
        .map(|(i, b)| {
            if (148..156).contains(&i) {
                32
            } else {
                u32::from(*b)
            }
        })
        .sum();
    header.cksum().is_ok_and(|written| written == sum)
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A symbolic or hard link.
    Link,
    /// A file whose holes are told in a way that is not read (pax sparse).
    PaxSparse,
    /// A directory, a device and so on.
    Other,
}

/// An entry's header.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name without leading `./`.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// The size of the file, holes included.
    pub size: u64,
    /// The pieces of the file that are in the archive: offset and length. `None` if all of it is.
    pieces: Option<Vec<(u64, u64)>>,
}

/// An archive, at one of its entries.
pub struct Archive<R> {
    inner: R,
    /// What is left of the current entry in the archive, without padding.
    left: u64,
    padding: u64,
}

fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::other(BoxError::Damaged(what.into()))
}

fn cut() -> io::Error {
    io::Error::other(BoxError::Cut)
}

impl<R: Read> Archive<R> {
    /// An archive at its start.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            left: 0,
            padding: 0,
        }
    }

    /// The next entry; what was left of the one before is skipped. `None` at the end.
    pub fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut long_name = None;
        let mut pax = Pax::default();
        loop {
            self.skip(self.left + self.padding)?;
            (self.left, self.padding) = (0, 0);
            let Some(block) = self.block()? else {
                return Ok(None);
            };
            if block.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            let header = Header::from_byte_slice(&block);
            if !checked(header) {
                return Err(damaged("the checksum of a tar header is wrong"));
            }
            let stored = header
                .entry_size()
                .map_err(|_| damaged("the size in a tar header is no number"))?;
            self.expect(stored)?;
            match header.entry_type() {
                EntryType::GNULongName => long_name = Some(text(&self.extension()?)),
                EntryType::XHeader => pax = Pax::parse(&self.extension()?),
                EntryType::GNULongLink | EntryType::XGlobalHeader => {}
                kind => return self.entry(header, kind, stored, long_name, pax).map(Some),
            }
        }
    }

    fn entry(
        &mut self,
        header: &Header,
        kind: EntryType,
        stored: u64,
        long_name: Option<String>,
        pax: Pax,
    ) -> io::Result<Entry> {
        let stored = pax.size.unwrap_or(stored);
        self.expect(stored)?;
        let name = pax
            .path
            .or(long_name)
            .unwrap_or_else(|| text(&header.path_bytes()));
        let mut entry = Entry {
            name: plain(&name),
            kind: EntryKind::Other,
            size: stored,
            pieces: None,
        };
        match kind {
            EntryType::GNUSparse => {
                let gnu = header
                    .as_gnu()
                    .ok_or_else(|| damaged("a sparse file's header is not GNU's"))?;
                entry.kind = EntryKind::File;
                entry.size = gnu
                    .real_size()
                    .map_err(|_| damaged("a sparse file's size is no number"))?;
                entry.pieces = Some(self.map(gnu.sparse.iter(), gnu.is_extended(), stored, entry.size)?);
            }
            EntryType::Regular | EntryType::Continuous if pax.sparse => entry.kind = EntryKind::PaxSparse,
            EntryType::Regular | EntryType::Continuous => entry.kind = EntryKind::File,
            EntryType::Symlink | EntryType::Link => {
                entry.kind = EntryKind::Link;
                // Links have no data, whatever their size field says.
                self.expect(0)?;
            }
            _ => {}
        }
        Ok(entry)
    }

    /// The map of a GNU sparse file: pieces in order, without overlap, as much data as the archive holds.
    fn map<'a>(
        &mut self,
        first: impl Iterator<Item = &'a GnuSparseHeader>,
        mut more: bool,
        stored: u64,
        size: u64,
    ) -> io::Result<Vec<(u64, u64)>> {
        let mut pieces = Vec::new();
        let mut add = |piece: &GnuSparseHeader| -> io::Result<()> {
            if piece.offset[0] == 0 || piece.numbytes[0] == 0 {
                return Ok(());
            }
            let wrong = |_| damaged("the map of a sparse file holds no numbers");
            pieces.push((piece.offset().map_err(wrong)?, piece.length().map_err(wrong)?));
            if pieces.len() > MOST_PIECES {
                return Err(damaged("a sparse file has too many pieces"));
            }
            Ok(())
        };
        first.into_iter().try_for_each(&mut add)?;
        while more {
            let block = self.block()?.ok_or_else(cut)?;
            let mut extension = GnuExtSparseHeader::new();
            extension.as_mut_bytes().copy_from_slice(&block);
            extension.sparse.iter().try_for_each(&mut add)?;
            more = extension.is_extended();
        }
        let (mut end, mut data) = (0u64, 0u64);
        for (offset, length) in &pieces {
            let next = offset
                .checked_add(*length)
                .filter(|next| *offset >= end && *next <= size);
            end = next.ok_or_else(|| damaged("the map of a sparse file is in disorder"))?;
            data += length;
        }
        if data != stored {
            return Err(damaged("the map of a sparse file does not fit its data"));
        }
        Ok(pieces)
    }

    /// The data of the entry that [`Archive::next`] has just given, holes filled with zeros.
    pub fn data<'a>(&'a mut self, entry: &'a Entry) -> Data<'a, R> {
        Data {
            archive: self,
            entry,
            at: 0,
            piece: 0,
        }
    }

    /// Reads on to the end of what the archive is in, so that a compressed file that is cut there is noticed. An archive is padded;
    /// what comes after more zeros than anyone pads with is not looked at.
    pub fn finish(mut self) -> io::Result<()> {
        let mut sink = io::sink();
        io::copy(&mut self.inner.by_ref().take(64 << 20), &mut sink).map(|_| ())
    }

    fn expect(&mut self, stored: u64) -> io::Result<()> {
        if stored > i64::MAX as u64 {
            return Err(damaged("the size in a tar header is absurd"));
        }
        self.left = stored;
        self.padding = (BLOCK - stored % BLOCK) % BLOCK;
        Ok(())
    }

    fn extension(&mut self) -> io::Result<Vec<u8>> {
        if self.left > LARGEST_EXTENSION {
            return Err(damaged(format!("an extension header has {} bytes", self.left)));
        }
        let mut bytes = vec![0; self.left as usize];
        self.inner.read_exact(&mut bytes).map_err(end_is_cut)?;
        self.left = 0;
        Ok(bytes)
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.inner.by_ref().take(count), &mut io::sink())?;
        if skipped == count { Ok(()) } else { Err(cut()) }
    }

    /// The next 512 bytes; `None` at the very end.
    fn block(&mut self) -> io::Result<Option<[u8; 512]>> {
        let mut block = [0; 512];
        let mut filled = 0;
        while filled < block.len() {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(cut()),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(block))
    }
}

fn end_is_cut(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        cut()
    } else {
        error
    }
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn plain(name: &str) -> String {
    let mut name = name;
    while let Some(rest) = name.strip_prefix("./") {
        name = rest.trim_start_matches('/');
    }
    name.to_owned()
}

/// What a pax extension header says that matters here.
#[derive(Default)]
struct Pax {
    path: Option<String>,
    size: Option<u64>,
    sparse: bool,
}

impl Pax {
    /// Records of the form `LENGTH KEY=VALUE\n`, where LENGTH counts the whole record.
    fn parse(mut bytes: &[u8]) -> Self {
        let mut pax = Self::default();
        while let Some(space) = bytes.iter().position(|byte| *byte == b' ') {
            let length = std::str::from_utf8(&bytes[..space])
                .ok()
                .and_then(|text| text.parse::<usize>().ok());
            let Some(record) = length.and_then(|length| bytes.get(space + 1..length)) else {
                break;
            };
            bytes = &bytes[space + 1 + record.len()..];
            let record = String::from_utf8_lossy(record);
            let Some((key, value)) = record.trim_end_matches('\n').split_once('=') else {
                continue;
            };
            match key {
                "path" if pax.path.is_none() => pax.path = Some(value.to_owned()),
                "GNU.sparse.name" => pax.path = Some(value.to_owned()),
                "size" => pax.size = value.parse().ok(),
                _ => {}
            }
            pax.sparse |= key.starts_with("GNU.sparse.");
        }
        pax
    }
}

/// An entry's data.
pub struct Data<'a, R> {
    archive: &'a mut Archive<R>,
    entry: &'a Entry,
    at: u64,
    piece: usize,
}

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let (until, hole) = match &self.entry.pieces {
            None => (self.entry.size, false),
            Some(pieces) => {
                while pieces
                    .get(self.piece)
                    .is_some_and(|(offset, length)| offset + length <= self.at)
                {
                    self.piece += 1;
                }
                match pieces.get(self.piece) {
                    Some((offset, length)) if *offset <= self.at => (offset + length, false),
                    Some((offset, _)) => (*offset, true),
                    None => (self.entry.size, true),
                }
            }
        };
        let count = (until - self.at).min(to.len() as u64) as usize;
        if count == 0 {
            return Ok(0);
        }
        let read = if hole {
            to[..count].fill(0);
            count
        } else {
            self.archive.inner.read(&mut to[..count])?
        };
        if read == 0 {
            return Err(cut());
        }
        if !hole {
            self.archive.left = self.archive.left.saturating_sub(read as u64);
        }
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(bytes: &[u8]) -> io::Result<Vec<(String, EntryKind, usize)>> {
        let mut archive = Archive::new(bytes);
        let mut seen = Vec::new();
        while let Some(entry) = archive.next()? {
            let mut data = Vec::new();
            archive.data(&entry).take(1 << 20).read_to_end(&mut data)?;
            seen.push((entry.name, entry.kind, data.len()));
        }
        archive.finish()?;
        Ok(seen)
    }

    fn sample() -> Vec<u8> {
        let mut builder = ::tar::Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(700);
        builder
            .append_data(&mut header, "./metadata.json", &[b'a'; 700][..])
            .unwrap();
        let long = "d/".repeat(90) + "box.img";
        header.set_size(3);
        builder.append_data(&mut header, &long, &b"abc"[..]).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn entries_are_read_in_order() {
        let seen = read_all(&sample()).unwrap();
        assert_eq!(seen[0], ("metadata.json".to_owned(), EntryKind::File, 700));
        assert_eq!((seen[1].0.len(), seen[1].2), (187, 3));
    }

    #[test]
    fn cut_within_an_entry_is_cut() {
        let sample = sample();
        for end in [100, 600, 1100, 1500] {
            let error = read_all(&sample[..end])
                .unwrap_err()
                .downcast::<BoxError>()
                .unwrap();
            assert_eq!(error, BoxError::Cut, "{end}");
        }
    }

    #[test]
    fn a_gnu_sparse_file_gets_its_holes_back() {
        let mut header = Header::new_gnu();
        header.set_path("box.img").unwrap();
        header.set_entry_type(EntryType::GNUSparse);
        header.set_size(512 + 3);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.realsize.copy_from_slice(b"00000010000\0");
        gnu.sparse[0].offset.copy_from_slice(b"00000001000\0");
        gnu.sparse[0].numbytes.copy_from_slice(b"00000001000\0");
        gnu.sparse[1].offset.copy_from_slice(b"00000004000\0");
        gnu.sparse[1].numbytes.copy_from_slice(b"00000000003\0");
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend([b'x'; 515]);
        bytes.resize(512 + 1024 + 1024, 0);
        let mut archive = Archive::new(&bytes[..]);
        let entry = archive.next().unwrap().unwrap();
        let mut data = Vec::new();
        archive.data(&entry).read_to_end(&mut data).unwrap();
        let mut expected = vec![0; 4096];
        expected[512..1024].fill(b'x');
        expected[2048..2051].fill(b'x');
        assert!(data == expected);
        assert!(archive.next().unwrap().is_none());
    }

    #[test]
    fn pax_records_are_read() {
        let pax = Pax::parse(b"99 path=box.img\n");
        assert_eq!(pax.path, None, "a length that is wrong ends the header");
        let pax = Pax::parse(b"16 path=box.img\n14 size=12345\n22 GNU.sparse.major=1\n");
        assert_eq!(
            (pax.path.as_deref(), pax.size, pax.sparse),
            (Some("box.img"), Some(12345), true)
        );
    }

    #[test]
    fn a_huge_extension_is_refused_before_it_is_read() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let error = read_all(header.as_bytes())
            .unwrap_err()
            .downcast::<BoxError>()
            .unwrap();
        assert!(matches!(error, BoxError::Damaged(_)));
    }

    proptest! {
        #[test]
        fn no_change_upsets_it(changes in proptest::collection::vec((0usize..2048, any::<u8>()), 1..9), fix: bool) {
            let mut bytes = sample();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            if fix {
                let mut header = Header::from_byte_slice(&bytes[..512]).clone();
                header.set_cksum();
                bytes[..512].copy_from_slice(header.as_bytes());
            }
            let _ = read_all(&bytes);
        }

        #[test]
        fn no_pax_header_upsets_it(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[0-9]{1,3} (path|size)=[a-z0-9\\n ]{0,20}") {
            let _ = Pax::parse(&bytes);
            let _ = Pax::parse(text.as_bytes());
        }
    }
}
