//! Our own part of the seed. Plain block-style YAML, so that small readers (tiny-cloud, a shell script) can read it too.

use std::fmt::Write as _;

use crate::first_boot::keys::{ClusterKeys, HostKey};
use crate::topology::model::UserName;
use crate::topology::plan::{Plan, PlannedNode};

/// Who the node is. The host name stands here and not in the user-data, where it would compete with a `hostname` or
/// `fqdn` of the user's.
pub fn meta_data(node: &PlannedNode, plan: &Plan, keys: &ClusterKeys) -> String {
    format!(
        "instance-id: {cluster}-{name}\nlocal-hostname: {name}\npublic-keys:\n  - {key}\n",
        cluster = plan.cluster,
        name = node.name(),
        key = keys.login_public,
    )
}

/// Who may log in, and the host key by which the node is known.
///
/// - The key goes to root and to the image's default user; `disable_root: false` lets root use it.
/// - Host keys that came with the image go, none but ours is made: cloud-init generates none where it is given one,
///   which also saves the seconds that an RSA key takes.
/// - `manage_etc_hosts: false`: some images map the node's own name to 127.0.1.1, where the networks' DNS tells its
///   real address.
///
/// `default_user` says whether a list of users has to keep the image's default user.
pub fn user_data(ssh_user: &UserName, keys: &ClusterKeys, host_key: &HostKey, default_user: bool) -> String {
    let key = &keys.login_public;
    let mut text = String::from("#cloud-config\n");
    let root = ssh_user.as_str() == "root";
    if root {
        text.push_str("disable_root: false\n");
    }
    let _ = write!(
        text,
        "ssh_authorized_keys:\n  - {key}\nssh_deletekeys: true\nssh_keys:\n  ed25519_private: |\n"
    );
    for line in host_key.private.lines() {
        let _ = writeln!(text, "    {line}");
    }
    let _ = writeln!(text, "  ed25519_public: {}", host_key.public);
    text.push_str("manage_etc_hosts: false\npreserve_hostname: false\n");
    if !root {
        text.push_str("users:\n");
        if default_user {
            text.push_str("  - default\n");
        }
        // No shell is named: one that the image lacks would keep sshd from letting the user in. The name is quoted:
        // `no` and `null` are names that YAML reads otherwise.
        let _ = write!(
            text,
            "  - name: \"{user}\"\n    sudo: ALL=(ALL) NOPASSWD:ALL\n    ssh_authorized_keys:\n      - {key}\n",
            user = ssh_user.as_str(),
        );
    }
    text
}
