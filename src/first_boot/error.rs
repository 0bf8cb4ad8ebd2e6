//! What can be wrong with a first-boot configuration.

use std::path::PathBuf;

use crate::fault::Fault;
use crate::units::ByteSize;

/// Why a seed could not be written, or why a first-boot configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum FirstBootError {
    /// A file could not be written.
    #[error("cannot write the seed {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The FAT image could not be made.
    #[error("cannot make the seed image {}", path.display())]
    Image {
        /// The image.
        path: PathBuf,
        /// What the FAT library said.
        #[source]
        source: std::io::Error,
    },
    /// A file of the user's is too large.
    #[error("{what} has {size}: the seed takes {}", ByteSize(super::MAX_USER_BYTES as u64))]
    TooLarge {
        /// Which of the user's files.
        what: &'static str,
        /// Its size.
        size: ByteSize,
    },
    /// A compressed file unpacks to too much.
    #[error("{what} unpacks to more than {}", ByteSize(super::MAX_USER_BYTES as u64))]
    Unpacks {
        /// Which of the user's files.
        what: &'static str,
    },
    /// A file with gzip's magic number that is not gzip.
    #[error("{what} starts like gzip but cannot be unpacked")]
    Gzip {
        /// Which of the user's files.
        what: &'static str,
        /// What the decompressor said.
        #[source]
        source: std::io::Error,
    },
    /// Nothing in it.
    #[error("{what} is empty")]
    Empty {
        /// Which of the user's files.
        what: &'static str,
    },
    /// cloud-init would ignore it.
    #[error("user_data starts with {found:?}, which cloud-init does not know: it would ignore the file")]
    UnknownKind {
        /// Its first line, cut short.
        found: String,
    },
    /// Text that must be UTF-8 and is not.
    #[error("{what} is not UTF-8 (byte {at})")]
    NotUtf8 {
        /// Which of the user's files.
        what: &'static str,
        /// The offset of the first bad byte.
        at: usize,
    },
    /// A MIME message without parts.
    #[error("user_data is a MIME message {why}")]
    Mime {
        /// What is wrong with it.
        why: &'static str,
    },
    /// A syntax error.
    #[error("{what} is not valid {format}, line {line}, column {column}: {message}")]
    Syntax {
        /// Which of the user's files.
        what: &'static str,
        /// YAML or JSON.
        format: &'static str,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What the parser said.
        message: String,
    },
    /// Parses, but is of the wrong shape.
    #[error("{what}{at} {problem}")]
    Shape {
        /// Which of the user's files.
        what: &'static str,
        /// Where in it: `: users`, or nothing for the whole.
        at: String,
        /// What is wrong there.
        problem: String,
        /// What to do.
        help: &'static str,
    },
    /// Butane where Ignition is wanted.
    #[error("ignition holds YAML: that is a Butane configuration, which no machine reads")]
    Butane,
    /// An Ignition specification that cannot be merged with.
    #[error("ignition: ignition.version is {found:?}: 3.0.0 or later is needed")]
    IgnitionVersion {
        /// What was found.
        found: String,
    },
    /// The user's configuration would lock us out.
    #[error("{what}: {setting} would keep the nodes from being reached: {why}")]
    LocksOut {
        /// Which of the user's files.
        what: &'static str,
        /// The setting.
        setting: String,
        /// Why.
        why: String,
        /// What to do.
        help: String,
    },
}

impl FirstBootError {
    /// A JSON error with its place.
    pub(super) fn json(what: &'static str, error: &serde_json::Error) -> Self {
        Self::syntax(what, "JSON", (error.line(), error.column()), &error.to_string())
    }

    /// A parser's error; its message is cut where it tells the place once more.
    pub(super) fn syntax(
        what: &'static str,
        format: &'static str,
        (line, column): (usize, usize),
        said: &str,
    ) -> Self {
        Self::Syntax {
            what,
            format,
            line,
            column,
            message: said.split(" at line ").next().unwrap_or_default().to_owned(),
        }
    }
}

impl Fault for FirstBootError {
    fn help(&self) -> Option<String> {
        let text = match self {
            Self::Write { .. } | Self::Image { .. } => {
                "Check that the directory is there, is writable, and has free space."
            }
            Self::TooLarge { .. } | Self::Unpacks { .. } => {
                "Put large files into the disk image, or let the node fetch them in its own script."
            }
            Self::Gzip { .. } => "Give the file uncompressed, or pack it again with gzip.",
            Self::Empty { what } => return Some(format!("Fill the file, or leave {what} out.")),
            Self::UnknownKind { .. } => {
                "The first line must be #cloud-config, #! with an interpreter, ## template: jinja, #include, \
                 #include-once, #cloud-boothook, #cloud-config-archive, #cloud-config-jsonp or #part-handler; or the \
                 file must be a MIME message (MIME-Version:) or gzip."
            }
            Self::NotUtf8 { .. } => "Save the file as UTF-8.",
            Self::Mime { .. } => "Make it with `cloud-init devel make-mime`.",
            Self::Syntax { format: "YAML", .. } => "Check the indentation there; YAML takes no tabs.",
            Self::Syntax { .. } => "Correct the file at that place.",
            Self::Shape { help, .. } => help,
            Self::Butane => "Translate it first: butane --strict node.bu > node.ign.",
            Self::IgnitionVersion { .. } => {
                "Translate a 1.x or 2.x configuration with ign-converter, or write it as Butane and run butane."
            }
            Self::LocksOut { help, .. } => return Some(help.clone()),
        };
        Some(text.to_owned())
    }
}
