//! What docs/api.md says, against what the agent says and the types take.

use std::collections::BTreeSet;

use libvirt_resource::agent::api::server::RefusalBody;
use libvirt_resource::agent::api::types::{Cluster, ClusterState, Readiness};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::bed::{Bed, TOKEN};

const DOCUMENT: &str = include_str!("../../docs/api.md");

/// The JSON after the comment that names its type.
fn example(of: &str) -> &'static str {
    let (_, rest) = DOCUMENT.split_once(&format!("<!-- {of} -->\n```json\n")).unwrap();
    rest.split_once("```").unwrap().0
}

/// Parses an example; it has every field of the type and none besides.
fn whole<T: Serialize + DeserializeOwned>(text: &str) -> T {
    let value: Value = serde_json::from_str(text).unwrap();
    let parsed: T = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(serde_json::to_value(&parsed).unwrap(), value);
    parsed
}

fn fields(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                // Maps by name or number: their keys are the user's.
                let map = [".forwards", ".collect", ".collected"]
                    .iter()
                    .any(|end| path.ends_with(end));
                let path = if map {
                    format!("{path}.*")
                } else {
                    format!("{path}.{key}")
                };
                into.insert(path.clone());
                fields(value, &path, into);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| fields(value, path, into)),
        _ => {}
    }
}

#[tokio::test]
async fn the_cluster_is_what_the_document_shows() {
    let shown = whole::<Cluster>(example("Cluster"));
    let bed = Bed::new().await;
    let served = bed.client().cluster().await.unwrap();
    let of = |cluster: &Cluster| {
        let mut into = BTreeSet::new();
        fields(&serde_json::to_value(cluster).unwrap(), "", &mut into);
        into
    };
    assert_eq!(of(&served), of(&shown));
    for field in of(&served) {
        let name = field.rsplit('.').next().unwrap();
        assert!(name == "*" || DOCUMENT.contains(name), "{field}");
    }
}

#[test]
fn every_state_is_shown() {
    let shown: Vec<ClusterState> = whole(example("ClusterState"));
    let mut names: Vec<&str> = shown
        .iter()
        .map(|state| match state {
            // A new one does not compile until it is here, and fails below until it is in the document.
            ClusterState::Starting => "starting",
            ClusterState::Ready => "ready",
            ClusterState::Kept { .. } => "kept",
            ClusterState::Destroyed => "destroyed",
            ClusterState::Expired { .. } => "expired",
            ClusterState::Lost { .. } => "lost",
        })
        .collect();
    names.dedup();
    assert_eq!(
        names,
        ["starting", "ready", "kept", "destroyed", "expired", "lost"]
    );
}

#[test]
fn a_readiness_is_what_the_document_shows() {
    let shown: Readiness = whole(example("Readiness"));
    assert!(!shown.ready && shown.reason.is_some());
}

#[test]
fn every_refusal_is_told() {
    let shown: RefusalBody = whole(example("RefusalBody"));
    assert_eq!(shown.error.code, "node");
    // As the table has them; the source of each is tried in hostile.rs.
    let source = include_str!("../../src/agent/api/refusal.rs");
    let mut told = 0;
    for line in DOCUMENT
        .lines()
        .filter(|line| line.starts_with("| 4") || line.starts_with("| 5"))
    {
        let code = line.split('`').nth(1).unwrap();
        assert!(source.contains(&format!("\"{code}\"")), "{line}");
        told += 1;
    }
    assert_eq!(told, source.matches("pub(super) const ").count());
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_does_it_as_the_document_says() {
    let (_, rest) = DOCUMENT.split_once("```sh\n").unwrap();
    let script = rest.split_once("```").unwrap().0;
    let bed = Bed::new().await;
    let nodes = bed.directory.path().join("nodes");
    std::fs::create_dir(&nodes).unwrap();
    for (name, content) in [
        ("endpoint", bed.endpoint.to_string()),
        ("name", "brisk-otter-3f9c".to_owned()),
        ("token", TOKEN.to_owned()),
    ] {
        std::fs::write(nodes.join(name), content).unwrap();
    }
    for program in ["curl", "openssl"] {
        if std::process::Command::new(program)
            .arg("version")
            .output()
            .is_err()
        {
            println!("left out: no {program} here");
            return;
        }
    }
    let output = tokio::process::Command::new("sh")
        .args(["-ec", script])
        .current_dir(bed.directory.path())
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let (fingerprint, cluster) = said
        .split_once('\n')
        .unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let digits: String = fingerprint
        .split('=')
        .nth(1)
        .unwrap()
        .replace(':', "")
        .to_lowercase();
    assert_eq!(digits, bed.fingerprint.to_string());
    let cluster: Cluster = serde_json::from_str(cluster).unwrap();
    assert_eq!(cluster.nodes.len(), 10);
}
