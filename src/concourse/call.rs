//! How Concourse calls a program of the resource: standard input, one argument, standard error.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::PathBuf;

use crate::fault::{Fault, tell};

/// The longest request that is read: a topology inline has some 20 KiB.
pub const MAX_REQUEST: usize = 256 << 10;

/// What was wrong with the call itself.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No directory was given.
    #[error("{program}: the directory is missing from the command line")]
    NoDirectory {
        /// `in` or `out`.
        program: &'static str,
    },
    /// More than one argument was given.
    #[error("{program}: {count} arguments on the command line where one is expected")]
    ManyArguments {
        /// `in` or `out`.
        program: &'static str,
        /// How many there were.
        count: usize,
    },
    /// The argument is no directory.
    #[error("{program}: {} is no directory", path.display())]
    NotADirectory {
        /// `in` or `out`.
        program: &'static str,
        /// What was given.
        path: PathBuf,
    },
    /// Standard input ended in an error.
    #[error("stdin: the request cannot be read")]
    Unreadable(#[source] io::Error),
    /// Standard input does not end where a request would.
    #[error("stdin: the request has more than {MAX_REQUEST} bytes")]
    TooLong,
    /// No event loop.
    #[error("the program's runtime does not start")]
    Runtime(#[source] io::Error),
    /// Standard output is gone.
    #[error("stdout: the answer cannot be written")]
    Unwritable(#[source] io::Error),
}

impl Fault for CallError {
    fn help(&self) -> Option<String> {
        match self {
            Self::NoDirectory { program }
            | Self::ManyArguments { program, .. }
            | Self::NotADirectory { program, .. } => Some(format!(
                "Concourse calls /opt/resource/{program} DIRECTORY; by hand, nodectl does the same."
            )),
            Self::TooLong => {
                Some("Put the topology into a file of an input and name it in params.topology.".to_owned())
            }
            Self::Unreadable(_) | Self::Runtime(_) | Self::Unwritable(_) => None,
        }
    }
}

/// The directory that Concourse names as the only argument: where `in` writes and `out` reads.
pub fn directory(
    program: &'static str,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<PathBuf, CallError> {
    let given: Vec<OsString> = arguments.into_iter().skip(1).collect();
    match <[OsString; 1]>::try_from(given) {
        Ok([path]) => {
            let path = PathBuf::from(path);
            if path.is_dir() {
                Ok(path)
            } else {
                Err(CallError::NotADirectory { program, path })
            }
        }
        Err(given) if given.is_empty() => Err(CallError::NoDirectory { program }),
        Err(given) => Err(CallError::ManyArguments {
            program,
            count: given.len(),
        }),
    }
}

/// Reads the whole request, as far as [`MAX_REQUEST`].
pub fn stdin(input: impl Read) -> Result<Vec<u8>, CallError> {
    let mut request = Vec::new();
    input
        .take(MAX_REQUEST as u64 + 1)
        .read_to_end(&mut request)
        .map_err(CallError::Unreadable)?;
    if request.len() > MAX_REQUEST {
        Err(CallError::TooLong)
    } else {
        Ok(request)
    }
}

/// A fault as the build log shows it. Concourse gives a step no terminal and shows colours all the same.
pub fn failure(fault: &dyn Fault) -> String {
    const RED: &str = "\u{1b}[1;31m";
    const PLAIN: &str = "\u{1b}[0m";
    tell(fault)
        .lines()
        .map(|line| {
            if line.starts_with("  help: ") {
                format!("{line}\n")
            } else {
                format!("{RED}error:{PLAIN} {line}\n")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(given: &[&str]) -> Vec<OsString> {
        given.iter().map(OsString::from).collect()
    }

    #[test]
    fn the_argument() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert_eq!(directory("in", arguments(&["in", path])).unwrap(), folder.path());
        for (given, told) in [
            (&["in"][..], "in: the directory is missing from the command line"),
            (
                &["in", "a", "b"],
                "in: 2 arguments on the command line where one is expected",
            ),
            (&["in", "/nonexistent"], "in: /nonexistent is no directory"),
        ] {
            assert_eq!(directory("in", arguments(given)).unwrap_err().to_string(), told);
        }
    }

    #[test]
    fn a_request_has_an_end() {
        assert_eq!(stdin(&b"{}"[..]).unwrap(), b"{}");
        assert!(matches!(stdin(io::repeat(b' ')), Err(CallError::TooLong)));
    }
}
