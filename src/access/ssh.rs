//! What OpenSSH needs: wrappers, configuration, host keys.

use std::fmt::Write as _;

use super::AccessError;
use super::nodes::address;
use super::script;
use crate::agent::api::types::{Cluster, NodeInfo};

/// The programs of OpenSSH that get a wrapper.
pub const TOOLS: [&str; 3] = ["ssh", "scp", "sftp"];

/// The port on the endpoint's address that leads to a node's SSH.
pub fn port(node: &NodeInfo) -> Result<u16, AccessError> {
    node.forwards.get(&22).copied().ok_or_else(|| AccessError::NoSsh {
        node: node.name.clone(),
    })
}

/// `known_hosts` (sshd(8)): each node under its name, its addresses, and the forward that leads to it.
pub fn known_hosts(cluster: &Cluster) -> Result<String, AccessError> {
    let mut text = String::new();
    for node in &cluster.nodes {
        let _ = write!(text, "{}", node.name);
        for at in &node.addresses {
            let _ = write!(text, ",{}", at.address);
        }
        let _ = writeln!(
            text,
            ",[{}]:{} {}",
            cluster.endpoint.ip(),
            port(node)?,
            node.host_key.trim()
        );
    }
    Ok(text)
}

/// `ssh_config`. OpenSSH takes a relative path as one from the current directory, so that the paths go by a variable,
/// which it expands since 8.4.
pub fn config(cluster: &Cluster) -> Result<String, AccessError> {
    let mut text = String::from(
        "# For the wrappers beside this file (nodes/ssh worker-1), or, once NODES_DIR names this directory (. nodes/env),\n\
         # for any OpenSSH program: ssh -F \"$NODES_DIR/ssh_config\" worker-1\n",
    );
    for node in &cluster.nodes {
        let _ = write!(
            text,
            "\nHost {name} {address}\n  HostName {endpoint}\n  Port {port}\n  User {user}\n  HostKeyAlias {name}\n",
            name = node.name,
            address = address(node)?,
            endpoint = cluster.endpoint.ip(),
            port = port(node)?,
            user = node.ssh_user.as_str(),
        );
    }
    text.push_str(
        "\nHost *\n  IdentityFile ${NODES_DIR}/id_ed25519\n  IdentitiesOnly yes\n  IdentityAgent none\n  \
         UserKnownHostsFile ${NODES_DIR}/known_hosts\n  GlobalKnownHostsFile /dev/null\n  \
         StrictHostKeyChecking yes\n  UpdateHostKeys no\n  HostKeyAlgorithms ssh-ed25519\n  \
         PreferredAuthentications publickey\n  ConnectTimeout 30\n  ServerAliveInterval 15\n",
    );
    Ok(text)
}

/// A wrapper of one of [`TOOLS`].
pub fn wrapper(tool: &str) -> String {
    WRAPPER.replace("@SELF@", script::SELF).replace("@TOOL@", tool)
}

/// POSIX sh. What it must cope with: any current directory, symbolic links to it, spaces in the path, being found on
/// PATH (where `ssh` must not call itself), a key whose mode or owner changed on its way between workers, and an
/// OpenSSH before 8.4.
const WRAPPER: &str = r##"#!/bin/sh
# @TOOL@ to the nodes by name: same arguments as @TOOL@(1).
@SELF@
NODES_DIR=$(CDPATH='' cd -P -- "$(dirname -- "$self")" && pwd -P) || exit 255
export NODES_DIR

# Sets `real` to the program of that name: the first on PATH that is none of these wrappers.
find_real() {
  real=
  rest=$PATH:
  while [ -n "$rest" ]; do
    dir=${rest%%:*}
    rest=${rest#*:}
    candidate=${dir:-.}/$1
    if [ -f "$candidate" ] && [ -x "$candidate" ] && ! [ "$candidate" -ef "$NODES_DIR/$1" ]; then
      real=$candidate
      return
    fi
  done
  echo "nodes: no $1 on PATH: install OpenSSH's client (openssh-client, openssh-clients, openssh)" >&2
  exit 255
}
find_real ssh
ssh=$real
find_real @TOOL@
tool=$real

key=$NODES_DIR/id_ed25519
if ! [ -r "$key" ]; then
  echo "nodes: $key cannot be read by $(id -un 2>/dev/null || id -u): it belongs to whoever fetched the nodes" >&2
  exit 255
fi
# ssh takes no key of one's own that others may read. Artifacts can lose their modes on the way between workers.
copy=
case $(ls -ldn -- "$key") in
-???------*) ;;
*)
  if [ -O "$key" ] && ! chmod 600 "$key" 2>/dev/null; then
    copy=$(umask 077 && mktemp -d) || exit 255
    trap 'rm -rf "$copy"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    (umask 077 && cat "$key" >"$copy/id_ed25519" && cat "$NODES_DIR/known_hosts" >"$copy/known_hosts") || exit 255
  fi
  ;;
esac
config=$NODES_DIR/ssh_config
[ -z "$copy" ] || NODES_DIR=$copy

# Before 8.4 OpenSSH expands no variable in ssh_config.
case $("$ssh" -V 2>&1) in
OpenSSH_[0-7].* | OpenSSH_8.[0-3]*)
  set -- -o "IdentityFile=\"$NODES_DIR/id_ed25519\"" -o "UserKnownHostsFile=\"$NODES_DIR/known_hosts\"" "$@"
  ;;
esac

if [ -z "$copy" ]; then
  exec "$tool" -F "$config" "$@"
fi
"$tool" -F "$config" "$@"
"##;
