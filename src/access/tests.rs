use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;

use super::*;
use crate::agent::api::types::{
    ClusterState, CollectedFile, NodeAddress, NodeInfo, NodeState, PowerState, Proxy, Versions,
};
use crate::fault::tell;
use crate::topology::model::{Accelerator, Networking, UserName};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn node(full: &str, role: &str, last: u8, forwards: &[(u16, u16)]) -> NodeInfo {
    NodeInfo {
        name: name(full),
        role: name(role),
        state: NodeState::Ready,
        power: PowerState::Running,
        ssh_user: UserName::root(),
        host_key: format!("ssh-ed25519 AAAAHOST{last}"),
        addresses: vec![
            NodeAddress {
                network: name("default"),
                address: [10, 9, 0, last].into(),
                prefix: 24,
                mac: format!("52:54:00:00:00:{last:02x}"),
            },
            NodeAddress {
                network: name("storage"),
                address: [10, 9, 1, last].into(),
                prefix: 24,
                mac: format!("52:54:00:00:01:{last:02x}"),
            },
        ],
        forwards: forwards.iter().copied().collect(),
        ready_seconds: Some(9.5),
    }
}

fn cluster() -> Cluster {
    Cluster {
        fingerprint: crate::topology::model::Sha256([7; 32]),
        cluster: name("brisk-otter-3f9c"),
        state: ClusterState::Ready,
        endpoint: "10.80.0.5:40000".parse().unwrap(),
        accelerator: Accelerator::Tcg,
        networking: Networking::Bridges,
        created_at: 1_700_000_000,
        expires_at: 1_700_007_200,
        ready_seconds: Some(12.0),
        images: vec!["os-image/disk.qcow2".to_owned()],
        versions: Versions {
            resource: "0".into(),
            libvirt: "11.3.0".into(),
            qemu: "10.0.0".into(),
        },
        login_key: Secret(
            "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n".into(),
        ),
        proxy: Proxy {
            address: "10.80.0.5:40001".parse().unwrap(),
            username: "nodes".into(),
            password: Secret("pass-word".into()),
        },
        nodes: vec![
            node("control-1", "control", 11, &[(22, 40011), (6443, 40012)]),
            node("gpu-worker-1", "gpu-worker", 21, &[(22, 40021)]),
        ],
        collect: BTreeMap::new(),
        collected: BTreeMap::new(),
    }
}

fn secrets() -> ApiAccess {
    ApiAccess {
        fingerprint: "ab".repeat(32),
        token: Secret("the-token".into()),
    }
}

fn collected(content: &str) -> CollectedFile {
    CollectedFile {
        node: name("control-1"),
        path: "/etc/kubernetes/admin.conf".into(),
        content: Secret(STANDARD.encode(content)),
    }
}

/// Writes the cluster and gives the directory.
fn written(cluster: &Cluster) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let consoles = BTreeMap::from([(name("control-1"), b"Linux version\n".to_vec())]);
    write(dir.path(), cluster, &secrets(), &consoles, None).unwrap();
    dir
}

fn files(dir: &Path) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let mode = path.metadata().unwrap().permissions().mode() & 0o777;
                found.push((path.strip_prefix(dir).unwrap().display().to_string(), mode));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_file_has_its_mode() {
    let mut cluster = cluster();
    cluster.collected.insert(name("join-token"), collected("abc"));
    cluster
        .collected
        .insert(name("kubeconfig"), collected("clusters: []\n"));
    let dir = written(&cluster);
    let all: Vec<String> = files(dir.path())
        .iter()
        .map(|(name, mode)| format!("{mode:o} {name}"))
        .collect();
    insta::assert_snapshot!("files", all.join("\n"));
}

