//! Whole topologies; what is refused, with every text that a user sees, stands in `tests/bad_input.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::topology::model::{ImageSource, NetworkKind};
use crate::topology::{document, raw, schema};
use crate::units::ByteSize;

fn inputs() -> (tempfile::TempDir, Inputs) {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("os-image/disk.qcow2", "QFI"),
        ("repo/ci/user-data.yml", "#cloud-config\n"),
        ("repo/ci/node.ign", "{\"ignition\": {\"version\": \"3.4.0\"}}"),
    ] {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let inputs = Inputs::of_step(folder.path());
    (folder, inputs)
}

fn told(raw: &Value) -> String {
    let (_folder, inputs) = inputs();
    validate(raw, &inputs).unwrap_err().to_string()
}

const WHOLE: &str = "
image: {file: os-image/disk.qcow2}
defaults: {cpus: 2, memory: 2GiB, disk: 20GiB}
networks: {default: {nat: auto}, storage: {isolated: 10.9.0.0/24, mtu: 9000}}
nodes:
  worker: {count: 3, memory: 4GiB, nested: true, extra_disks: [{size: 10GiB, serial: db}, {size: 1GiB}], networks: [default, storage]}
  control: {forward: [6443]}
first_boot: {user_data: repo/ci/user-data.yml}
ready: {command: systemctl is-system-running --wait, timeout: 5m}
collect: {kubeconfig: {node: control-1, path: /etc/kubernetes/admin.conf}}
avoid: [10.128.0.0/16]
lifetime: 1h30m
on_failure: keep
accelerator: tcg
";

#[test]
fn a_whole_topology() {
    let (folder, inputs) = inputs();
    let made = validate(&document::from_yaml(WHOLE).unwrap(), &inputs).unwrap();
    let names: Vec<&str> = made.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(
        names,
        ["worker-1", "worker-2", "worker-3", "control-1"],
        "in the order in which they were written"
    );
    let worker = &made.nodes[0];
    assert_eq!(
        (worker.cpus, worker.memory, worker.disk),
        (2, ByteSize::gib(4), Some(ByteSize::gib(20)))
    );
    assert_eq!(
        worker
            .extra_disks
            .iter()
            .map(|disk| disk.serial.as_str())
            .collect::<Vec<_>>(),
        ["db", "data1"]
    );
    assert_eq!(
        worker.networks.iter().map(Name::as_str).collect::<Vec<_>>(),
        ["default", "storage"]
    );
    assert_eq!(worker.forward, BTreeSet::from([22]));
    let control = &made.nodes[3];
    assert!(worker.nested && !control.nested);
    assert_eq!(
        control.networks.iter().map(Name::as_str).collect::<Vec<_>>(),
        ["default"]
    );
    assert_eq!(control.forward, BTreeSet::from([22, 6443]));
    assert_eq!(control.memory, ByteSize::gib(2));
    let disk = folder.path().canonicalize().unwrap().join("os-image/disk.qcow2");
    assert_eq!(control.image, ImageSource::File(disk));
    assert_eq!(control.ready.timeout, Timeout::Given(Duration::from_secs(300)));
    let FirstBoot::CloudInit {
        user_data: Some(user_data),
        network_config: None,
    } = &control.first_boot
    else {
        panic!("{:?}", control.first_boot)
    };
    assert_eq!(user_data, b"#cloud-config\n");
    assert_eq!(made.networks[1].mtu, Some(9000));
    assert_eq!(made.lifetime, Duration::from_secs(5400));
    assert_eq!(
        (made.on_failure, made.accelerator),
        (OnFailure::Keep, AcceleratorChoice::Tcg)
    );
}

#[test]
fn the_least_topology() {
    let (_folder, inputs) = inputs();
    let raw = json!({"image": {"file": "os-image/disk.qcow2"}, "nodes": {"worker": null}});
    let made = validate(&raw, &inputs).unwrap();
    assert_eq!(made.networks.len(), 1);
    assert_eq!(
        (made.networks[0].name.as_str(), made.networks[0].kind),
        ("default", NetworkKind::Nat)
    );
    let node = &made.nodes[0];
    assert_eq!((node.cpus, node.memory, node.disk), (2, ByteSize::gib(2), None));
    assert_eq!(
        (node.ssh_user.as_str(), &node.first_boot),
        ("root", &FirstBoot::Plain)
    );
    assert_eq!(
        node.ready,
        Ready {
            command: None,
            timeout: Timeout::Default
        }
    );
    assert_eq!(made.lifetime, Duration::from_secs(7200));
}

