//! Why an image could not be had.

use std::io;
use std::path::PathBuf;

use super::codec::Codec;
use super::qcow2::Refusal;
use super::sniff::Alien;
use super::vagrant::BoxError;
use crate::fault::Fault;
use crate::topology::model::Sha256;
use crate::units::ByteSize;

/// Why an image could not be had. `place` is the path or the address (without login) that the user wrote.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The system refused something.
    #[error("cannot {doing} {}", .path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// There is no such file.
    #[error("there is no image {}", .path.display())]
    Missing {
        /// The path.
        path: PathBuf,
        /// What is there, in the nearest directory that exists.
        nearby: Nearby,
    },
    /// A directory, a socket and so on.
    #[error("the image {} is no file but a {what}", .path.display())]
    NoFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What it holds, if it is a directory.
        nearby: Nearby,
    },
    /// Recognisably something else than a disk.
    #[error("the image {place} is no disk but {alien}")]
    NoDisk {
        /// The image.
        place: String,
        /// What it is.
        alien: Alien,
    },
    /// A qcow2 that is damaged or not taken.
    #[error("the qcow2 image {place} {refusal}")]
    Qcow2 {
        /// The image.
        place: String,
        /// Why.
        refusal: Refusal,
    },
    /// A raw disk shorter than its GPT says.
    #[error("the raw image {place} is truncated: it has {size} bytes, its GPT was made for {whole}")]
    Short {
        /// The image.
        place: String,
        /// Its size in bytes.
        size: u64,
        /// The size it should have.
        whole: u64,
    },
    /// More than a disk may have here.
    #[error("the image {place} has more than {limit} when unpacked, the most that is taken")]
    Bomb {
        /// The image.
        place: String,
        /// The limit.
        limit: ByteSize,
    },
    /// A raw disk larger than any that is taken.
    #[error("the image {place} has {size}; {limit} is the most that is taken")]
    Large {
        /// The image.
        place: String,
        /// Its size.
        size: ByteSize,
        /// The limit.
        limit: ByteSize,
    },
    /// The compressed file ends too early.
    #[error("the image {place} is truncated: its {codec} data end in the middle, after {size} bytes")]
    Cut {
        /// The image.
        place: String,
        /// How it is compressed.
        codec: Codec,
        /// The size of the file.
        size: u64,
    },
    /// The compressed file is damaged.
    #[error("the image {place} is damaged: {codec} data near byte {at} ({reason})")]
    Corrupt {
        /// The image.
        place: String,
        /// How it is compressed.
        codec: Codec,
        /// Where, in compressed bytes.
        at: u64,
        /// What the decoder says.
        reason: String,
    },
    /// Unpacking it would need more memory than is given to it.
    #[error(
        "the image {place} needs too much memory to be unpacked: its {codec} window is too large ({reason})"
    )]
    Greedy {
        /// The image.
        place: String,
        /// How it is compressed.
        codec: Codec,
        /// What the decoder says.
        reason: String,
    },
    /// Something follows the compressed data.
    #[error("the image {place} has something else after its {codec} data, from byte {at}")]
    Trailing {
        /// The image.
        place: String,
        /// How it is compressed.
        codec: Codec,
        /// Where.
        at: u64,
    },
    /// Compressed more than once.
    #[error("the image {place} is compressed twice: {inner} within {outer}")]
    Twice {
        /// The image.
        place: String,
        /// Outside.
        outer: Codec,
        /// Inside.
        inner: Codec,
    },
    /// The disk under the store is too small.
    #[error("not enough space in {} for {place}: it needs {} bytes or more ({needs}), {} are free ({free})", .dir.display(), .needs.0, .free.0)]
    NoRoom {
        /// The image.
        place: String,
        /// The store.
        dir: PathBuf,
        /// What is needed.
        needs: ByteSize,
        /// What is free.
        free: ByteSize,
    },
    /// A tar that is no box that can be used.
    #[error("the box {place} {error}")]
    Box {
        /// The box.
        place: String,
        /// Why.
        error: BoxError,
    },
    /// Named as a box, but a disk.
    #[error("{place} is no Vagrant box but {found}")]
    NoBox {
        /// The file.
        place: String,
        /// What it is.
        found: &'static str,
    },
    /// The HTTP client could not be made.
    #[error("cannot set up HTTPS to fetch {place}")]
    Client {
        /// The address.
        place: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The server answered, but not with the file.
    #[error("{place} was answered with status {status}{}", .page.as_ref().map(|page| format!(" and {page}")).unwrap_or_default())]
    Status {
        /// The address, without login.
        place: String,
        /// The HTTP status.
        status: reqwest::StatusCode,
        /// What the answer's body was, if that is telling.
        page: Option<Alien>,
    },
    /// No answer, or one that broke off, after all attempts.
    #[error("cannot fetch {place} ({attempts} attempts, {got} bytes so far)")]
    Fetch {
        /// The address, without login.
        place: String,
        /// How often it was tried since the last byte came.
        attempts: usize,
        /// How much is there.
        got: u64,
        /// The last failure.
        #[source]
        source: Broken,
    },
    /// What came is not what was asked for.
    #[error(
        "{place} has the SHA-256 digest\n    {got}, but\n    {wanted} is asked for{}",
        .alien.as_ref().map(|alien| format!("; what was served is {alien}")).unwrap_or_default()
    )]
    WrongHash {
        /// The address, without login.
        place: String,
        /// What the topology asks for.
        wanted: Sha256,
        /// What the server served.
        got: Sha256,
        /// What it is, if it is no disk.
        alien: Option<Box<Alien>>,
    },
    /// A node's disk would be smaller than its image.
    #[error("a disk of {} bytes ({wanted}) is smaller than its image {}, which has {} bytes ({image})", .wanted.0, .path.display(), .image.0)]
    Shrinks {
        /// What was asked for.
        wanted: ByteSize,
        /// What the image has.
        image: ByteSize,
        /// The image.
        path: PathBuf,
    },
    /// qemu-img is not there.
    #[error("cannot run qemu-img")]
    NoTool(#[source] io::Error),
    /// qemu-img failed.
    #[error("qemu-img could not make {}: {said}", .path.display())]
    Tool {
        /// What was to be made.
        path: PathBuf,
        /// What it says.
        said: String,
    },
    /// The work was given up because nobody waits for it any more.
    #[error("preparing {place} was given up")]
    Stopped {
        /// The image.
        place: String,
    },
}

