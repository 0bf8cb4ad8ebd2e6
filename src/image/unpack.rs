//! A compressed disk or a Vagrant box becomes a disk in the store: streamed, sparse and bounded.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::codec::{Codec, Source, Unpacker, Unreadable};
use super::error::ImageError;
use super::job::{Limits, Meter, Stop, write_error};
use super::sniff::{self, Kind};
use super::vagrant::{self, BoxError};
use super::{qcow2, store};
use crate::progress::Progress;
use crate::units::ByteSize;

/// How much is read at once.
const CHUNK: usize = 1 << 20;

/// Zeros are left out by the block of this size, as file systems allocate.
const BLOCK: usize = 4096;

/// How much is written between two looks at the free space.
const LOOK: u64 = 32 << 20;

/// One file to unpack.
pub struct Unpacking {
    /// The packed file.
    pub from: PathBuf,
    /// What the user calls it.
    pub place: String,
    /// How it is compressed; `None` for a plain archive.
    pub codec: Option<Codec>,
    /// The file to write.
    pub to: store::Scratch,
    /// What it may cost.
    pub limits: Limits,
    /// Where it is told.
    pub progress: Progress,
}

impl Unpacking {
    /// Unpacks. The file is whole when this returns, but what is in it was only looked at where it starts.
    ///
    /// # Errors
    ///
    /// Why the packed file cannot be used; the unpacked one is removed then (by [`store::Scratch`]).
    pub fn run(&self, stop: &Stop) -> Result<(), ImageError> {
        self.unpack(stop).map_err(|error| self.explain(error))
    }

    fn unpack(&self, stop: &Stop) -> io::Result<()> {
        let consumed = Arc::new(AtomicU64::new(0));
        let mut sink = Sink::create(self, stop, Arc::clone(&consumed))?;
        let mut stream = self.open(&consumed)?;
        let mut head = Vec::new();
        stream.by_ref().take(sniff::HEAD as u64).read_to_end(&mut head)?;
        let is_box = match sniff::sniff(&head) {
            Kind::Tar => true,
            kind => {
                self.refuse(kind, &head)?;
                false
            }
        };
        if is_box {
            drop(stream);
            let mut open = || {
                consumed.store(0, Ordering::Relaxed);
                self.open(&consumed)
            };
            return vagrant::disk(&mut open, &mut |data| {
                let mut head = Vec::new();
                data.take(sniff::HEAD as u64).read_to_end(&mut head)?;
                self.refuse(sniff::sniff(&head), &head)?;
                sink.begin()?;
                sink.pour(&mut io::Read::chain(&head[..], data))?;
                sink.end()
            });
        }
        sink.pour(&mut io::Read::chain(&head[..], stream))?;
        sink.end()
    }

    /// The unpacked bytes from their start.
    fn open(&self, consumed: &Arc<AtomicU64>) -> io::Result<Box<dyn Read>> {
        let file = File::open(&self.from).map_err(|source| {
            io::Error::other(ImageError::Io {
                doing: "open",
                path: self.from.clone(),
                source,
            })
        })?;
        let source = Source::new(file, Arc::clone(consumed));
        Ok(match self.codec {
            Some(codec) => Box::new(Unpacker::new(codec, source)),
            None => Box::new(source),
        })
    }

    /// Refuses by its first bytes what would be refused once it is unpacked: that may take minutes.
    fn refuse(&self, kind: Kind, head: &[u8]) -> io::Result<()> {
        let place = self.place.clone();
        Err(io::Error::other(match kind {
            Kind::Alien(alien) => ImageError::NoDisk { place, alien },
            Kind::Packed(inner) => match self.codec {
                Some(outer) => ImageError::Twice { place, outer, inner },
                // A box may not hold a packed disk: no tool that makes boxes does so.
                None => ImageError::Box {
                    place,
                    error: BoxError::Damaged(format!("its disk is compressed by {inner}")),
                },
            },
            Kind::Tar => ImageError::Box {
                place,
                error: BoxError::Damaged("it holds another archive".to_owned()),
            },
            Kind::Qcow2 => match qcow2::Header::parse(head) {
                // The head may be shorter than what the header speaks of; the whole file will tell.
                Ok(_) | Err(qcow2::Refusal::Short) => return Ok(()),
                Err(refusal) => ImageError::Qcow2 { place, refusal },
            },
            Kind::Raw => return Ok(()),
        }))
    }

