//! Where forwarded ports and the nodes' names lead to, for shells.

use std::fmt::Write as _;

use super::script;
use crate::agent::api::types::Cluster;

/// `forwards`: NODE PORT HOST:PORT, one line a forward, in the topology's order.
pub fn table(cluster: &Cluster) -> String {
    let mut text = String::new();
    for node in &cluster.nodes {
        for (port, at) in &node.forwards {
            let _ = writeln!(text, "{} {port} {}:{at}", node.name, cluster.endpoint.ip());
        }
    }
    text
}

/// `hosts`, in the form of hosts(5): every node's name leads to the one address that a task can reach, which is where
/// the forwards are.
pub fn hosts(cluster: &Cluster) -> String {
    let mut text = String::from(
        "# For a task: cat nodes/hosts >> /etc/hosts. The ports are those of the file forwards.\n",
    );
    for node in &cluster.nodes {
        let _ = writeln!(text, "{} {}", cluster.endpoint.ip(), node.name);
    }
    text
}

/// `forward`: looks a forward up in the table beside it.
pub fn script() -> String {
    SCRIPT.replace("@SELF@", script::SELF)
}

/// POSIX sh.
const SCRIPT: &str = r##"#!/bin/sh
# Prints HOST:PORT by which a port of a node is reached: forward NODE PORT
if [ $# != 2 ]; then
  echo "usage: $0 NODE PORT" >&2
  exit 2
fi
@SELF@
table=$(dirname -- "$self")/forwards
known=
while read -r node port address; do
  if [ "$node $port" = "$1 $2" ]; then
    echo "$address"
    exit
  fi
  known="$known $node:$port"
done <"$table" || exit
echo "nodes: port $2 of $1 is not forwarded; these are:$known. Name it under the group's forward, or go through nodes/proxy" >&2
exit 1
"##;
