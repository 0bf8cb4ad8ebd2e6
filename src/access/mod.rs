//! The files by which later steps reach a cluster, as `in` and `nodectl` write them.
//!
//! An artifact lies at another path in every step of a build, so no file holds an absolute one: the wrappers find
//! their own folder, `ssh_config` goes by `NODES_DIR`, the inventory by Ansible's `inventory_dir`. What each file is
//! for is told in `docs/artifact.md`.

mod directory;
mod env;
mod error;
mod forwards;
mod inventory;
mod kubeconfig;
mod nodes;
mod script;
mod ssh;

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::agent::api::types::{Cluster, Secret};
use crate::report::{self, Report};
use crate::topology::name::Name;
use directory::{Directory, Mode};

pub use error::{AccessError, Warning};
pub use kubeconfig::point_at_forwards;
pub use nodes::{ForwardInfo, InterfaceInfo, NodeFile, NodesFile, schema};

/// The name of the file that tells what the cluster is: written last, so that a directory that has it is whole.
pub const NODES_JSON: &str = "nodes.json";

/// A collected file of this name is a kubeconfig: its servers are pointed at the forwards.
pub const KUBECONFIG: &str = "kubeconfig";

/// What opens the agent's API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiAccess {
    /// The fingerprint of the certificate that the agent shows, as the version has it.
    pub fingerprint: String,
    /// The token.
    pub token: Secret,
}

/// What a directory that [`write()`] wrote says of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What opens the API.
    pub api: ApiAccess,
    /// Where the API is.
    pub endpoint: SocketAddrV4,
    /// The cluster's name.
    pub cluster: Name,
}

/// Writes the files of a cluster into `dir`, which exists; an earlier cluster's are replaced, other files stay.
///
/// All of them are made beside one another first and moved into place at the end, so that an error leaves none of
/// the new ones. `consoles` are the nodes' serial logs, `report` tells how
/// they came up.
pub fn write(
    dir: &Path,
    cluster: &Cluster,
    secrets: &ApiAccess,
    consoles: &BTreeMap<Name, Vec<u8>>,
    report: Option<&Report>,
) -> Result<Vec<Warning>, AccessError> {
    let mut warnings = Vec::new();
    let new = Directory::beside(dir)?;
    new.file("name", Mode::Open, format!("{}\n", cluster.cluster))?;
    new.file("endpoint", Mode::Open, format!("{}\n", cluster.endpoint))?;
    new.file("token", Mode::Secret, format!("{}\n", secrets.token.0))?;
    new.file("proxy", Mode::Secret, format!("{}\n", proxy_url(cluster)))?;
    new.file(
        "curlrc",
        Mode::Secret,
        format!("proxy = \"{}\"\n", proxy_url(cluster)),
    )?;
    new.file("id_ed25519", Mode::Secret, &cluster.login_key.0)?;
    new.file("known_hosts", Mode::Open, ssh::known_hosts(cluster)?)?;
    new.file("ssh_config", Mode::Open, ssh::config(cluster)?)?;
    for tool in ssh::TOOLS {
        new.file(tool, Mode::Program, ssh::wrapper(tool))?;
    }
    new.file("env", Mode::Open, env::SCRIPT)?;
    new.file("forwards", Mode::Open, forwards::table(cluster))?;
    new.file("forward", Mode::Program, forwards::script())?;
    new.file("hosts", Mode::Open, forwards::hosts(cluster))?;
    new.file("inventory.yml", Mode::Open, inventory::yaml(cluster)?)?;
    for (name, file) in &cluster.collected {
        let content = STANDARD
            .decode(&file.content.0)
            .map_err(|source| AccessError::Collected {
                name: name.clone(),
                source,
            })?;
        if name.as_str() == KUBECONFIG {
            let (text, said) = kubeconfig::point_at_forwards(&content, file, cluster)?;
            new.file(KUBECONFIG, Mode::Secret, text)?;
            warnings.extend(said);
        } else {
            new.file(&format!("collected/{name}"), Mode::Secret, content)?;
        }
    }
    for (name, log) in consoles {
        new.file(&format!("consoles/{name}.log"), Mode::Open, log)?;
    }
    if let Some(told) = report {
        let json = serde_json::to_vec_pretty(told).map_err(AccessError::Json)?;
        new.file("report.json", Mode::Open, json)?;
        new.file(
            "report.html",
            Mode::Open,
            report::html(told).map_err(AccessError::Json)?,
        )?;
    }
    let nodes = nodes::file(cluster, &secrets.fingerprint)?;
    new.file(NODES_JSON, Mode::Open, nodes::json(&nodes)?)?;
    new.replace(dir)?;
    Ok(warnings)
}

/// Writes a file that nobody else may read (0600), in place of one that is there.
///
/// # Errors
/// Those of the file system.
pub fn write_secret(path: &Path, text: &str) -> std::io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    // Made with that mode, and moved into place.
    let mut file = tempfile::NamedTempFile::new_in(parent.unwrap_or(Path::new(".")))?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

/// Reads back from such a directory what opens the API.
pub fn read(dir: &Path) -> Result<Known, AccessError> {
    let path = dir.join(NODES_JSON);
    let text = directory::read(dir, NODES_JSON)?;
    let nodes: NodesFile = serde_json::from_str(&text).map_err(|source| AccessError::NotNodes {
        path: path.clone(),
        source,
    })?;
    if nodes.format != nodes::FORMAT {
        return Err(AccessError::Format {
            path,
            found: nodes.format,
        });
    }
    let token = directory::read(dir, "token")?.trim().to_owned();
    if token.is_empty() {
        return Err(AccessError::EmptyToken {
            path: dir.join("token"),
        });
    }
    Ok(Known {
        api: ApiAccess {
            fingerprint: nodes.fingerprint,
            token: Secret(token),
        },
        endpoint: nodes.endpoint,
        cluster: nodes.cluster,
    })
}

/// `socks5h`: names are looked up at the far end, where the nodes' names are known.
fn proxy_url(cluster: &Cluster) -> String {
    let proxy = &cluster.proxy;
    format!(
        "socks5h://{}:{}@{}",
        proxy.username, proxy.password.0, proxy.address
    )
}

#[cfg(test)]
mod tests;
