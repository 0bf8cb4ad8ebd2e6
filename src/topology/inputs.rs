//! The directory that a user's paths may not leave.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use super::limits;
use super::problems::{did_you_mean, listed, quoted};

/// The directory below which every path of a topology is looked up, and which none may leave.
#[derive(Clone, Debug)]
pub struct Inputs {
    root: PathBuf,
    of_step: bool,
}

/// Why a path was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadPath {
    pub message: String,
    pub hint: Option<String>,
}

impl BadPath {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn io(path: &str, error: &io::Error) -> Self {
        Self::new(format!("{} cannot be read: {error}", quoted(path)))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    File,
    Directory,
}

impl Inputs {
    /// The inputs of a put: the directory that Concourse hands to `out`, one folder an input.
    pub fn of_step(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            of_step: true,
        }
    }

    /// A plain folder: that of the topology file under `nodectl`.
    pub fn of_folder(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            of_step: false,
        }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The regular file that `path` names, symbolic links resolved.
    pub(crate) fn file(&self, path: &str) -> Result<PathBuf, BadPath> {
        self.resolve(path, Wanted::File)
    }

    /// The directory that `path` names, symbolic links resolved.
    pub(crate) fn directory(&self, path: &str) -> Result<PathBuf, BadPath> {
        self.resolve(path, Wanted::Directory)
    }

    /// The content of the file that `path` names, refused where it is longer than `most`.
    pub(crate) fn read(&self, path: &str, most: usize) -> Result<Vec<u8>, BadPath> {
        let found = self.file(path)?;
        let mut content = Vec::new();
        File::open(found)
            .and_then(|file| file.take(most as u64 + 1).read_to_end(&mut content))
            .map_err(|error| BadPath::io(path, &error))?;
        if content.len() > most {
            return Err(BadPath::new(format!(
                "{} is larger than {most} bytes, the most that is read of such a file",
                quoted(path)
            )));
        }
        Ok(content)
    }