/// The names in a directory, for someone who looks for one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nearby {
    /// The directory.
    pub dir: PathBuf,
    /// Some of its names, sorted.
    pub names: Vec<String>,
}

impl Nearby {
    fn hint(&self) -> String {
        if self.names.is_empty() {
            format!("{} holds nothing that could be meant.", self.dir.display())
        } else {
            format!("{} holds: {}.", self.dir.display(), self.names.join(", "))
        }
    }
}

/// How one attempt to fetch failed; another may do better.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The connection could not be made, or broke.
    #[error("the connection failed")]
    Connection(#[source] reqwest::Error),
    /// The body ended before the announced length.
    #[error("the answer ended after {got} of {whole} bytes")]
    Short {
        /// What came.
        got: u64,
        /// What was announced.
        whole: u64,
    },
    /// The server is at fault, or busy.
    #[error("the server answered with status {0}")]
    Status(reqwest::StatusCode),
    /// A part was asked for and another one came.
    #[error("the server answered with another part of the file than was asked for ({0})")]
    OtherPart(String),
}

impl Fault for ImageError {
    fn help(&self) -> Option<String> {
        Some(match self {
            Self::Io { .. } => return None,
            Self::Missing { nearby, .. } => {
                format!("{}\nA path is relative to the put's inputs: its first part is the name of a get or task output.", nearby.hint())
            }
            Self::NoFile { nearby, .. } => format!("Name the disk image itself. {}", nearby.hint()),
            Self::NoDisk { alien, .. } => alien.cure(),
            Self::Qcow2 { refusal, .. } => refusal_cure(refusal),
            Self::Short { .. } | Self::Cut { .. } => {
                "Fetch or make the file again: the step that wrote it did not finish, or its disk was full.".to_owned()
            }
            Self::Corrupt { .. } => "Compare its checksum with the one where it came from, and fetch it again.".to_owned(),
            Self::Bomb { .. } | Self::Large { .. } => "Use a smaller image: a node's disk can be larger than its image (disk: 100GiB).".to_owned(),
            Self::Greedy { .. } => "Compress it with a smaller window: zstd without --long, xz with a preset (-0 to -9).".to_owned(),
            Self::Trailing { .. } => "Compress the image alone, in one file.".to_owned(),
            Self::Twice { inner, .. } => format!("Unpack it once before, so that only {inner} is left."),
            Self::NoRoom { .. } => "Free space on the worker, use a smaller image, or give a qcow2 as an input: that is used in place.".to_owned(),
            Self::Box { error, .. } => return error.help(),
            Self::NoBox { .. } => "Name it as image: {file: …} instead of image: {box: …}.".to_owned(),
            Self::Client { .. } => "Install the package ca-certificates, or name a file of certificates in SSL_CERT_FILE.".to_owned(),
            Self::Status { status, .. } => status_cure(*status),
            Self::Fetch { .. } => "See whether the worker reaches that host (http_proxy, https_proxy and no_proxy are honoured). What came is kept: \
                the next attempt with the same store goes on from there."
                .to_owned(),
            Self::WrongHash { .. } => "If the publisher has replaced the file, take the new digest from the publisher's own list; if not, the address serves \
                something else. What came was deleted."
                .to_owned(),
            Self::Shrinks { image, .. } => format!("Ask for disk: {image} or more, or leave disk out."),
            Self::NoTool(_) => "Install the package qemu-utils; the resource's own image has it.".to_owned(),
            Self::Tool { .. } | Self::Stopped { .. } => return None,
        })
    }
}

fn refusal_cure(refusal: &Refusal) -> String {
    match refusal {
        Refusal::BackingFile(_) | Refusal::ExternalData(_) => {
            "An image must be complete in one file. Flatten it where it was made: qemu-img convert -O qcow2 IMAGE flat.qcow2"
        }
        Refusal::Encrypted(_) => "Decrypt it where its key is: qemu-img convert -O qcow2 … IMAGE plain.qcow2",
        Refusal::Version(_) | Refusal::Features(_) | Refusal::Compression(_) => {
            "Convert it with the QEMU that made it: qemu-img convert -O qcow2 -o compat=1.1 IMAGE disk.qcow2"
        }
        Refusal::Short | Refusal::Truncated { .. } => {
            "Fetch or make the file again: the step that wrote it did not finish, or its disk was full."
        }
        Refusal::Large(_) | Refusal::Small(_) | Refusal::Damaged(_) | Refusal::MarkedCorrupt | Refusal::Magic => {
            "See what qemu-img check says of it, on a machine where that is safe, and make it again."
        }
    }
    .to_owned()
}

fn status_cure(status: reqwest::StatusCode) -> String {
    match status.as_u16() {
        401 | 403 => "The server wants a login, or the link has expired. A login is written as https://USER:PASSWORD@host/…; it is not shown.",
        404 | 410 => "The file is not there (any more): publishers remove old images. Look for the current address.",
        _ => "Open the address by hand, and see what the server says.",
    }
    .to_owned()
}
