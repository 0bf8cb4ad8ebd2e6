//! `inventory.yml`, for Ansible.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{AccessError, ssh};
use crate::agent::api::types::Cluster;

/// Ansible's own form of an inventory.
#[derive(Serialize)]
struct Inventory {
    all: All,
}

#[derive(Serialize)]
struct All {
    vars: BTreeMap<&'static str, String>,
    children: BTreeMap<String, Group>,
}

#[derive(Default, Serialize)]
struct Group {
    hosts: BTreeMap<String, Host>,
}

#[derive(Serialize)]
struct Host {
    ansible_host: String,
    ansible_port: u16,
    ansible_user: String,
}

/// The nodes in groups by role. Paths go by `inventory_dir`, which Ansible sets to the file's own folder.
pub fn yaml(cluster: &Cluster) -> Result<String, AccessError> {
    let mut children: BTreeMap<String, Group> = BTreeMap::new();
    for node in &cluster.nodes {
        let host = Host {
            ansible_host: cluster.endpoint.ip().to_string(),
            ansible_port: ssh::port(node)?,
            ansible_user: node.ssh_user.as_str().to_owned(),
        };
        children
            .entry(group(node.role.as_str()))
            .or_default()
            .hosts
            .insert(node.name.to_string(), host);
    }
    // Ansible splits these arguments as a shell would, and ssh splits the file list again: hence both quotes.
    let arguments = concat!(
        "-o 'UserKnownHostsFile=\"{{ inventory_dir }}/known_hosts\"' -o GlobalKnownHostsFile=/dev/null ",
        "-o HostKeyAlias={{ inventory_hostname }} -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes",
    );
    let vars = BTreeMap::from([
        ("ansible_ssh_common_args", arguments.to_owned()),
        (
            "ansible_ssh_private_key_file",
            "{{ inventory_dir }}/id_ed25519".to_owned(),
        ),
    ]);
    serde_yaml_ng::to_string(&Inventory {
        all: All { vars, children },
    })
    .map_err(|error| AccessError::Encode {
        name: "inventory.yml",
        problem: error.to_string(),
    })
}

/// A role as a group's name: Ansible takes no `-` there, and has two groups of its own.
fn group(role: &str) -> String {
    match role {
        "all" | "ungrouped" => format!("role_{role}"),
        _ => role.replace('-', "_"),
    }
}