    fn resolve(&self, path: &str, wanted: Wanted) -> Result<PathBuf, BadPath> {
        self.refuse_form(path)?;
        let root = fs::canonicalize(&self.root).map_err(|error| {
            BadPath::new(format!(
                "the folder {} cannot be read: {error}",
                quoted(&self.root.to_string_lossy())
            ))
        })?;
        let mut here = root.clone();
        let mut walked = String::new();
        for part in Path::new(path).components() {
            let Component::Normal(part) = part else { continue };
            let name = part.to_string_lossy();
            if here.is_file() {
                return Err(BadPath::new(format!(
                    "{}: {} is a file, not a folder",
                    quoted(path),
                    quoted(&walked)
                )));
            }
            let next = here.join(part);
            let found = match fs::canonicalize(&next) {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(self.missing(path, &here, &walked, &name, wanted));
                }
                Err(error) => return Err(BadPath::io(path, &error)),
            };
            if !found.starts_with(&root) {
                return Err(BadPath::new(format!(
                    "{} leads out of {} by a symbolic link",
                    quoted(path),
                    self.whose()
                )));
            }
            here = found;
            if !walked.is_empty() {
                walked.push('/');
            }
            walked.push_str(&name);
        }
        let kind = fs::metadata(&here).map_err(|error| BadPath::io(path, &error))?;
        match wanted {
            Wanted::File if kind.is_dir() => Err(BadPath::new(format!(
                "{} is a folder: name a file in it; {}",
                quoted(path),
                holds(&here)
            ))),
            Wanted::File if !kind.is_file() => {
                Err(BadPath::new(format!("{} is no regular file", quoted(path))))
            }
            Wanted::Directory if !kind.is_dir() => {
                Err(BadPath::new(format!("{} is a file, not a folder", quoted(path))))
            }
            // What is found goes into XML and command lines below.
            _ if here
                .to_str()
                .is_none_or(|text| text.chars().any(char::is_control)) =>
            {
                Err(BadPath::new(format!(
                    "{} stands for a path with control characters or not in UTF-8",
                    quoted(path)
                )))
            }
            _ => Ok(here),
        }
    }

    fn refuse_form(&self, path: &str) -> Result<(), BadPath> {
        if path.is_empty() {
            return Err(BadPath::new(format!("is empty: name a path in {}", self.whose())));
        }
        if path.len() > limits::PATH {
            return Err(BadPath::new(format!(
                "{} is longer than {} bytes",
                quoted(path),
                limits::PATH
            )));
        }
        if path.chars().any(char::is_control) {
            return Err(BadPath::new(format!(
                "{} holds a control character",
                quoted(path)
            )));
        }
        let mut parts = Path::new(path).components();
        if Path::new(path).is_absolute() {
            let bad = BadPath::new(format!(
                "{} is absolute: paths are relative to {}",
                quoted(path),
                self.whose()
            ));
            let inside = Path::new(path)
                .strip_prefix(&self.root)
                .ok()
                .and_then(Path::to_str)
                .filter(|rest| !rest.is_empty());
            return Err(match inside {
                Some(rest) => bad.hint(format!("did you mean {rest:?}?")),
                None => bad,
            });
        }
        if parts.any(|part| part == Component::ParentDir) {
            return Err(BadPath::new(format!(
                "{} has \"..\" in it: paths may not leave {}",
                quoted(path),
                self.whose()
            )));
        }
        if Path::new(path).components().all(|part| part == Component::CurDir) {
            return Err(BadPath::new(format!(
                "{} is the folder itself: name a path in {}",
                quoted(path),
                self.whose()
            )));
        }
        Ok(())
    }

    fn missing(&self, path: &str, here: &Path, walked: &str, name: &str, wanted: Wanted) -> BadPath {
        if fs::symlink_metadata(here.join(name)).is_ok() {
            return BadPath::new(format!(
                "{}: {} is a symbolic link that leads nowhere",
                quoted(path),
                quoted(name)
            ));
        }
        let there = names(here);
        // The first part forgotten is commoner than misspelt: `ci/nodes.yml` for `repo/ci/nodes.yml`.
        let below = there
            .iter()
            .filter(|_| walked.is_empty())
            .map(|input| format!("{input}/{path}"));
        let whole = below.into_iter().find(|whole| self.root.join(whole).exists());
        let near = did_you_mean(name, there.iter().map(String::as_str));
        let near = whole
            .map(|whole| format!("did you mean {}?", quoted(&whole)))
            .or(near)
            // The one directory that a put names is a cluster to destroy, in an `ensure` that runs after a failure, too.
            .or_else(|| {
                let never_made = wanted == Wanted::Directory && self.of_step && there.is_empty();
                never_made
                    .then(|| "a put that has failed left no artifact, and nothing to destroy".to_owned())
            });
        let is = if walked.is_empty() && self.of_step {
            format!(
                "{} is not there: {} is no input of this step, which has {}; an input comes from an earlier get or task, and Concourse hands over those alone that `params` names, or all with `inputs: all` on the put",
                quoted(path),
                quoted(name),
                listed(&there, "and")
            )
        } else {
            let place = if walked.is_empty() {
                "the topology's folder".to_owned()
            } else {
                quoted(walked)
            };
            format!(
                "{} is not there: {place} holds {}",
                quoted(path),
                listed(&there, "and")
            )
        };
        BadPath {
            message: is,
            hint: near,
        }
    }

    fn whose(&self) -> &'static str {
        if self.of_step {
            "the step's inputs"
        } else {
            "the topology's folder"
        }
    }
}

/// What stands in a folder, as a user sees it.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .map(|name| {
            name.chars()
                .map(|c| if c.is_control() { '?' } else { c })
                .collect()
        })
        .collect();
    names.sort();
    names
}

