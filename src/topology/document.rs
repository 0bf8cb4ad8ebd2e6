//! A document (YAML or JSON) becomes a value, with everything refused that would be read otherwise than it looks.
//!
//! Duplicate fields, merge keys, tags and several documents in one are refused; aliases are followed within a budget.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::problems::{Problem, Problems, segment};

/// The largest document that is read. A topology of 64 nodes written out one by one has some 20 KiB.
pub const MAX_DOCUMENT: usize = 256 << 10;

/// More values than a document of [`MAX_DOCUMENT`] bytes needs, fewer than aliases of aliases make.
const MAX_VALUES: usize = 100_000;

/// Bytes of text in the value: aliases may repeat a long text.
const MAX_TEXT: usize = 4 << 20;

/// Brackets within brackets: libyaml's scanner takes the square of them, so they are counted before it sees them.
const MAX_BRACKETS: usize = 200;

/// Reads YAML, of which JSON is nearly a part.
pub fn from_yaml(text: &str) -> Result<Value, Problems> {
    bounded(text)?;
    if unclosed_brackets(text) > MAX_BRACKETS {
        return Err(Problems::one(
            "",
            format!("is nested deeper than {MAX_BRACKETS} brackets"),
        ));
    }
    let reading = Reading::default();
    let result = reading
        .root()
        .deserialize(serde_yaml_ng::Deserializer::from_str(text));
    reading.finish(result, |error| yaml_problem(text, &error))
}

/// Reads JSON (RFC 8259), which must be the whole text.
pub fn from_json(text: &str) -> Result<Value, Problems> {
    bounded(text)?;
    let reading = Reading::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let result = reading
        .root()
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    reading.finish(result, |error| json_problem(&error))
}

/// Reads whichever of the two it is. Tabs may indent JSON and not YAML, so JSON is tried first where it starts so.
pub fn from_either(text: &str) -> Result<Value, Problems> {
    if text.trim_start_matches('\u{feff}').trim_start().starts_with('{') {
        let as_json = from_json(text);
        if as_json.is_ok() {
            return as_json;
        }
    }
    from_yaml(text)
}

fn bounded(text: &str) -> Result<(), Problems> {
    if text.len() <= MAX_DOCUMENT {
        return Ok(());
    }
    Err(Problems::one(
        "",
        format!(
            "has {} bytes: {MAX_DOCUMENT} are the most that is read",
            text.len()
        ),
    ))
}

fn unclosed_brackets(text: &str) -> usize {
    let mut open = 0usize;
    let mut most = 0;
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// A parser's message, which may quote a piece of the document, without what a terminal would interpret.
fn fit(message: &str) -> String {
    let mut fit = String::with_capacity(message.len());
    for c in message.chars() {
        if c.is_control() {
            fit.extend(c.escape_default())
        } else {
            fit.push(c)
        }
    }
    fit
}

/// libyaml's own words with the place in front.
pub(crate) fn yaml_problem(text: &str, error: &serde_yaml_ng::Error) -> Problem {
    let message = fit(&error.to_string());
    let Some(place) = error.location() else {
        // Without a place: aliases followed too often, a second document, bytes that are no UTF-8.
        let told = match message.as_str() {
            "repetition limit exceeded" => "grows too large: aliases repeat too much of it".to_owned(),
            _ if message.contains("more than one document") => {
                "holds more than one document: keep one".to_owned()
            }
            _ => message,
        };
        return Problem::new("", told);
    };
    let (line, column) = (place.line(), place.column());
    let message = message.replacen(&format!(" at line {line} column {column}"), "", 1);
    let source = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let tab = source.len() > source.trim_start().len() && source.starts_with(['\t', ' ']) && {
        source
            .chars()
            .take_while(|c| c.is_whitespace())
            .any(|c| c == '\t')
    };
    Problem::new("", format!("line {line}, column {column}: {message}"))
        .hint(tab.then(|| "the line is indented by a tab: YAML takes spaces only".to_owned()))
}

fn json_problem(error: &serde_json::Error) -> Problem {
    let message = fit(&error.to_string());
    let (line, column) = (error.line(), error.column());
    let message = message.replacen(&format!(" at line {line} column {column}"), "", 1);
    if line == 0 {
        return Problem::new("", message);
    }
    Problem::new("", format!("line {line}, column {column}: {message}"))
}

/// What is shared by the whole of one document.
#[derive(Default)]
struct Reading {
    values: Cell<usize>,
    text: Cell<usize>,
    problems: RefCell<Vec<Problem>>,
}

impl Reading {
    fn root(&self) -> Strict<'_> {
        Strict {
            reading: self,
            path: String::new(),
        }
    }

    fn finish<E>(self, result: Result<Value, E>, tell: impl FnOnce(E) -> Problem) -> Result<Value, Problems> {
        let mut problems = self.problems.into_inner();
        match result {
            Ok(value) if problems.is_empty() => Ok(value),
            Ok(_) => Err(Problems(problems)),
            Err(error) => {
                problems.insert(0, tell(error));
                Err(Problems(problems))
            }
        }
    }
}

/// Reads one value and everything in it.
struct Strict<'r> {
    reading: &'r Reading,
    path: String,
}

impl<'r> Strict<'r> {
    fn count<E: serde::de::Error>(&self, text: usize) -> Result<(), E> {
        let reading = self.reading;
        reading.values.set(reading.values.get() + 1);
        reading.text.set(reading.text.get() + text);
        if reading.values.get() > MAX_VALUES || reading.text.get() > MAX_TEXT {
            return Err(E::custom("grows too large: aliases repeat too much of it"));
        }
        Ok(())
    }