#[test]
fn the_nearest_wins() {
    let (_folder, inputs) = inputs();
    let raw = json!({
        "image": {"file": "os-image/disk.qcow2"},
        "ssh_user": "top", "forward": [1], "ready": {"command": "true"},
        "defaults": {"ssh_user": "middle", "forward": [2]},
        "nodes": {"a": {"ssh_user": "near"}, "b": {"forward": [3]}, "c": {"first_boot": {"ignition": "repo/ci/node.ign"}}},
    });
    let made = validate(&raw, &inputs).unwrap();
    let users: Vec<&str> = made.nodes.iter().map(|node| node.ssh_user.as_str()).collect();
    assert_eq!(users, ["near", "middle", "middle"]);
    let forwards: Vec<_> = made.nodes.iter().map(|node| node.forward.clone()).collect();
    assert_eq!(
        forwards,
        [
            BTreeSet::from([2, 22]),
            BTreeSet::from([3, 22]),
            BTreeSet::from([2, 22])
        ]
    );
    assert!(
        made.nodes
            .iter()
            .all(|node| node.ready.command.as_deref() == Some("true"))
    );
    assert!(matches!(made.nodes[2].first_boot, FirstBoot::Ignition { .. }));
}

#[test]
fn the_only_network_is_the_default_one() {
    let (_folder, inputs) = inputs();
    let raw = json!({
        "image": {"file": "os-image/disk.qcow2"},
        "networks": {"lab": {"isolated": "auto"}},
        "nodes": {"a": null},
    });
    assert_eq!(
        validate(&raw, &inputs).unwrap().nodes[0].networks[0].as_str(),
        "lab"
    );
}

#[test]
fn everything_wrong_is_told_at_once() {
    let raw = json!({
        "image": {"file": "os-imag/disk.qcow2"},
        "nodes": {"worker": {"count": 0, "memory": "2 GB", "cpu": 2}, "control": {"networks": ["defualt"]}},
        "lifetime": "200h",
        "collect": {"kubeconfig": {"node": "control", "path": "admin.conf"}},
        "on_failure": "kep",
    });
    let told = told(&raw);
    for line in [
        "image.file: \"os-imag/disk.qcow2\" is not there: \"os-imag\" is no input of this step, which has os-image and repo; an input comes from an earlier get or task, and Concourse hands over those alone that `params` names, or all with `inputs: all` on the put; did you mean \"os-image\"?",
        "nodes.worker.count: 0: use a whole number from 1 to 64",
        "nodes.worker.memory: \"2 GB\": use a number with MiB or GiB, such as 512MiB or 2GiB; did you mean 2GiB?",
        "nodes.worker.cpu: no such field; did you mean cpus?",
        "nodes.control.networks[0]: there is no network \"defualt\": there is default; did you mean \"default\"?",
        "collect.kubeconfig.path: \"admin.conf\" is not absolute: begin it with /",
        "lifetime: \"200h\": use a time from 1m to 120h; Concourse keeps no container longer",
        "on_failure: \"kep\": use destroy or keep; did you mean \"keep\"?",
    ] {
        assert!(
            told.lines().any(|shown| shown == line),
            "{line}\n--- not in\n{told}"
        );
    }
    assert_eq!(told.lines().count(), 8, "{told}");
}

