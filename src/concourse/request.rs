//! What Concourse asks of `check`, `in` and `out`.
//!
//! Unknown keys beside `source`, `version` and `params` are tolerated, since Concourse adds some; unknown fields within
//! these are the user's own and refused with their path.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::token::Token;
use super::version::Version;
use crate::topology::document;
use crate::topology::load::in_file;
use crate::topology::model::Topology;
use crate::topology::problems::{Problem, Problems};
use crate::topology::reader::{Cursor, Object, Report};
use crate::topology::{Inputs, load, overlay, validate};

/// The resource's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Authenticates every request to the agent.
    pub token: Token,
}

/// What `check` is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckRequest {
    /// The newest version that Concourse knows; none at the first check. As it came: a version of an older release is
    /// still a version.
    pub version: Option<BTreeMap<String, String>>,
}

/// What `in` is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InRequest {
    /// The resource's configuration.
    pub source: Source,
    /// What to get.
    pub version: Version,
}

/// What `out` is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct OutRequest {
    /// The resource's configuration.
    pub source: Source,
    /// What to do.
    pub params: PutParams,
}

/// What a put does.
#[derive(Clone, Debug, PartialEq)]
pub enum PutParams {
    /// `action: create`, the default.
    Create {
        /// What to make.
        topology: Box<Topology>,
    },
    /// `action: destroy`.
    Destroy {
        /// The directory that an earlier get wrote: absolute, inside the put's inputs.
        artifact: PathBuf,
    },
}

/// Reads what `check` is asked.
///
/// A token that is there must be a good one; one that is not there is not missed, since `check` reaches nothing.
pub fn read_check(stdin: &[u8]) -> Result<CheckRequest, Problems> {
    let request = json(stdin)?;
    let report = Report::default();
    let made = Cursor::new("", &request, &report)
        .object(REQUEST)
        .and_then(|object| {
            let _ = source(&object, false);
            let version = match object.field("version") {
                Some(field) if !field.value.is_null() => Some(strings(&field)?),
                _ => None,
            };
            Some(CheckRequest { version })
        });
    report.done(made)
}

/// Reads what `in` is asked. It takes no params.
pub fn read_in(stdin: &[u8]) -> Result<InRequest, Problems> {
    let request = json(stdin)?;
    let report = Report::default();
    let made = Cursor::new("", &request, &report)
        .object(REQUEST)
        .and_then(|object| {
            let source = source(&object, true);
            let version = object
                .required("version", "the version to get")
                .and_then(|field| Version::read(&field));
            if let Some(params) = object.field("params").filter(|field| !field.value.is_null()) {
                if let Some(params) = params.object("no params: a get takes none") {
                    params.finish(|_| Some("a get takes no params".to_owned()));
                }
            }
            Some(InRequest {
                source: source?,
                version: version?,
            })
        });
    report.done(made)
}

/// Reads what `out` is asked, with the topology file and first-boot files that it names among `inputs`.
pub fn read_out(stdin: &[u8], inputs: &Inputs) -> Result<OutRequest, Problems> {
    let request = json(stdin)?;
    let report = Report::default();
    let made = Cursor::new("", &request, &report)
        .object(REQUEST)
        .and_then(|object| {
            let source = source(&object, true);
            let nothing = Value::Object(Map::new());
            let params = object.field("params").filter(|field| !field.value.is_null());
            let params = params.unwrap_or(Cursor::new("params", &nothing, &report));
            let params = put_params(&params, inputs);
            Some(OutRequest {
                source: source?,
                params: params?,
            })
        });
    report.done(made)
}

const REQUEST: &str = "an object with source, as Concourse sends it";

fn json(stdin: &[u8]) -> Result<Value, Problems> {
    let text = std::str::from_utf8(stdin)
        .map_err(|error| Problems::one("stdin", format!("byte {}: is no UTF-8", error.valid_up_to())))?;
    if text.trim().is_empty() {
        return Err(Problems::one(
            "stdin",
            "is empty: Concourse sends the request as JSON",
        ));
    }
    let request = document::from_json(text).map_err(|problems| {
        // A syntax error has no path of its own; a duplicate field has.
        problems.relocate(|path| {
            if path.is_empty() {
                "stdin".to_owned()
            } else {
                path.to_owned()
            }
        })
    })?;
    if request.is_object() {
        return Ok(request);
    }
    Err(Problems::one("stdin", format!("is no request: use {REQUEST}")))
}

/// `None` where something is wrong, or where the token is not there and is not needed.
fn source(object: &Object<'_>, needed: bool) -> Option<Source> {
    let nothing = Value::Object(Map::new());
    let field = object.field("source").filter(|field| !field.value.is_null());
    let report = object.report();
    let field = match field {
        Some(field) => field,
        None => Cursor::new("source", &nothing, report),
    };
    if !field.value.is_object() {
        // A secret put where the mapping should be is a secret all the same.
        report_secret(&field, "is no mapping: use {token: ((nodes.token))}");
        return None;
    }
    let source = field.object("a mapping")?;
    let token = match source.field("token") {
        Some(field) => token(&field),
        None => {
            if needed && !source.misspelt("token") {
                let message = "is missing: use a secret of 16 to 512 characters, such as ((nodes.token))";
                report.add(Problem::new("source.token", message));
            }
            None
        }
    };
    source.finish(|_| None);
    Some(Source { token: token? })
}

