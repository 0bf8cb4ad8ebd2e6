//! Names, paths and texts that are safe in libvirt's XML, because they can hold nothing else.
//!
//! XML 1.0 cannot express control characters at all, not even escaped (§2.2), and quick-xml writes them as they are.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::topology::name::Name;

/// The name of a domain or network in libvirt: `CLUSTER-NAME`, so that clusters that share a libvirtd do not collide.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ObjectName(String);

impl ObjectName {
    /// The name of a cluster's node or network.
    pub fn new(cluster: &Name, name: &Name) -> Self {
        Self(format!("{cluster}-{name}"))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a path was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadPath {
    /// Where it leads depends on libvirtd's working directory.
    #[error("the path {0:?} is not absolute")]
    Relative(PathBuf),
    /// It holds what XML cannot.
    #[error("the path {0:?} holds bytes that are not UTF-8, or control characters")]
    Unprintable(PathBuf),
}

/// A file's absolute path, UTF-8 and without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct FilePath(String);

impl FilePath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path as a path.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl TryFrom<&Path> for FilePath {
    type Error = BadPath;

    fn try_from(path: &Path) -> Result<Self, BadPath> {
        if !path.is_absolute() {
            return Err(BadPath::Relative(path.to_owned()));
        }
        match path.to_str() {
            Some(text) if text.chars().all(is_plain) => Ok(Self(text.to_owned())),
            _ => Err(BadPath::Unprintable(path.to_owned())),
        }
    }
}

impl TryFrom<PathBuf> for FilePath {
    type Error = BadPath;

    fn try_from(path: PathBuf) -> Result<Self, BadPath> {
        Self::try_from(path.as_path())
    }
}

/// One line for people to read, such as a domain's title. What XML cannot hold becomes a space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Text(String);

impl Text {
    /// The text, cleaned.
    pub fn new(text: impl AsRef<str>) -> Self {
        let clean: String = text
            .as_ref()
            .chars()
            .map(|c| if is_plain(c) { c } else { ' ' })
            .collect();
        Self(clean.trim().to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether XML 1.0 can hold the character and give it back unchanged, in an attribute too.
fn is_plain(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}')
}
