//! Unpacking of gz, xz, zst and bz2 as a plain [`Read`], told apart by their first bytes.

use std::io::{self, BufRead, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use async_compression::tokio::bufread::{BzDecoder, GzipDecoder, XzDecoder, ZstdDecoder};
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};

/// What a file is compressed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// RFC 1952.
    Gzip,
    /// The .xz format, not the older .lzma.
    Xz,
    /// RFC 8878.
    Zstd,
    /// bzip2.
    Bzip2,
}

impl std::fmt::Display for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
        })
    }
}

impl Codec {
    /// The compression whose magic number a file starts with.
    pub fn sniff(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            // A frame, or a skippable one: pzstd begins its files with those.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some(Self::Bzip2),
            _ => None,
        }
    }
}

/// How much of a file is looked at to tell what follows the end of a member.
const MAGIC: usize = 6;

/// What xz may use: a file made with `-9` needs 65 MiB, one made by an enemy asks for 4 GiB.
const XZ_MEMORY: u64 = 512 << 20;

/// Why a compressed file could not be unpacked. Travels inside an [`io::Error`].
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unreadable {
    /// The file ends before its compressed data do.
    #[error("ends in the middle of its compressed data")]
    Cut,
    /// The data are not what their format asks for.
    #[error("is damaged near byte {at}: {reason}")]
    Corrupt {
        /// How far it had been read, in compressed bytes.
        at: u64,
        /// What the decoder says.
        reason: String,
    },
    /// Something that is no compressed data follows them.
    #[error("has something else after its compressed data, from byte {0}")]
    Trailing(u64),
}

/// A buffered file that can be looked into ahead, and that tells how far it was read.
pub struct Source<R> {
    inner: R,
    buffer: Vec<u8>,
    start: usize,
    filled: usize,
    consumed: Arc<AtomicU64>,
    /// Whether a reader asked for more than there was.
    dry: bool,
}

impl<R: Read> Source<R> {
    /// A source that adds what is taken from it to `consumed`.
    pub fn new(inner: R, consumed: Arc<AtomicU64>) -> Self {
        Self {
            inner,
            buffer: vec![0; 256 << 10],
            start: 0,
            filled: 0,
            consumed,
            dry: false,
        }
    }

    /// The next bytes, `count` of them unless the source ends before; none is taken.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        if self.filled - self.start < count {
            self.buffer.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.start = 0;
            while self.filled < count {
                match self.inner.read(&mut self.buffer[self.filled..]) {
                    Ok(0) => break,
                    Ok(read) => self.filled += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(&self.buffer[self.start..self.filled])
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut from = self.fill_buf()?;
        let read = from.read(to)?;
        self.consume(read);
        Ok(read)
    }
}

impl<R: Read> BufRead for Source<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.peek(1)?.is_empty() {
            self.dry = true;
        }
        Ok(&self.buffer[self.start..self.filled])
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        self.consumed.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// The decoders are asynchronous; a source that always has its answer at once never makes them wait.
impl<R: Read + Unpin> AsyncRead for Source<R> {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = self.get_mut().read(to.initialize_unfilled());
        Poll::Ready(read.map(|count| to.advance(count)))
    }
}

impl<R: Read + Unpin> AsyncBufRead for Source<R> {
    fn poll_fill_buf(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        Poll::Ready(self.get_mut().fill_buf())
    }

    fn consume(self: Pin<&mut Self>, count: usize) {
        BufRead::consume(self.get_mut(), count);
    }
}

/// One member (stream, frame) of a compressed file.
enum Member<R> {
    Gzip(GzipDecoder<Source<R>>),
    Xz(XzDecoder<Source<R>>),
    Zstd(ZstdDecoder<Source<R>>),
    Bzip2(BzDecoder<Source<R>>),
}

impl<R: Read + Unpin> Member<R> {
    fn new(codec: Codec, source: Source<R>) -> Self {
        match codec {
            Codec::Gzip => Self::Gzip(GzipDecoder::new(source)),
            Codec::Xz => Self::Xz(XzDecoder::with_mem_limit(source, XZ_MEMORY)),
            Codec::Zstd => Self::Zstd(ZstdDecoder::new(source)),
            Codec::Bzip2 => Self::Bzip2(BzDecoder::new(source)),
        }
    }

    fn decoder(&mut self) -> &mut (dyn AsyncRead + Unpin) {
        match self {
            Self::Gzip(decoder) => decoder,
            Self::Xz(decoder) => decoder,
            Self::Zstd(decoder) => decoder,
            Self::Bzip2(decoder) => decoder,
        }
    }

    fn source(&self) -> &Source<R> {
        match self {
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Xz(decoder) => decoder.get_ref(),
            Self::Zstd(decoder) => decoder.get_ref(),
            Self::Bzip2(decoder) => decoder.get_ref(),
        }
    }