/// Every object of the form, by the path at which a field of it can be written, with its name in the schema.
fn places() -> Vec<(&'static str, Value, &'static [&'static str])> {
    let with = |path: &str, value: Value| {
        let mut raw = json!({"image": {"file": "os-image/disk.qcow2"}, "nodes": {"a": {}}, "networks": {"default": {"nat": "auto"}}});
        let parts: Vec<&str> = path.split('.').filter(|part| !part.is_empty()).collect();
        let mut at = &mut raw;
        for part in parts {
            at = match part.parse::<usize>() {
                Ok(index) => {
                    *at = json!([{}]);
                    &mut at[index]
                }
                Err(_) => {
                    if at.is_null() {
                        *at = json!({});
                    }
                    &mut at[part]
                }
            };
        }
        match (at, value) {
            (Value::Object(map), Value::Object(more)) => map.extend(more),
            (at, value) => *at = value,
        }
        raw
    };
    let unknown = || json!({"zzzzzzzzzzzz": 1});
    vec![
        ("", with("", unknown()), &["Topology"]),
        ("defaults", with("defaults", unknown()), &["Defaults"]),
        ("nodes.a", with("nodes.a", unknown()), &["Group"]),
        (
            "nodes.a.extra_disks[0]",
            with("nodes.a.extra_disks.0", unknown()),
            &["ExtraDisk"],
        ),
        (
            "image",
            with("image", unknown()),
            &["ImageFile", "ImageBox", "ImageUrl"],
        ),
        (
            "networks.default",
            with("networks.default", unknown()),
            &["NatNetwork", "IsolatedNetwork"],
        ),
        (
            "first_boot",
            with("first_boot", unknown()),
            &["CloudInit", "Ignition"],
        ),
        ("ready", with("ready", unknown()), &["Ready"]),
        ("collect.x", with("collect.x", unknown()), &["Collect"]),
    ]
}

#[test]
fn the_schema_and_the_reader_know_the_same_fields() {
    let schema = schema();
    let properties = |name: &str| -> BTreeSet<String> {
        let object = if name == "Topology" {
            &schema
        } else {
            &schema["$defs"][name]
        };
        object["properties"]
            .as_object()
            .unwrap_or_else(|| panic!("{name}: {schema:#}"))
            .keys()
            .cloned()
            .collect()
    };
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for (path, raw, names) in places() {
        seen.extend(names);
        let published: BTreeSet<String> = names.iter().flat_map(|name| properties(name)).collect();
        let at = if path.is_empty() {
            "zzzzzzzzzzzz: ".to_owned()
        } else {
            format!("{path}.zzzzzzzzzzzz: ")
        };
        let told = told(&raw);
        let line = told
            .lines()
            .find_map(|line| line.strip_prefix(&at))
            .unwrap_or_else(|| panic!("{at} not in {told}"));
        let known = line.strip_prefix("no such field; use ").unwrap();
        let known: BTreeSet<String> = known
            .replace(" or ", ", ")
            .split(", ")
            .map(str::to_owned)
            .collect();
        assert_eq!(known, published, "{path}");
    }
    let objects = schema["$defs"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, def)| def.get("properties").is_some());
    for (name, _) in objects {
        assert!(
            seen.contains(name.as_str()),
            "{name} is in the schema and not in this test"
        );
    }
}

#[test]
fn the_schema_has_the_limits_of_the_reader() {
    let schema = schema();
    let group = &schema["$defs"]["Group"]["properties"];
    let range = |at: &Value| (at["minimum"].as_u64().unwrap(), at["maximum"].as_u64().unwrap());
    assert_eq!(
        range(&group["count"]),
        (*limits::NODES.start(), *limits::NODES.end())
    );
    assert_eq!(
        range(&group["cpus"]),
        (*limits::CPUS.start(), *limits::CPUS.end())
    );
    assert_eq!(group["cpus"]["default"], limits::DEFAULT_CPUS);
    assert_eq!(group["memory"]["default"], limits::DEFAULT_MEMORY.to_string());
    let mtu = &schema["$defs"]["NatNetwork"]["properties"]["mtu"];
    assert_eq!(range(mtu), (*limits::MTU.start(), *limits::MTU.end()));
    assert_eq!(group["extra_disks"]["maxItems"], limits::EXTRA_DISKS);
    assert_eq!(group["networks"]["maxItems"], limits::NICS);
    assert_eq!(group["forward"]["maxItems"], limits::FORWARDS);
    assert_eq!(group["image"]["$ref"], "#/$defs/Image");
    assert_eq!(group["cpus"]["type"], "integer");
    let text = schema["$defs"]["Group"]["properties"]["memory"]["description"]
        .as_str()
        .unwrap();
    assert!(
        text.contains(&format!(
            "from {} to {}",
            limits::MEMORY.start(),
            limits::MEMORY.end()
        )),
        "{text}"
    );
    let text = schema["$defs"]["Group"]["properties"]["disk"]["description"]
        .as_str()
        .unwrap();
    assert!(
        text.contains(&format!(
            "from {} to {}",
            limits::DISK.start(),
            limits::DISK.end()
        )),
        "{text}"
    );
    let text = schema["properties"]["lifetime"]["description"].as_str().unwrap();
    assert!(
        text.contains(&format!(
            "from {} to {}",
            limits::LIFETIME.start(),
            limits::LIFETIME.end()
        )),
        "{text}"
    );
    assert_eq!(
        schema["properties"]["lifetime"]["default"],
        limits::DEFAULT_LIFETIME.to_string()
    );
}

#[test]
fn the_published_types_read_what_the_reader_reads() {
    let value = document::from_yaml(WHOLE).unwrap();
    let typed: raw::Topology = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(
        serde_json::to_value(typed).unwrap()["nodes"]["control"],
        value["nodes"]["control"]
    );
}

