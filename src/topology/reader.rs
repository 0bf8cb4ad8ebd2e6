//! Walks a value and gathers everything that is wrong with it, each with its path.
//!
//! Deriving would stop at the first error and speak of Rust's types; people want all of them, in their own words.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::problems::{Problem, Problems, did_you_mean, listed, nearest, quoted, segment};

/// Where the problems of one document are gathered.
#[derive(Default)]
pub(crate) struct Report {
    problems: RefCell<Vec<Problem>>,
}

impl Report {
    pub fn add(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// The same, unless it was told already.
    pub fn add_once(&self, problem: Problem) {
        if !self.problems.borrow().contains(&problem) {
            self.add(problem);
        }
    }

    /// `Ok` where nothing was wrong.
    pub fn done<T>(self, made: Option<T>) -> Result<T, Problems> {
        let problems = self.problems.into_inner();
        match made {
            Some(made) if problems.is_empty() => Ok(made),
            // Nothing made and nothing told would be a fault of this program, and must not pass for success.
            _ if problems.is_empty() => Err(Problems::one("", "cannot be read")),
            _ => Err(Problems(problems)),
        }
    }
}

/// A value and where it stands.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    pub path: String,
    pub value: &'a Value,
    pub report: &'a Report,
}

impl<'a> Cursor<'a> {
    pub fn new(path: impl Into<String>, value: &'a Value, report: &'a Report) -> Self {
        Self {
            path: path.into(),
            value,
            report,
        }
    }

    /// Tells that this value is wrong.
    pub fn wrong(&self, message: impl Into<String>) {
        self.wrong_hint(message, None);
    }

    /// The same, with what was probably meant.
    pub fn wrong_hint(&self, message: impl Into<String>, hint: Option<String>) {
        self.report
            .add(Problem::new(self.path.clone(), message).hint(hint.or_else(|| self.variable())));
    }

    /// `SHOWN: use EXPECTED`, for a value of a wrong type or form.
    pub fn expected(&self, expected: impl Display) {
        self.expected_hint(expected, None);
    }

    pub fn expected_hint(&self, expected: impl Display, hint: Option<String>) {
        self.wrong_hint(format!("{}: use {expected}", shown(self.value)), hint);
    }

    /// A credential that Concourse did not fill in stays as `((name))`.
    fn variable(&self) -> Option<String> {
        let text = self.value.as_str()?;
        (text.contains("((") && text.contains("))"))
            .then(|| "it looks like a Concourse variable that was not filled in".to_owned())
    }