/// Never shows what was written there, whatever its type.
fn token(field: &Cursor<'_>) -> Option<Token> {
    let Value::String(text) = field.value else {
        report_secret(field, "is no text: put it in quotes");
        return None;
    };
    match Token::try_from(text.clone()) {
        Ok(token) => Some(token),
        Err(error) => {
            report_secret(field, &error.to_string());
            None
        }
    }
}

fn report_secret(field: &Cursor<'_>, message: &str) {
    field.report.add(Problem::new(field.path.clone(), message));
}

fn strings(field: &Cursor<'_>) -> Option<BTreeMap<String, String>> {
    let entries = field.entries("a mapping of text, as a put has made it")?;
    let read: Vec<Option<(String, String)>> = entries
        .iter()
        .map(|(key, value)| Some(((*key).to_owned(), value.text("text")?.to_owned())))
        .collect();
    read.into_iter().collect()
}

#[derive(Clone, Copy)]
enum Action {
    Create,
    Destroy,
}

fn put_params(params: &Cursor<'_>, inputs: &Inputs) -> Option<PutParams> {
    let Value::Object(given) = params.value else {
        params.expected("a mapping, such as {topology: repo/ci/nodes.yml}");
        return None;
    };
    let action = match given.get("action") {
        None => Action::Create,
        Some(value) => Cursor::new("params.action", value, params.report)
            .choice(&[("create", Action::Create), ("destroy", Action::Destroy)])?,
    };
    match action {
        Action::Create => create(params, given, inputs),
        Action::Destroy => destroy(params, inputs),
    }
}

/// Fields of the params themselves; every other is the topology's own, inline.
const OWN: [&str; 3] = ["action", "topology", "cluster"];