#[test]
fn the_files_say_what_they_should() {
    let dir = written(&cluster());
    for name in [
        "known_hosts",
        "ssh_config",
        "inventory.yml",
        "nodes.json",
        "forwards",
        "hosts",
    ] {
        insta::assert_snapshot!(name, std::fs::read_to_string(dir.path().join(name)).unwrap());
    }
    assert_eq!(
        std::fs::read_to_string(dir.path().join("proxy")).unwrap(),
        "socks5h://nodes:pass-word@10.80.0.5:40001\n"
    );
}

#[test]
fn no_file_holds_an_absolute_path_nor_an_open_one_a_secret() {
    let dir = written(&cluster());
    for (file, mode) in files(dir.path()) {
        let text = std::fs::read_to_string(dir.path().join(&file)).unwrap();
        assert!(!text.contains(dir.path().to_str().unwrap()), "{file}");
        if mode != 0o600 {
            for secret in ["the-token", "pass-word", "PRIVATE KEY"] {
                assert!(!text.contains(secret), "{file} holds {secret}");
            }
        }
    }
}

#[test]
fn a_later_write_replaces_all_of_an_earlier_one_and_nothing_else() {
    let mut cluster = cluster();
    cluster.collected.insert(name("old"), collected("abc"));
    cluster
        .collected
        .insert(name("kubeconfig"), collected("clusters: []\n"));
    let dir = written(&cluster);
    std::fs::write(dir.path().join("mine"), "mine").unwrap();
    cluster.collected.clear();
    cluster.cluster = name("calm-heron-0001");
    write(dir.path(), &cluster, &secrets(), &BTreeMap::new(), None).unwrap();
    let names: Vec<String> = files(dir.path()).into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&"mine".to_owned()));
    assert!(
        !names
            .iter()
            .any(|n| n.starts_with("co") || n == "kubeconfig" || n.starts_with('.')),
        "{names:?}"
    );
    assert_eq!(read(dir.path()).unwrap().cluster, cluster.cluster);
}

#[test]
fn a_failure_leaves_nothing_new() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = cluster();
    cluster.collected.insert(name("kubeconfig"), collected("<html>"));
    let error = write(dir.path(), &cluster, &secrets(), &BTreeMap::new(), None).unwrap_err();
    assert!(matches!(error, AccessError::Kubeconfig { .. }));
    assert!(files(dir.path()).is_empty());
    // Half of it moved: a folder that is in the way of a file.
    cluster.collected.clear();
    std::fs::create_dir_all(dir.path().join("token/in-the-way")).unwrap();
    let error = write(dir.path(), &cluster, &secrets(), &BTreeMap::new(), None).unwrap_err();
    assert!(error.to_string().ends_with("/token"), "{error}");
    assert!(files(dir.path()).is_empty(), "{:?}", files(dir.path()));
}

#[test]
fn what_was_written_is_read_back() {
    let dir = written(&cluster());
    let known = read(dir.path()).unwrap();
    assert_eq!(
        known,
        Known {
            api: secrets(),
            endpoint: "10.80.0.5:40000".parse().unwrap(),
            cluster: name("brisk-otter-3f9c"),
        }
    );
}

#[test]
fn a_directory_of_another_kind_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let said = |dir: &Path| tell(&read(dir).unwrap_err()).replace(dir.to_str().unwrap(), "DIR");
    let mut all = vec![said(dir.path()), said(&dir.path().join("no"))];
    std::fs::write(dir.path().join("nodes.json"), "{}").unwrap();
    all.push(said(dir.path()));
    let good = written(&cluster());
    let text = std::fs::read_to_string(good.path().join("nodes.json")).unwrap();
    std::fs::write(
        dir.path().join("nodes.json"),
        text.replace("\"format\": 1", "\"format\": 2"),
    )
    .unwrap();
    all.push(said(dir.path()));
    std::fs::write(dir.path().join("nodes.json"), text).unwrap();
    all.push(said(dir.path()));
    std::fs::write(dir.path().join("token"), "\n").unwrap();
    all.push(said(dir.path()));
    insta::assert_snapshot!("other_directories", all.join("\n"));
}