    fn below(&self, key: &str) -> Strict<'r> {
        let key = segment(key);
        let path = if self.path.is_empty() {
            key
        } else {
            format!("{}.{key}", self.path)
        };
        Strict {
            reading: self.reading,
            path,
        }
    }

    fn refuse(&self, key: &str, message: &str) {
        self.reading
            .problems
            .borrow_mut()
            .push(Problem::new(self.below(key).path, message));
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("plain YAML or JSON without tags")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.count(0)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.count(0)?;
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.count(0)?;
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.count(0)?;
        // .nan and .inf: shown to the user as the text they are.
        Ok(Number::from_f64(value).map_or_else(|| Value::String(value.to_string()), Value::Number))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.count(value.len())?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.count(0)?;
        Ok(Value::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.count(0)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Strict {
            reading: self.reading,
            path: format!("{}[{}]", self.path, list.len()),
        })? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.count(0)?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            self.count(key.len())
                .map_err(|error: A::Error| A::Error::custom(error))?;
            let value = entries.next_value_seed(self.below(&key))?;
            if key == "<<" {
                self.refuse(
                    &key,
                    "YAML's merge keys are not read: put what several groups share under defaults",
                );
            } else if map.contains_key(&key) {
                self.refuse(&key, "is written twice: keep one of them");
            } else {
                map.insert(key, value);
            }
        }
        Ok(Value::Object(map))
    }
}

/// A mapping's key: any scalar, as the text that stands there.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Key {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<String, E> {
        Ok(value.to_owned())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<String, E> {
        Ok("null".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn refused(text: &str) -> String {
        from_either(text).unwrap_err().to_string()
    }

    #[test]
    fn yaml_and_json_are_one_value() {
        let yaml = "nodes:\n  worker: {count: 3}\n  control:\nforward: [22, 6443]\n";
        let json = "\t{\"nodes\": {\"worker\": {\"count\": 3}, \"control\": null}, \"forward\": [22, 6443]}";
        let value = from_either(yaml).unwrap();
        assert_eq!(
            value,
            json!({"nodes": {"worker": {"count": 3}, "control": null}, "forward": [22, 6443]})
        );
        assert_eq!(from_either(json).unwrap(), value);
        let order: Vec<_> = value["nodes"].as_object().unwrap().keys().collect();
        assert_eq!(
            order,
            ["worker", "control"],
            "in the order in which they were written"
        );
    }

    #[test]
    fn what_looks_otherwise_than_it_is_read() {
        assert_eq!(
            refused("a: {b: 1, b: 2}"),
            "a.b: is written twice: keep one of them"
        );
        assert_eq!(
            from_json("{\"a\":{\"b\":1,\"b\":2}}").unwrap_err().to_string(),
            "a.b: is written twice: keep one of them"
        );
        assert!(
            refused("x: &x {a: 1}\ny:\n  <<: *x").starts_with("y.\"<<\": YAML's merge keys are not read")
        );
        assert!(
            refused("a: !tag 1").contains("without tags"),
            "{}",
            refused("a: !tag 1")
        );
        assert!(
            refused("a: 1\n---\nb: 2").contains("more than one document"),
            "{}",
            refused("a: 1\n---\nb: 2")
        );
    }

    #[test]
    fn a_syntax_error_says_where() {
        assert_eq!(
            refused("nodes:\n  worker: [1\n  x: 2"),
            "line 3, column 4: did not find expected ',' or ']', while parsing a flow sequence at line 2 column 11"
        );
        assert!(
            refused("nodes:\n\tworker: 1").ends_with("YAML takes spaces only"),
            "{}",
            refused("nodes:\n\tworker: 1")
        );
        assert_eq!(
            from_json("{\"a\": }").unwrap_err().to_string(),
            "line 1, column 7: expected value"
        );
        assert_eq!(
            from_json("").unwrap_err().to_string(),
            "line 1, column 0: EOF while parsing a value"
        );
        assert!(
            from_json("{} x")
                .unwrap_err()
                .to_string()
                .contains("trailing characters")
        );
    }

    #[test]
    fn a_parser_quotes_nothing_raw() {
        let told = refused("? \"a\\eb\"\n: ! {? ! x : 1}\n");
        assert!(!told.chars().any(char::is_control), "{told:?}");
        let told = refused("\"a\\tb\": {! c: 1}");
        assert!(told.contains("a\\tb"), "{told:?}");
    }

    #[test]
    fn bombs_do_not_go_off() {
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..9 {
            let parts = vec![format!("*a{}", n - 1); 9].join(", ");
            laughs += &format!("a{n}: &a{n} [{parts}]\n");
        }
        assert!(
            refused(&laughs).contains("grows too large"),
            "{}",
            refused(&laughs)
        );

        let long = format!(
            "a: &a {}\nb: [{}]",
            "x".repeat(100_000),
            vec!["*a"; 100].join(", ")
        );
        assert!(refused(&long).contains("grows too large"), "{}", refused(&long));

        assert!(refused(&"[".repeat(100_000)).contains("nested deeper"));
        assert!(
            from_json(&"[".repeat(100_000))
                .unwrap_err()
                .to_string()
                .contains("recursion limit")
        );
        assert!(refused(&"- ".repeat(100_000)).contains("recursion limit"));
        assert!(refused(&"x".repeat(MAX_DOCUMENT + 1)).contains("are the most that is read"));
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in "[-a&*<{}:, \\[\\]\"'\n\t!|>#0-9.]{0,60}") {
            let _ = from_either(&text);
            let _ = from_json(&text);
        }
    }
}
