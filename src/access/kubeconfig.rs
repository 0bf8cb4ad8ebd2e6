//! A collected kubeconfig, made usable from outside the cluster.

use std::net::{IpAddr, Ipv4Addr};

use serde_yaml_ng::{Mapping, Value};
use url::{Host, Url};

use super::error::Warning;
use super::{AccessError, proxy_url};
use crate::agent::api::types::{Cluster, CollectedFile, NodeInfo};

/// Points every server that is a node at that node's forward. The certificate is still checked against the name that
/// it was made for (`tls-server-name`); contexts and users stay as they are.
///
/// A server whose port is not forwarded is reached through the proxy (`proxy-url`), with a warning.
pub fn point_at_forwards(
    content: &[u8],
    from: &CollectedFile,
    cluster: &Cluster,
) -> Result<(String, Vec<Warning>), AccessError> {
    let none = |problem: String| AccessError::Kubeconfig {
        node: from.node.clone(),
        path: from.path.clone(),
        problem,
    };
    let mut config: Value = serde_yaml_ng::from_slice(content).map_err(|error| none(error.to_string()))?;
    let clusters = config
        .get_mut("clusters")
        .and_then(Value::as_sequence_mut)
        .ok_or_else(|| none("it has no list of clusters".to_owned()))?;
    let mut warnings = Vec::new();
    let mut left = Vec::new();
    let mut touched = false;
    for entry in clusters {
        let name = entry
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let Some(entry) = entry.get_mut("cluster").and_then(Value::as_mapping_mut) else {
            return Err(none(format!("its cluster {name:?} has no settings")));
        };
        let Some(server) = entry.get("server").and_then(Value::as_str).map(str::to_owned) else {
            return Err(none(format!("its cluster {name:?} has no server")));
        };
        let url = Url::parse(&server).map_err(|error| none(format!("its server {server:?}: {error}")))?;
        let Some(node) = node_of(&url, from, cluster) else {
            left.push(server);
            continue;
        };
        touched = true;
        warnings.extend(
            redirect(entry, url, node, cluster).map_err(|()| none(format!("its server {server:?}")))?,
        );
    }
    if !touched && !left.is_empty() {
        warnings.push(Warning::ForeignServers { servers: left });
    }
    let text = serde_yaml_ng::to_string(&config).map_err(|error| AccessError::Encode {
        name: super::KUBECONFIG,
        problem: error.to_string(),
    })?;
    Ok((text, warnings))
}

/// The node that a server is: by name, by any of its addresses, or, as localhost, the one that the file came from.
fn node_of<'a>(url: &Url, from: &CollectedFile, cluster: &'a Cluster) -> Option<&'a NodeInfo> {
    let named = |name: &str| cluster.nodes.iter().find(|node| node.name.as_str() == name);
    let home = named(from.node.as_str());
    match url.host()? {
        Host::Domain("localhost") => home,
        Host::Domain(name) => named(name),
        Host::Ipv4(at) if at.is_loopback() => home,
        Host::Ipv4(at) => cluster
            .nodes
            .iter()
            .find(|node| node.addresses.iter().any(|of| of.address == at)),
        Host::Ipv6(at) if at.is_loopback() => home,
        Host::Ipv6(_) => None,
    }
}

fn redirect(
    entry: &mut Mapping,
    mut url: Url,
    node: &NodeInfo,
    cluster: &Cluster,
) -> Result<Option<Warning>, ()> {
    let port = url.port_or_known_default().ok_or(())?;
    let original = match url.host() {
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(at)) => at.to_string(),
        // Without the brackets that a URL puts around it.
        Some(Host::Ipv6(at)) => at.to_string(),
        None => return Err(()),
    };
    let secure = url.scheme() == "https";
    let (host, to, warning) = match node.forwards.get(&port) {
        Some(forward) => (*cluster.endpoint.ip(), *forward, None),
        None => {
            let proxy = proxy_url(cluster).replacen("socks5h:", "socks5:", 1);
            entry.insert("proxy-url".into(), proxy.into());
            let address = node
                .addresses
                .first()
                .map_or(Ipv4Addr::LOCALHOST, |first| first.address);
            let (node, role) = (node.name.clone(), node.role.clone());
            (address, port, Some(Warning::NotForwarded { node, role, port }))
        }
    };
    url.set_ip_host(IpAddr::V4(host))?;
    url.set_port(Some(to))?;
    // A URL without a path prints with one.
    let bare = url.path() == "/" && url.query().is_none();
    let server = if bare {
        url.as_str().trim_end_matches('/')
    } else {
        url.as_str()
    };
    entry.insert("server".into(), server.into());
    if secure && !entry.contains_key("tls-server-name") {
        entry.insert("tls-server-name".into(), original.into());
    }
    Ok(warning)
}