    /// Gives an error that has come through a reader its own shape back.
    fn explain(&self, error: io::Error) -> ImageError {
        let place = self.place.clone();
        let error = match error.downcast::<ImageError>() {
            Ok(own) => return own,
            Err(error) => error,
        };
        let error = match error.downcast::<BoxError>() {
            Ok(error) => return ImageError::Box { place, error },
            Err(error) => error,
        };
        let size = std::fs::metadata(&self.from)
            .map(|metadata| metadata.len())
            .unwrap_or(0);
        match (error.downcast::<Unreadable>(), self.codec) {
            (Ok(Unreadable::Cut), Some(codec)) => ImageError::Cut { place, codec, size },
            (Ok(Unreadable::Corrupt { reason, .. }), Some(codec))
                if reason.to_lowercase().contains("mem") =>
            {
                ImageError::Greedy { place, codec, reason }
            }
            (Ok(Unreadable::Corrupt { at, reason }), Some(codec)) => ImageError::Corrupt {
                place,
                codec,
                at,
                reason,
            },
            (Ok(Unreadable::Trailing(at)), Some(codec)) => ImageError::Trailing { place, codec, at },
            (Ok(other), None) => ImageError::Io {
                doing: "read",
                path: self.from.clone(),
                source: io::Error::other(other),
            },
            (Err(source), _) => ImageError::Io {
                doing: "read",
                path: self.from.clone(),
                source,
            },
        }
    }
}

/// The disk that is written.
struct Sink<'a> {
    work: &'a Unpacking,
    stop: &'a Stop,
    file: File,
    at: u64,
    written: u64,
    looked: u64,
    consumed: Arc<AtomicU64>,
    meter: Meter,
}

impl<'a> Sink<'a> {
    fn create(work: &'a Unpacking, stop: &'a Stop, consumed: Arc<AtomicU64>) -> io::Result<Self> {
        let path = work.to.path();
        let file =
            File::create(path).map_err(|error| io::Error::other(write_error(error, &work.place, path, 0)))?;
        let total = std::fs::metadata(&work.from).map(|metadata| metadata.len()).ok();
        let meter = Meter::new(
            format!("image {}: unpacking", work.place),
            0,
            total,
            Instant::now(),
        );
        let sink = Self {
            work,
            stop,
            file,
            at: 0,
            written: 0,
            looked: 0,
            consumed,
            meter,
        };
        sink.look()?;
        Ok(sink)
    }

    /// Begins anew.
    fn begin(&mut self) -> io::Result<()> {
        (self.at, self.written, self.looked) = (0, 0, 0);
        self.file.set_len(0).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> io::Error {
        io::Error::other(write_error(
            error,
            &self.work.place,
            self.work.to.path(),
            self.written,
        ))
    }

    fn look(&self) -> io::Result<()> {
        let dir = self.work.to.path().parent().unwrap_or(Path::new("/"));
        self.work
            .limits
            .check_room(&self.work.place, dir, self.written, 0)
            .map_err(io::Error::other)
    }

    fn pour(&mut self, from: &mut dyn Read) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            let mut filled = 0;
            while filled < CHUNK {
                match from.read(&mut chunk[filled..]) {
                    Ok(0) => break,
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            if filled == 0 {
                return Ok(());
            }
            if self.stop.asked() {
                return Err(io::Error::other(ImageError::Stopped {
                    place: self.work.place.clone(),
                }));
            }
            self.put(&chunk[..filled])?;
            if let Some(line) = self
                .meter
                .line(Instant::now(), self.consumed.load(Ordering::Relaxed))
            {
                self.work.progress.info(line);
            }
        }
    }

    /// Writes the blocks that are not zero, neighbours at once.
    fn put(&mut self, chunk: &[u8]) -> io::Result<()> {
        const ZEROS: [u8; BLOCK] = [0; BLOCK];
        if self.at + chunk.len() as u64 > self.work.limits.unpacked.bytes() {
            let limit = self.work.limits.unpacked;
            return Err(io::Error::other(ImageError::Bomb {
                place: self.work.place.clone(),
                limit,
            }));
        }
        let mut start = 0;
        while start < chunk.len() {
            let blocks = chunk[start..].chunks(BLOCK);
            let full = blocks
                .take_while(|block| **block != ZEROS[..block.len()])
                .map(<[u8]>::len)
                .sum::<usize>();
            if full == 0 {
                start += BLOCK;
                continue;
            }
            let run = &chunk[start..start + full];
            self.file
                .write_all_at(run, self.at + start as u64)
                .map_err(|error| self.failed(error))?;
            self.written += full as u64;
            start += full;
        }
        self.at += chunk.len() as u64;
        if self.written - self.looked >= LOOK {
            self.looked = self.written;
            self.look()?;
        }
        Ok(())
    }

    /// Zeros at the end are a hole too.
    fn end(&mut self) -> io::Result<()> {
        self.file.set_len(self.at).map_err(|error| self.failed(error))?;
        let (whole, written) = (ByteSize(self.at), ByteSize(self.written));
        self.work.progress.info(format!(
            "image {}: unpacked, {whole} ({written} written)",
            self.work.place
        ));
        Ok(())
    }
}