    fn into_source(self) -> Source<R> {
        match self {
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Xz(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.into_inner(),
            Self::Bzip2(decoder) => decoder.into_inner(),
        }
    }

    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(to);
        match Pin::new(self.decoder()).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer) {
            Poll::Ready(done) => done.map(|()| buffer.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// Unpacks a file of one or more members; zeros between and after them are padding, as gzip and xz have it.
pub struct Unpacker<R> {
    codec: Codec,
    member: Option<Member<R>>,
}

impl<R: Read + Unpin> Unpacker<R> {
    /// Unpacks what follows in `source`.
    pub fn new(codec: Codec, source: Source<R>) -> Self {
        Self {
            codec,
            member: Some(Member::new(codec, source)),
        }
    }

    /// What follows a member that has ended.
    fn next(&self, mut source: Source<R>) -> io::Result<Option<Member<R>>> {
        loop {
            let zeros = source.fill_buf()?.iter().take_while(|byte| **byte == 0).count();
            if zeros == 0 {
                break;
            }
            BufRead::consume(&mut source, zeros);
        }
        let ahead = source.peek(MAGIC)?;
        if ahead.is_empty() {
            return Ok(None);
        }
        if Codec::sniff(ahead) == Some(self.codec) {
            return Ok(Some(Member::new(self.codec, source)));
        }
        Err(io::Error::other(Unreadable::Trailing(
            source.consumed.load(Ordering::Relaxed),
        )))
    }
}

impl<R: Read + Unpin> Read for Unpacker<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if to.is_empty() {
            return Ok(0);
        }
        while let Some(mut member) = self.member.take() {
            match member.read(to) {
                Ok(0) => self.member = self.next(member.into_source())?,
                Ok(read) => {
                    self.member = Some(member);
                    return Ok(read);
                }
                // The file's own errors carry the system's number, the decoders' never do.
                Err(error) if error.raw_os_error().is_some() => return Err(error),
                Err(_) if member.source().dry => return Err(io::Error::other(Unreadable::Cut)),
                Err(error) => {
                    let at = member.source().consumed.load(Ordering::Relaxed);
                    return Err(io::Error::other(Unreadable::Corrupt {
                        at,
                        reason: error.to_string(),
                    }));
                }
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use async_compression::tokio::write::{BzEncoder, GzipEncoder, XzEncoder, ZstdEncoder};
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::*;

    pub(crate) const ALL: [Codec; 4] = [Codec::Gzip, Codec::Xz, Codec::Zstd, Codec::Bzip2];

    /// Compresses, for tests.
    pub(crate) fn pack(codec: Codec, bytes: &[u8]) -> Vec<u8> {
        async fn through<W: AsyncWriteExt + Unpin>(mut encoder: W, bytes: &[u8]) -> W {
            encoder.write_all(bytes).await.unwrap();
            encoder.shutdown().await.unwrap();
            encoder
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            match codec {
                Codec::Gzip => through(GzipEncoder::new(Vec::new()), bytes).await.into_inner(),
                Codec::Xz => through(XzEncoder::new(Vec::new()), bytes).await.into_inner(),
                Codec::Zstd => through(ZstdEncoder::new(Vec::new()), bytes).await.into_inner(),
                Codec::Bzip2 => through(BzEncoder::new(Vec::new()), bytes).await.into_inner(),
            }
        })
    }

    /// Bytes that do not compress away.
    pub(crate) fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect()
    }

    fn unpack(codec: Codec, packed: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let mut out = Vec::new();
        match Unpacker::new(codec, Source::new(packed, Arc::default())).read_to_end(&mut out) {
            Ok(_) => Ok(out),
            Err(error) => Err(error.downcast::<Unreadable>().unwrap()),
        }
    }

    #[test]
    fn every_codec_is_known_and_unpacked() {
        let bytes = noise(300_000);
        for codec in ALL {
            let packed = pack(codec, &bytes);
            assert_eq!(Codec::sniff(&packed), Some(codec));
            assert!(unpack(codec, &packed).unwrap() == bytes, "{codec}");
        }
    }

    #[test]
    fn members_follow_each_other_with_or_without_padding() {
        for codec in ALL {
            let mut packed = pack(codec, b"one ");
            packed.extend(pack(codec, b""));
            packed.extend([0; 4]);
            packed.extend(pack(codec, b"two"));
            packed.extend([0; 1024]);
            assert_eq!(unpack(codec, &packed).unwrap(), b"one two", "{codec}");
        }
    }

    #[test]
    fn cut_anywhere_is_cut() {
        for codec in ALL {
            let packed = pack(codec, &noise(3000));
            for end in [
                7,
                packed.len() / 3,
                packed.len() / 2,
                packed.len() - 9,
                packed.len() - 1,
            ] {
                assert_eq!(
                    unpack(codec, &packed[..end]),
                    Err(Unreadable::Cut),
                    "{codec} {end}"
                );
            }
        }
    }

    #[test]
    fn trailing_bytes_are_refused_with_their_place() {
        for codec in ALL {
            let mut packed = pack(codec, b"one");
            let end = packed.len() as u64;
            packed.extend(b"<html>");
            assert_eq!(unpack(codec, &packed), Err(Unreadable::Trailing(end)), "{codec}");
        }
    }

    #[test]
    fn a_flipped_bit_is_found() {
        for codec in ALL {
            let mut packed = pack(codec, &noise(30_000));
            let middle = packed.len() / 2;
            packed[middle] ^= 1;
            // zstd's own tool writes a checksum, our encoder here does not: nothing could tell.
            if codec != Codec::Zstd {
                assert!(unpack(codec, &packed).is_err(), "{codec}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_upset_a_decoder(which in 0usize..4, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut packed = pack(ALL[which], &bytes);
            let middle = packed.len() / 2;
            packed.truncate(middle);
            packed.extend(bytes);
            let _ = unpack(ALL[which], &packed);
        }
    }
}
