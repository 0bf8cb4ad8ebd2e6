//! Everything that is wrong with what a user wrote, each with its place in the user's own terms.

use std::fmt;

use crate::fault::Fault;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: `nodes.worker.memory`, `params.action`, a file's path, or empty for the whole document.
    pub path: String,
    /// What is wrong and what to write instead.
    pub message: String,
    /// What was probably meant.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem without a hint.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
            hint: None,
        }
    }

    /// The same with a hint, where there is one.
    pub fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// All of them at once, so that a user need not mend one a run. Prints one a line. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

/// More than this would bury the first ones in the build log.
const SHOWN: usize = 50;

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().take(SHOWN).enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        if self.0.len() > SHOWN {
            write!(f, "\n… and {} more", self.0.len() - SHOWN)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl Fault for Problems {}

impl Problems {
    /// A single problem.
    pub fn one(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self(vec![Problem::new(path, message)])
    }

    /// The same problems with every path rewritten: what reads a part tells where in the whole it stood.
    pub fn relocate(mut self, place: impl Fn(&str) -> String) -> Self {
        for problem in &mut self.0 {
            problem.path = place(&problem.path);
        }
        self
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// The one of `known` that `written` was probably meant to be.
pub(crate) fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // What people call a field elsewhere (compose files, Kubernetes, libvirt's own XML).
    const ELSEWHERE: [(&str, &str); 12] = [
        ("ram", "memory"),
        ("mem", "memory"),
        ("vcpu", "cpus"),
        ("vcpus", "cpus"),
        ("cores", "cpus"),
        ("replicas", "count"),
        ("nics", "networks"),
        ("ports", "forward"),
        ("ttl", "lifetime"),
        ("disks", "extra_disks"),
        ("subnet", "nat"),
        ("checksum", "sha256"),
    ];
    let plain = |text: &str| text.to_lowercase().replace(['-', '_'], "");
    // A long text is no misspelt name; and the distance costs the product of both lengths.
    if written.len() > 80 {
        return None;
    }
    let wanted = plain(written);
    let known: Vec<&str> = known.into_iter().collect();
    let alias = ELSEWHERE
        .iter()
        .find(|(theirs, _)| *theirs == wanted)
        .map(|(_, ours)| *ours);
    if let Some(found) = known.iter().find(|name| Some(**name) == alias) {
        return Some(found);
    }
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wanted, &plain(name)), name))
        .filter(|(distance, name)| *distance <= (name.len().max(wanted.len()) / 3).max(1))
        .filter(|(distance, name)| *distance < name.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `did you mean worker?`, where something near is known; names are quoted where they are values.
pub(crate) fn did_you_mean<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    nearest(written, known).map(|name| format!("did you mean {name:?}?"))
}

/// `a, b and c`, cut where it gets long. Names of the user's own among them are made fit for a log.
pub(crate) fn listed<T: AsRef<str>>(names: &[T], joint: &str) -> String {
    const MOST: usize = 25;
    let fit = |name: &T| {
        let name = name.as_ref();
        if name.chars().any(char::is_control) || name.len() > 100 {
            quoted(name)
        } else {
            name.to_owned()
        }
    };
    let names: Vec<String> = names.iter().map(fit).collect();
    if names.len() > MOST {
        return format!("{} and {} more", names[..MOST].join(", "), names.len() - MOST);
    }
    match names.split_last() {
        None => "nothing".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} {joint} {last}", rest.join(", ")),
    }
}

/// A text as it may stand in a message: quoted, escaped (a build log interprets terminal codes), cut where long.
pub(crate) fn quoted(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// A key as it may stand in a path.
pub(crate) fn segment(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !key.is_empty() && key.len() <= 63 && key.chars().all(plain) {
        key.to_owned()
    } else {
        quoted(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_are_recognised() {
        let known = ["cpus", "memory", "disk", "extra_disks", "networks", "ssh_user"];
        for (written, meant) in [
            ("memroy", Some("memory")),
            ("Memory", Some("memory")),
            ("cpu", Some("cpus")),
            ("ram", Some("memory")),
            ("extraDisks", Some("extra_disks")),
            ("ssh-user", Some("ssh_user")),
            ("network", Some("networks")),
            ("zebra", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(written, known), meant, "{written}");
        }
    }

    #[test]
    fn nothing_of_the_users_reaches_the_terminal_raw() {
        assert_eq!(segment("a\u{1b}[31m"), "\"a\\u{1b}[31m\"");
        assert_eq!(listed(&["a\tb", "c"], "or"), "\"a\\tb\" or c");
        assert_eq!(quoted(&"x".repeat(100)), format!("\"{}\"…", "x".repeat(60)));
    }

    #[test]
    fn a_long_list_of_problems_is_cut() {
        let many = Problems(
            (0..60)
                .map(|n| Problem::new(format!("p{n}"), "is wrong"))
                .collect(),
        );
        assert_eq!(many.to_string().lines().count(), 51);
        assert!(many.to_string().ends_with("… and 10 more"));
    }
}