fn kube(text: &str) -> String {
    match kubeconfig::point_at_forwards(text.as_bytes(), &collected(""), &cluster()) {
        Ok((text, warnings)) => {
            let warnings = warnings
                .iter()
                .map(|warning| format!("WARNING {warning}\n"))
                .collect::<Vec<_>>()
                .concat();
            format!("{text}{warnings}")
        }
        Err(error) => tell(&error),
    }
}

#[test]
fn a_kubeconfig_is_pointed_at_the_forwards() {
    insta::assert_snapshot!(
        "kubeconfig",
        kube(
            "apiVersion: v1\nkind: Config\nclusters:\n\
             - {name: address, cluster: {server: 'https://10.9.0.11:6443', certificate-authority-data: QUJD}}\n\
             - {name: second-network, cluster: {server: 'https://10.9.1.11:6443/path'}}\n\
             - {name: host-name, cluster: {server: 'https://control-1:6443', tls-server-name: kept}}\n\
             - {name: loopback, cluster: {server: 'https://127.0.0.1:6443'}}\n\
             - {name: loopback6, cluster: {server: 'https://[::1]:6443'}}\n\
             - {name: plain, cluster: {server: 'http://localhost:6443'}}\n\
             - {name: foreign, cluster: {server: 'https://example.com:6443'}}\n\
             contexts:\n- {name: c, context: {cluster: address, user: u}}\ncurrent-context: c\n\
             users:\n- {name: u, user: {client-key-data: U0VD}}\n"
        )
    );
}

#[test]
fn a_server_without_a_forward_goes_through_the_proxy() {
    insta::assert_snapshot!(
        "kubeconfig_proxy",
        kube("clusters:\n- {name: a, cluster: {server: 'https://127.0.0.1'}}\n")
    );
}

#[test]
fn what_is_no_kubeconfig_is_refused() {
    let all: Vec<String> = [
        "<html>",
        "a: [",
        "clusters: [{name: a}]",
        "clusters: [{name: a, cluster: {}}]",
        "clusters: [{name: a, cluster: {server: nonsense}}]",
        "clusters: [{name: a, cluster: {server: 'https://example.com'}}]",
    ]
    .iter()
    .map(|text| kube(text))
    .collect();
    insta::assert_snapshot!("kubeconfig_refused", all.join("\n"));
}

#[test]
fn the_documented_schema_is_that_of_the_types() {
    let schema = serde_json::to_string_pretty(&schema()).unwrap();
    let docs = include_str!("../../docs/artifact.md");
    assert!(
        docs.contains(&schema),
        "docs/artifact.md must hold this schema:\n{schema}"
    );
}

proptest! {
    #[test]
    fn any_kubeconfig_is_taken_or_refused(server in "\\PC{0,30}", text in "\\PC{0,60}") {
        let from = collected("");
        let _ = kubeconfig::point_at_forwards(text.as_bytes(), &from, &cluster());
        let entry = serde_json::json!({"clusters": [{"name": "a", "cluster": {"server": server}}]});
        let _ = kubeconfig::point_at_forwards(entry.to_string().as_bytes(), &from, &cluster());
    }
}

#[test]
fn a_forward_is_looked_up_by_a_shell() {
    let dir = written(&cluster());
    let ask = |arguments: &[&str]| {
        // By a link from elsewhere, as a person's PATH may have it.
        let link = dir.path().join("consoles/link");
        let _ = std::os::unix::fs::symlink("../forward", &link);
        let output = std::process::Command::new("sh")
            .arg(link)
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (status, out, _) = ask(&["control-1", "6443"]);
    assert_eq!((status, out.as_str()), (Some(0), "10.80.0.5:40012\n"));
    let (status, out, err) = ask(&["gpu-worker-1", "6443"]);
    assert_eq!((status, out.as_str()), (Some(1), ""));
    assert!(err.contains("control-1:6443 gpu-worker-1:22"), "{err}");
    assert_eq!(ask(&["control-1"]).0, Some(2));
}
