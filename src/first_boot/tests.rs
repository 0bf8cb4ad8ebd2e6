use std::collections::BTreeSet;
use std::io::{Cursor, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;
use crate::topology::model::{ImageSource, Network, NetworkKind, Node, Ready, Timeout};
use crate::topology::plan::{MacAddress, Nic, PlannedNetwork};
use crate::units::ByteSize;

/// Keys whose text is short and always the same: what is written is compared as a whole.
fn keys() -> (ClusterKeys, HostKey) {
    (
        ClusterKeys {
            login_private: "unused".to_owned(),
            login_public: "ssh-ed25519 AAAALOGIN brisk-otter-3f9c".to_owned(),
        },
        HostKey {
            private: "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\nBBBB\n-----END OPENSSH PRIVATE KEY-----\n"
                .to_owned(),
            public: "ssh-ed25519 AAAAHOST".to_owned(),
        },
    )
}

fn plan(user: &str, first_boot: FirstBoot) -> Plan {
    let nat = Network {
        name: "default".parse().unwrap(),
        kind: NetworkKind::Nat,
        subnet: None,
        mtu: None,
    };
    let storage = Network {
        name: "storage".parse().unwrap(),
        kind: NetworkKind::Isolated,
        ..nat.clone()
    };
    let planned = |network: &Network, third: u8, mtu: u32| PlannedNetwork {
        name: network.name.clone(),
        kind: network.kind,
        bridge: format!("nb{third}"),
        subnet: format!("10.9.{third}.0/24").parse().unwrap(),
        gateway: format!("10.9.{third}.1").parse().unwrap(),
        mtu,
    };
    let nic = |network: &Network, third: u8| Nic {
        network: network.name.clone(),
        mac: MacAddress([0x52, 0x54, 0, 0, third, 0x11]),
        address: format!("10.9.{third}.11").parse().unwrap(),
    };
    let node = Node {
        name: "worker-1".parse().unwrap(),
        role: "worker".parse().unwrap(),
        cpus: 1,
        memory: ByteSize::gib(1),
        disk: None,
        image: ImageSource::File("/disk".into()),
        extra_disks: Vec::new(),
        nested: false,
        networks: vec![storage.name.clone(), nat.name.clone()],
        forward: BTreeSet::from([22]),
        ssh_user: user.to_owned().try_into().unwrap(),
        first_boot,
        ready: Ready {
            command: None,
            timeout: Timeout::Default,
        },
    };
    Plan {
        cluster: "brisk-otter-3f9c".parse().unwrap(),
        networks: vec![planned(&nat, 0, 1450), planned(&storage, 1, 9000)],
        nodes: vec![PlannedNode {
            node,
            uuid: uuid::Uuid::nil(),
            nics: vec![nic(&storage, 1), nic(&nat, 0)],
        }],
    }
}

/// Writes the seed of the plan's node and gives the bytes of its file.
fn written(user: &str, first_boot: FirstBoot) -> Result<Vec<u8>, FirstBootError> {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(user, first_boot);
    let (keys, host_key) = keys();
    let (Seed::Cidata(path) | Seed::FwCfg(path)) =
        write(&plan.nodes[0], &plan, &keys, &host_key, dir.path())?;
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    Ok(std::fs::read(path).unwrap())
}

fn file(image: Vec<u8>, name: &str) -> String {
    let fs = fatfs::FileSystem::new(Cursor::new(image), fatfs::FsOptions::new()).unwrap();
    let mut bytes = String::new();
    fs.root_dir()
        .open_file(name)
        .unwrap()
        .read_to_string(&mut bytes)
        .unwrap();
    bytes
}

fn cloud_init(user_data: &str) -> FirstBoot {
    FirstBoot::CloudInit {
        user_data: Some(user_data.as_bytes().to_vec()),
        network_config: None,
    }
}

#[test]
fn our_part_alone_is_plain_yaml() {
    let image = written("root", FirstBoot::Plain).unwrap();
    assert_eq!(
        image,
        written("root", FirstBoot::Plain).unwrap(),
        "the same input must give the same bytes"
    );
    insta::assert_snapshot!("meta_data", file(image.clone(), "meta-data"));
    insta::assert_snapshot!("user_data_root", file(image.clone(), "user-data"));
    insta::assert_snapshot!("network_config", file(image, "network-config"));
}

#[test]
fn another_login_is_made_beside_the_default_user() {
    insta::assert_snapshot!(
        "user_data_alice",
        file(written("alice", FirstBoot::Plain).unwrap(), "user-data")
    );
}

#[test]
fn ours_follows_the_users_part() {
    let image = written("root", cloud_init("#cloud-config\npackages: [jq]\n")).unwrap();
    insta::assert_snapshot!("user_data_merged", file(image, "user-data"));
}

#[test]
fn a_login_that_the_user_has_keys_for_gets_ours_too() {
    let theirs = "#cloud-config\nusers:\n- name: alice\n  ssh_authorized_keys: [ssh-ed25519 AAAATHEIRS]\n";
    let text = file(written("alice", cloud_init(theirs)).unwrap(), "user-data");
    assert!(text.contains("Content-Type: text/cloud-config-jsonp"), "{text}");
}

#[test]
fn a_network_configuration_of_the_users_replaces_ours() {
    let theirs = "version: 1\nconfig: []\n";
    let first_boot = FirstBoot::CloudInit {
        user_data: None,
        network_config: Some(theirs.as_bytes().to_vec()),
    };
    let image = written("root", first_boot).unwrap();
    assert_eq!(file(image.clone(), "network-config"), theirs);
    assert!(file(image, "user-data").starts_with("#cloud-config\n"));
}

#[test]
fn ignition_wraps_the_users() {
    let theirs = br#"{"ignition": {"version": "3.3.0"}}"#;
    let bytes = written(
        "alice",
        FirstBoot::Ignition {
            config: theirs.to_vec(),
        },
    )
    .unwrap();
    let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    insta::assert_snapshot!("ignition", serde_json::to_string_pretty(&value).unwrap());
}

#[test]
fn what_would_lock_us_out_is_not_written() {
    let error = written("root", cloud_init("#cloud-config\ndisable_root: true\n")).unwrap_err();
    assert!(matches!(error, FirstBootError::LocksOut { .. }));
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let plan = plan("root", FirstBoot::Plain);
    let (keys, host_key) = keys();
    let error = write(&plan.nodes[0], &plan, &keys, &host_key, Path::new("/no/such")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot write the seed /no/such/worker-1-cidata.img"
    );
}

#[test]
fn the_image_has_holes() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan("root", FirstBoot::Plain);
    let (keys, host_key) = keys();
    let seed = write(&plan.nodes[0], &plan, &keys, &host_key, dir.path()).unwrap();
    let Seed::Cidata(path) = seed else {
        panic!("{seed:?}")
    };
    let metadata = std::fs::metadata(path).unwrap();
    assert_eq!(metadata.len(), 1 << 20);
    assert!(
        metadata.blocks() * 512 < 256 << 10,
        "{} blocks",
        metadata.blocks()
    );
}