fn holds(folder: &Path) -> String {
    format!("it holds {}", listed(&names(folder), "and"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    fn step() -> (tempfile::TempDir, Inputs) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("repo/ci")).unwrap();
        fs::create_dir_all(root.join("os-image")).unwrap();
        fs::write(root.join("repo/ci/nodes.yml"), "nodes: {}").unwrap();
        fs::write(root.join("os-image/disk.qcow2"), "QFI").unwrap();
        symlink("/etc/passwd", root.join("repo/out")).unwrap();
        symlink("/nowhere/at/all", root.join("repo/nowhere")).unwrap();
        symlink("../os-image/disk.qcow2", root.join("repo/in.qcow2")).unwrap();
        let inputs = Inputs::of_step(root);
        (folder, inputs)
    }

    fn told(result: Result<PathBuf, BadPath>) -> String {
        let bad = result.unwrap_err();
        bad.message + &bad.hint.map(|hint| format!("; {hint}")).unwrap_or_default()
    }

    #[test]
    fn what_is_there_is_found() {
        let (folder, inputs) = step();
        let root = folder.path().canonicalize().unwrap();
        assert_eq!(
            inputs.file("os-image/disk.qcow2"),
            Ok(root.join("os-image/disk.qcow2"))
        );
        assert_eq!(
            inputs.file("./os-image//disk.qcow2"),
            Ok(root.join("os-image/disk.qcow2"))
        );
        assert_eq!(
            inputs.file("repo/in.qcow2"),
            Ok(root.join("os-image/disk.qcow2")),
            "a link within"
        );
        assert_eq!(inputs.directory("repo/ci"), Ok(root.join("repo/ci")));
        assert_eq!(inputs.read("os-image/disk.qcow2", 3), Ok(b"QFI".to_vec()));
    }

    #[test]
    fn what_is_not_there_is_told() {
        let (_folder, inputs) = step();
        for (path, text) in [
            ("", "is empty: name a path in the step's inputs"),
            (
                ".",
                "\".\" is the folder itself: name a path in the step's inputs",
            ),
            (
                "/etc/passwd",
                "\"/etc/passwd\" is absolute: paths are relative to the step's inputs",
            ),
            (
                "repo/../repo/ci/nodes.yml",
                "\"repo/../repo/ci/nodes.yml\" has \"..\" in it: paths may not leave the step's inputs",
            ),
            (
                "repo/out",
                "\"repo/out\" leads out of the step's inputs by a symbolic link",
            ),
            (
                "repo/nowhere",
                "\"repo/nowhere\": \"nowhere\" is a symbolic link that leads nowhere",
            ),
            (
                "repo/ci",
                "\"repo/ci\" is a folder: name a file in it; it holds nodes.yml",
            ),
            (
                "repo/ci/node.yml",
                "\"repo/ci/node.yml\" is not there: \"repo/ci\" holds nodes.yml; did you mean \"nodes.yml\"?",
            ),
            (
                "repo/ci/nodes.yml/x",
                "\"repo/ci/nodes.yml/x\": \"repo/ci/nodes.yml\" is a file, not a folder",
            ),
            (
                "os-imag/disk.qcow2",
                "\"os-imag/disk.qcow2\" is not there: \"os-imag\" is no input of this step, which has os-image and repo; an input comes from an earlier get or task, and Concourse hands over those alone that `params` names, or all with `inputs: all` on the put; did you mean \"os-image\"?",
            ),
            (
                "ci/nodes.yml",
                "\"ci/nodes.yml\" is not there: \"ci\" is no input of this step, which has os-image and repo; an input comes from an earlier get or task, and Concourse hands over those alone that `params` names, or all with `inputs: all` on the put; did you mean \"repo/ci/nodes.yml\"?",
            ),
            ("a\u{1b}b", "\"a\\u{1b}b\" holds a control character"),
        ] {
            assert_eq!(told(inputs.file(path)), text);
        }
        assert_eq!(
            told(inputs.directory("os-image/disk.qcow2")),
            "\"os-image/disk.qcow2\" is a file, not a folder"
        );
        let inside = inputs.root().join("repo/ci/nodes.yml");
        assert!(told(inputs.file(inside.to_str().unwrap())).ends_with("did you mean \"repo/ci/nodes.yml\"?"));
    }

    #[test]
    fn a_cluster_that_was_never_made_is_told_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let text = told(Inputs::of_step(folder.path().to_owned()).directory("nodes"));
        assert!(
            text.ends_with("; a put that has failed left no artifact, and nothing to destroy"),
            "{text}"
        );
    }

    #[test]
    fn too_long_a_file_is_refused() {
        let (_folder, inputs) = step();
        let bad = inputs.read("os-image/disk.qcow2", 2).unwrap_err();
        assert_eq!(
            bad.message,
            "\"os-image/disk.qcow2\" is larger than 2 bytes, the most that is read of such a file"
        );
    }

    proptest! {
        // Each case makes a folder.
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn no_path_leaves_the_root(path in "(repo|os-image|\\.|\\.\\.|out|ci|/|nodes.yml|x|é){0,5}(/(repo|\\.\\.|out|ci)){0,4}") {
            let (folder, inputs) = step();
            if let Ok(found) = inputs.file(&path) {
                prop_assert!(found.starts_with(folder.path().canonicalize().unwrap()));
            }
        }
    }
}