    /// A mapping with fields of ours.
    pub fn object(&self, expected: &str) -> Option<Object<'a>> {
        match self.value {
            Value::Object(map) => Some(Object {
                path: self.path.clone(),
                map,
                report: self.report,
                asked: RefCell::default(),
            }),
            _ => {
                self.expected(expected);
                None
            }
        }
    }

    /// A mapping with names of the user's.
    pub fn entries(&self, expected: &str) -> Option<Vec<(&'a str, Cursor<'a>)>> {
        let Value::Object(map) = self.value else {
            self.expected(expected);
            return None;
        };
        Some(
            map.iter()
                .map(|(key, value)| (key.as_str(), self.at(&segment(key), value)))
                .collect(),
        )
    }

    /// A list of at most `most` items.
    pub fn list(&self, most: usize, expected: &str) -> Option<Vec<Cursor<'a>>> {
        let Value::Array(items) = self.value else {
            self.expected(expected);
            return None;
        };
        if items.len() > most {
            self.wrong(format!("has {} items: {most} are the most", items.len()));
            return None;
        }
        let item = |(index, value)| Cursor::new(format!("{}[{index}]", self.path), value, self.report);
        Some(items.iter().enumerate().map(item).collect())
    }

    fn at(&self, key: &str, value: &'a Value) -> Cursor<'a> {
        Cursor::new(below(&self.path, key), value, self.report)
    }

    pub fn text(&self, expected: &str) -> Option<&'a str> {
        match self.value {
            Value::String(text) => Some(text),
            Value::Number(_) | Value::Bool(_) => {
                self.expected_hint(expected, Some("put it in quotes, so that it is text".to_owned()));
                None
            }
            _ => {
                self.expected(expected);
                None
            }
        }
    }

    /// A whole number within `range`.
    pub fn whole(&self, range: &RangeInclusive<u64>) -> Option<u64> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        match self.value {
            Value::Number(number) => match number.as_u64() {
                Some(number) if range.contains(&number) => Some(number),
                _ => {
                    self.expected(expected);
                    None
                }
            },
            Value::String(text) if text.parse::<u64>().is_ok() => {
                let hint = "leave the quotes out; fly's -v makes text of every number, its -y does not";
                self.expected_hint(expected, Some(hint.to_owned()));
                None
            }
            _ => {
                self.expected(expected);
                None
            }
        }
    }

    /// Text that parses, where the error's own text is an instruction: `"2 GB": use a number with MiB or GiB`.
    pub fn parsed<T: FromStr>(&self, hint: impl FnOnce(&str) -> Option<String>) -> Option<T>
    where
        T::Err: Display,
    {
        let refuse = |error: T::Err, hint| {
            self.wrong_hint(format!("{}: {error}", shown(self.value)), hint);
            None
        };
        match self.value {
            Value::String(text) => text.parse().map_or_else(|error| refuse(error, hint(text)), Some),
            Value::Number(number) => {
                // Refused by the same parser, for the sake of its words.
                number
                    .to_string()
                    .parse()
                    .map_or_else(|error| refuse(error, None), Some)
            }
            _ => "".parse().map_or_else(|error| refuse(error, None), |_: T| None),
        }
    }

    /// Text that becomes a checked type, where the error goes on a sentence: `"x" is no disk serial: use …`.
    pub fn checked<T: TryFrom<String>>(&self, expected: &str) -> Option<T>
    where
        T::Error: Display,
    {
        let text = self.text(expected)?;
        match T::try_from(text.to_owned()) {
            Ok(made) => Some(made),
            Err(error) => {
                self.wrong(format!("{} {error}", quoted(text)));
                None
            }
        }
    }

    /// true or false. YAML 1.1's yes, no, on and off are words here, as YAML 1.2 has them: told, not guessed.
    pub fn yes_or_no(&self) -> Option<bool> {
        let found = self.value.as_bool();
        if found.is_none() {
            let meant = match self.value.as_str().map(str::to_ascii_lowercase).as_deref() {
                Some("yes" | "on" | "true") => Some("did you mean true, without quotation marks?"),
                Some("no" | "off" | "false") => Some("did you mean false, without quotation marks?"),
                _ => None,
            };
            self.expected_hint("true or false", meant.map(str::to_owned));
        }
        found
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, choices: &[(&'static str, T)]) -> Option<T> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let found = self
            .value
            .as_str()
            .and_then(|text| choices.iter().find(|(name, _)| *name == text));
        if found.is_none() {
            let hint = self
                .value
                .as_str()
                .and_then(|text| did_you_mean(text, names.iter().copied()));
            self.expected_hint(listed(&names, "or"), hint);
        }
        found.map(|(_, value)| *value)
    }
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// A value as it stands in a message.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing is given".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

/// A mapping whose fields are asked for by name; what was never asked for is unknown.
///
/// What is asked for is thus the one list of known fields: a test compares it with the published schema.
pub(crate) struct Object<'a> {
    pub path: String,
    map: &'a Map<String, Value>,
    report: &'a Report,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Object<'a> {
    /// The field of that name, where it was written.
    pub fn field(&self, name: &'static str) -> Option<Cursor<'a>> {
        self.asked.borrow_mut().insert(name);
        self.map
            .get(name)
            .map(|value| Cursor::new(below(&self.path, name), value, self.report))
    }

    /// The field of that name; told as missing where it was not written.
    pub fn required(&self, name: &'static str, expected: &str) -> Option<Cursor<'a>> {
        let field = self.field(name);
        if field.is_none() && !self.misspelt(name) {
            self.report.add(Problem::new(
                below(&self.path, name),
                format!("is missing: use {expected}"),
            ));
        }
        field
    }

    /// Where its problems are gathered.
    pub fn report(&self) -> &'a Report {
        self.report
    }

    /// A required field under a near miss of its name is told once, as that.
    pub fn misspelt(&self, name: &str) -> bool {
        self.map.keys().any(|key| nearest(key, [name]).is_some())
    }

    /// Tells that the mapping as a whole is wrong.
    pub fn wrong(&self, message: impl Into<String>) {
        self.report.add(Problem::new(self.path.clone(), message));
    }

    /// Tells of every field that nobody asked for. `explain` may know more of a name that belongs elsewhere.
    pub fn finish(self, explain: impl Fn(&str) -> Option<String>) {
        let asked = self.asked.into_inner();
        for key in self.map.keys().filter(|key| !asked.contains(key.as_str())) {
            let near = nearest(key, asked.iter().copied()).map(|name| format!("did you mean {name}?"));
            let known: Vec<&str> = asked.iter().copied().collect();
            let hint = match known.as_slice() {
                [] => "there are no fields here".to_owned(),
                known => format!("use {}", listed(known, "or")),
            };
            let hint = near.or_else(|| explain(key)).unwrap_or(hint);
            self.report
                .add(Problem::new(below(&self.path, &segment(key)), "no such field").hint(Some(hint)));
        }
    }
}
