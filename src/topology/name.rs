//! Names that are safe as host names, file names and XML, because they can hold nothing else.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a name was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadName {
    /// Nothing was written.
    #[error("is empty: use a name such as worker")]
    Empty,
    /// Longer than a DNS label may be.
    #[error("has {0} characters: a DNS label has 63 at most")]
    Long(usize),
    /// A first character that is no lower-case letter.
    #[error("begins with {0:?}: use lower-case letters, digits and '-', with a letter first and no '-' last")]
    First(char),
    /// A '-' at the end.
    #[error("ends with '-': use lower-case letters, digits and '-', with a letter first and no '-' last")]
    Last,
    /// A character that a host name cannot hold.
    #[error("holds {0:?}: use lower-case letters, digits and '-', with a letter first and no '-' last")]
    Character(char),
}

/// A node's, group's or network's name: a DNS label (RFC 1123) that starts with a letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        let first = text.chars().next().ok_or(BadName::Empty)?;
        if !first.is_ascii_lowercase() {
            return Err(BadName::First(first));
        }
        if let Some(bad) = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
            return Err(BadName::Character(bad));
        }
        if text.ends_with('-') {
            return Err(BadName::Last);
        }
        if text.len() > 63 {
            return Err(BadName::Long(text.len()));
        }
        Ok(Self(text))
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl std::str::FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::try_from(text.to_owned())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_a_name() {
        for (text, verdict) in [
            ("worker", None),
            ("w", None),
            ("worker-1", None),
            ("", Some(BadName::Empty)),
            ("1worker", Some(BadName::First('1'))),
            ("-worker", Some(BadName::First('-'))),
            ("worker-", Some(BadName::Last)),
            ("wOrker", Some(BadName::Character('O'))),
            ("work.er", Some(BadName::Character('.'))),
            ("work\ner", Some(BadName::Character('\n'))),
            (&"w".repeat(63), None),
            (&"w".repeat(64), Some(BadName::Long(64))),
        ] {
            assert_eq!(text.parse::<Name>().err(), verdict, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_a_dns_label_and_comes_back(text in "[a-z0-9-]{0,70}|.{0,10}") {
            if let Ok(name) = text.parse::<Name>() {
                prop_assert!(name.as_str().len() <= 63);
                prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