fn create(params: &Cursor<'_>, given: &Map<String, Value>, inputs: &Inputs) -> Option<PutParams> {
    let report = params.report;
    if let Some(cluster) = given.get("cluster") {
        Cursor::new("params.cluster", cluster, report).wrong("goes with action: destroy alone");
    }
    let file = given
        .get("topology")
        .map(|value| Cursor::new("params.topology", value, report));
    let inline: Map<String, Value> = given
        .iter()
        .filter(|(key, _)| !OWN.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if file.is_none() && inline.is_empty() {
        let message =
            "is missing: name a topology file, such as repo/ci/nodes.yml, or write image and nodes here";
        report.add(Problem::new("params.topology", message));
        return None;
    }
    let Some(file) = file else {
        let made = validate(&Value::Object(inline), inputs);
        return gather(report, made, in_params).map(created);
    };
    let path = match file.value {
        Value::Object(_) => {
            file.wrong_hint(
                "is a mapping: use the path of a file",
                Some("a topology inline stands in params itself: image, nodes and so on".to_owned()),
            );
            return None;
        }
        _ => file.text("the path of a topology file, such as repo/ci/nodes.yml")?,
    };
    let content = gather(report, load(path, inputs), |place| {
        if place == "topology" {
            "params.topology".to_owned()
        } else {
            place.to_owned()
        }
    })?;
    let made = validate(&overlay(content, Value::Object(inline.clone())), inputs);
    let inline_field = |place: &str| {
        inline
            .keys()
            .any(|key| place.split(['.', '[']).next() == Some(key))
    };
    gather(report, made, |place| {
        if inline_field(place) {
            in_params(place)
        } else {
            in_file(path, place)
        }
    })
    .map(created)
}

fn created(topology: Topology) -> PutParams {
    PutParams::Create {
        topology: Box::new(topology),
    }
}

fn in_params(place: &str) -> String {
    if place.is_empty() {
        "params".to_owned()
    } else {
        format!("params.{place}")
    }
}

/// Adds another reader's problems to this one's, under paths that name their place.
fn gather<T>(report: &Report, made: Result<T, Problems>, place: impl Fn(&str) -> String) -> Option<T> {
    match made {
        Ok(made) => Some(made),
        Err(problems) => {
            problems
                .relocate(place)
                .0
                .into_iter()
                .for_each(|problem| report.add(problem));
            None
        }
    }
}

fn destroy(params: &Cursor<'_>, inputs: &Inputs) -> Option<PutParams> {
    let object = params.object("a mapping")?;
    let _ = object.field("action");
    let cluster = object.required(
        "cluster",
        "the folder that a get of the cluster wrote, such as nodes",
    );
    let artifact = cluster.and_then(|field| {
        let path = field.text("the folder that a get of the cluster wrote, such as nodes")?;
        inputs
            .directory(path)
            .map_err(|bad| field.wrong_hint(bad.message, bad.hint))
            .ok()
    });
    object.finish(|_| Some("action: destroy takes cluster alone".to_owned()));
    Some(PutParams::Destroy { artifact: artifact? })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn step() -> (tempfile::TempDir, Inputs) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("repo/ci")).unwrap();
        fs::create_dir_all(folder.path().join("nodes")).unwrap();
        fs::write(folder.path().join("repo/disk.qcow2"), "QFI").unwrap();
        fs::write(
            folder.path().join("repo/ci/nodes.yml"),
            "image: {file: repo/disk.qcow2}\nnodes: {worker: {count: 2}}\n",
        )
        .unwrap();
        fs::write(
            folder.path().join("repo/ci/bad.yml"),
            "image: {file: repo/disk.qcow}\nnodes: {worker: {count: 2}}\n",
        )
        .unwrap();
        let inputs = Inputs::of_step(folder.path());
        (folder, inputs)
    }

    fn out(params: Value) -> Result<OutRequest, String> {
        let (_folder, inputs) = step();
        let request = json!({"source": {"token": TOKEN}, "params": params}).to_string();
        read_out(request.as_bytes(), &inputs).map_err(|problems| problems.to_string())
    }

    #[test]
    fn check() {
        let version = |text: &str| read_check(text.as_bytes()).unwrap().version;
        assert_eq!(version(r#"{"source": {}}"#), None, "the first check");
        assert_eq!(version(r#"{"source": null, "version": null}"#), None);
        assert_eq!(
            version(r#"{"source": {"token": "0123456789abcdef"}, "resource_name": "x"}"#),
            None
        );
        let known = version(r#"{"source": {}, "version": {"cluster": "a", "later": "b"}}"#).unwrap();
        assert_eq!(
            serde_json::to_string(&known).unwrap(),
            r#"{"cluster":"a","later":"b"}"#
        );
        assert!(read_check(br#"{"source": {"tokn": 1}}"#).is_err());
        assert!(read_check(br#"{"source": {}, "version": {"cluster": 1}}"#).is_err());
    }

    #[test]
    fn a_get() {
        let version = json!({"cluster": "brisk-otter-3f9c", "endpoint": "10.80.0.7:7420", "fingerprint": "ab".repeat(32), "state": "ready"});
        let request = json!({"source": {"token": TOKEN}, "version": version, "params": null});
        let read = read_in(request.to_string().as_bytes()).unwrap();
        assert_eq!(read.version.cluster.as_str(), "brisk-otter-3f9c");
        assert!(read.source.token.matches(TOKEN.as_bytes()));
        let request = json!({"source": {"token": TOKEN}, "version": version, "params": {"fast": true}});
        let told = read_in(request.to_string().as_bytes()).unwrap_err().to_string();
        assert_eq!(told, "params.fast: no such field; a get takes no params");
    }

    #[test]
    fn puts() {
        let nodes = |params| match out(params).unwrap().params {
            PutParams::Create { topology } => topology.nodes.len(),
            PutParams::Destroy { .. } => panic!("creates"),
        };
        assert_eq!(nodes(json!({"topology": "repo/ci/nodes.yml"})), 2);
        assert_eq!(
            nodes(json!({"topology": "repo/ci/nodes.yml", "nodes": {"a": {"count": 5}}})),
            5,
            "inline wins"
        );
        assert_eq!(
            nodes(json!({"action": "create", "image": {"file": "repo/disk.qcow2"}, "nodes": {"a": null}})),
            1
        );
        let PutParams::Destroy { artifact } = out(json!({"action": "destroy", "cluster": "nodes"}))
            .unwrap()
            .params
        else {
            panic!("destroys")
        };
        assert!(artifact.is_absolute() && artifact.ends_with("nodes"));
    }

    #[test]
    fn a_problem_is_told_where_it_stands() {
        assert_eq!(
            out(json!({"topology": "repo/ci/bad.yml", "lifetime": "1x"})).unwrap_err(),
            "repo/ci/bad.yml: image.file: \"repo/disk.qcow\" is not there: \"repo\" holds ci and disk.qcow2; did you mean \"disk.qcow2\"?\n\
             params.lifetime: \"1x\": use a number with s, m or h, such as 90s, 5m or 1h30m"
        );
    }

    #[test]
    fn no_error_shows_the_token() {
        for token in [
            json!("swordfish"),
            json!("open swordfish and more"),
            json!(["swordfish-in-a-list-of-16"]),
            json!({"swordfish": "swordfish"}),
            json!(f64::from(1_234_567_890)),
        ] {
            let request = json!({"source": {"token": token}, "version": {}});
            let (_folder, inputs) = step();
            for told in [
                read_check(request.to_string().as_bytes())
                    .unwrap_err()
                    .to_string(),
                read_in(request.to_string().as_bytes()).unwrap_err().to_string(),
                read_out(request.to_string().as_bytes(), &inputs)
                    .unwrap_err()
                    .to_string(),
            ] {
                assert!(told.contains("source.token: "), "{told}");
                assert!(!told.contains("swordfish"), "{told}");
                assert!(!told.contains("123456"), "{told}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_request_is_a_panic(text in "[{}\\[\\]\":,a-z0-9\\\\ ]{0,80}") {
            let _ = read_check(text.as_bytes());
            let _ = read_in(text.as_bytes());
            let _ = read_out(text.as_bytes(), &Inputs::of_step("/nonexistent"));
        }
    }
}
