//! JUnit's XML, as CI systems read it.

use serde::Serialize;

/// One node's readiness.
pub struct Case {
    /// Its name.
    pub name: String,
    /// How long it was waited for.
    pub seconds: f64,
    /// How it ended.
    pub outcome: Outcome,
}

/// How it ended.
pub enum Outcome {
    /// Ready.
    Passed,
    /// Not ready.
    Failed {
        /// The verdict's code.
        kind: String,
        /// In a sentence.
        message: String,
        /// All that is known.
        text: String,
    },
    /// It could not be told.
    Error {
        /// In a sentence.
        message: String,
        /// All that is known.
        text: String,
    },
}

#[derive(Serialize)]
#[serde(rename = "testsuites")]
struct Suites {
    testsuite: Suite,
}

#[derive(Serialize)]
struct Suite {
    #[serde(rename = "@name")]
    name: &'static str,
    #[serde(rename = "@tests")]
    tests: usize,
    #[serde(rename = "@failures")]
    failures: usize,
    #[serde(rename = "@errors")]
    errors: usize,
    #[serde(rename = "@time")]
    time: String,
    testcase: Vec<TestCase>,
}

#[derive(Serialize)]
struct TestCase {
    #[serde(rename = "@classname")]
    class: String,
    #[serde(rename = "@name")]
    name: String,
    #[serde(rename = "@time")]
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Trouble>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Trouble>,
}

#[derive(Serialize)]
struct Trouble {
    #[serde(rename = "@type")]
    kind: String,
    #[serde(rename = "@message")]
    message: String,
    #[serde(rename = "$text")]
    text: String,
}

/// The whole file.
pub fn suite(cluster: &str, cases: Vec<Case>) -> String {
    let longest = cases.iter().map(|case| case.seconds).fold(0.0, f64::max);
    let (mut failures, mut errors) = (0, 0);
    let cases: Vec<TestCase> = cases
        .into_iter()
        .map(|case| {
            let (failure, error) = match case.outcome {
                Outcome::Passed => (None, None),
                Outcome::Failed { kind, message, text } => (Some(trouble(&kind, &message, &text)), None),
                Outcome::Error { message, text } => (None, Some(trouble("error", &message, &text))),
            };
            failures += usize::from(failure.is_some());
            errors += usize::from(error.is_some());
            TestCase {
                class: cluster.to_owned(),
                name: case.name,
                time: seconds(case.seconds),
                failure,
                error,
            }
        })
        .collect();
    let suites = Suites {
        testsuite: Suite {
            name: "nodes",
            tests: cases.len(),
            failures,
            errors,
            // They were waited for side by side.
            time: seconds(longest),
            testcase: cases,
        },
    };
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let mut writer = quick_xml::se::Serializer::new(&mut text);
    writer.indent(' ', 2);
    // Strings and numbers are all that is in it.
    let _ = suites.serialize(writer);
    text.push('\n');
    text
}

fn trouble(kind: &str, message: &str, text: &str) -> Trouble {
    Trouble {
        kind: plain(kind),
        message: plain(message),
        text: plain(text),
    }
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.3}")
}

/// Without what XML 1.0 cannot hold: a console's lines may have anything in them.
fn plain(text: &str) -> String {
    let allowed = |c: char| matches!(c, '\t' | '\n') || (c >= ' ' && c != '\u{fffe}' && c != '\u{ffff}');
    text.chars().filter(|c| allowed(*c)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn failed(text: &str) -> Outcome {
        Outcome::Failed {
            kind: "kernel-panic".to_owned(),
            message: text.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_case_a_node() {
        let case = |name: &str, outcome| Case {
            name: name.to_owned(),
            seconds: 1.5,
            outcome,
        };
        let error = Outcome::Error {
            message: "gone".to_owned(),
            text: "gone\n  help: x".to_owned(),
        };
        let cases = vec![
            case("a-1", Outcome::Passed),
            case("a-2", failed("it <panics> & \"stops\"")),
            case("a-3", error),
        ];
        insta::assert_snapshot!(suite("brisk-otter-3f9c", cases));
    }

    proptest! {
        #[test]
        fn whatever_a_node_says_it_is_xml(text in any::<String>()) {
            let xml = suite("c", vec![Case { name: "n".to_owned(), seconds: 0.0, outcome: failed(&text) }]);
            let mut reader = quick_xml::Reader::from_str(&xml);
            loop {
                match reader.read_event() {
                    Ok(quick_xml::events::Event::Eof) => break,
                    Ok(_) => {}
                    Err(error) => prop_assert!(false, "{error}: {xml}"),
                }
            }
        }
    }
}