/// The reference page names every field, in the section of the thing it belongs to, and every example in it is read.
#[test]
fn the_reference_page_is_whole() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/topology.md")).unwrap();
    let mut rows: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut section = "";
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title.trim();
        } else if let Some(row) = line.strip_prefix("| `") {
            let field = row.split('`').next().unwrap_or_default();
            rows.entry(section).or_default().insert(field.to_owned());
        }
    }
    let schema = schema();
    for (title, names) in [
        ("The whole", &["Topology"][..]),
        ("Groups and defaults", &["Group", "Defaults"]),
        ("Extra disks", &["ExtraDisk"]),
        ("Images", &["ImageFile", "ImageBox", "ImageUrl"]),
        ("Networks", &["NatNetwork", "IsolatedNetwork"]),
        ("First boot", &["CloudInit", "Ignition"]),
        ("Readiness", &["Ready"]),
        ("Collected files", &["Collect"]),
    ] {
        let fields: BTreeSet<String> = names
            .iter()
            .map(|name| {
                if *name == "Topology" {
                    &schema
                } else {
                    &schema["$defs"][name]
                }
            })
            .flat_map(|object| object["properties"].as_object().unwrap().keys().cloned())
            .collect();
        assert_eq!(
            rows.get(title),
            Some(&fields),
            "the section \"{title}\" of docs/topology.md"
        );
    }
    let examples: Vec<&str> = page
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(examples.len() >= 4);
    for example in examples {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("os-image/disk.qcow2", "QFI"),
            ("fcos/disk.qcow2.xz", "x"),
            ("boxes/debian.box", "x"),
            ("repo/ci/user-data.yml", "#cloud-config\n"),
            ("repo/ci/network.yml", "version: 2\n"),
            ("repo/ci/node.ign", "{\"ignition\": {\"version\": \"3.4.0\"}}"),
        ] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let value = document::from_yaml(example).unwrap_or_else(|error| panic!("{error}\n{example}"));
        validate(&value, &Inputs::of_step(folder.path()))
            .unwrap_or_else(|error| panic!("{error}\n{example}"));
        serde_json::from_value::<raw::Topology>(value).unwrap_or_else(|error| panic!("{error}\n{example}"));
    }
    for figure in [
        limits::LIFETIME.end().to_string(),
        limits::DEFAULT_LIFETIME.to_string(),
        limits::DEFAULT_MEMORY.to_string(),
        limits::MEMORY.start().to_string(),
        limits::MEMORY.end().to_string(),
        limits::DISK.end().to_string(),
        limits::MTU.start().to_string(),
        limits::MTU.end().to_string(),
        limits::READY_TIMEOUT.end().to_string(),
        limits::EXTRA_DISKS.to_string(),
        limits::NICS.to_string(),
        limits::NODES.end().to_string(),
        limits::CPUS.end().to_string(),
    ] {
        assert!(
            page.contains(&figure),
            "docs/topology.md says nothing of the limit {figure}"
        );
    }
}

/// Any value at all, made of the words that the reader knows.
fn any_value() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "image",
        "file",
        "box",
        "url",
        "sha256",
        "defaults",
        "cpus",
        "memory",
        "disk",
        "extra_disks",
        "networks",
        "forward",
        "ssh_user",
        "first_boot",
        "ready",
        "nodes",
        "count",
        "worker",
        "worker-1",
        "default",
        "nat",
        "isolated",
        "mtu",
        "collect",
        "node",
        "path",
        "avoid",
        "lifetime",
        "on_failure",
        "accelerator",
        "size",
        "serial",
        "command",
        "timeout",
        "user_data",
        "network_config",
        "ignition",
        "auto",
        "2GiB",
        "5m",
        "10.9.0.0/24",
        "os-image/disk.qcow2",
        "é",
        "",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2i64..70_000).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..6).prop_map(|pairs| Value::Object(
                pairs
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect()
            )),
        ]
    })
}

proptest! {
    #[test]
    fn no_value_is_a_panic_and_every_refusal_has_a_reason(raw in any_value()) {
        let inputs = Inputs::of_step("/nonexistent");
        if let Err(problems) = validate(&raw, &inputs) {
            prop_assert!(!problems.0.is_empty());
            prop_assert!(problems.0.iter().all(|problem| problem.message != "cannot be read"), "{} {}", raw, problems);
        }
    }
}

proptest! {
    // Each case makes a folder and reads ten topologies.
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_written_in_one_field_passes_unsaid(field in any_value()) {
        let (_folder, inputs) = inputs();
        for name in ["cpus", "memory", "disk", "extra_disks", "networks", "forward", "ssh_user", "first_boot", "ready"] {
            let raw = json!({"image": {"file": "os-image/disk.qcow2"}, "nodes": {"a": {name: field.clone()}}});
            if let Err(problems) = validate(&raw, &inputs) {
                let path = format!("nodes.a.{name}");
                prop_assert!(problems.0.iter().all(|problem| problem.path.starts_with(&path)), "{}", problems);
                prop_assert!(problems.0.iter().all(|problem| problem.message != "cannot be read"), "{}", problems);
            }
        }
    }
}
