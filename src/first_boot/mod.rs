//! The keys of a cluster, and the seed that puts them into its nodes.
//!
//! A node learns who it is and who may log in from one of two seeds: a small FAT disk labelled `CIDATA` that
//! cloud-init's NoCloud data source reads, or an Ignition configuration handed over by QEMU's fw_cfg. Nothing in
//! either needs the network. What the user wants done at first boot is kept whole; ours is merged with it so that it
//! adds and never replaces.

mod cloud_init;
mod error;
mod fat;
mod file;
mod ignition;
pub mod keys;

use std::path::{Path, PathBuf};

pub use cloud_init::kind::Kind;
pub use error::FirstBootError;

use crate::topology::model::{FirstBoot, UserName};
use crate::topology::plan::{Plan, PlannedNode};
use keys::{ClusterKeys, HostKey};

/// The most bytes that a user's own file may have, before and after decompression.
pub const MAX_USER_BYTES: usize = 8 << 20;

/// What a node's machine is given so that its first boot can be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seed {
    /// A raw FAT image labelled `CIDATA`, to be attached as a read-only disk.
    Cidata(PathBuf),
    /// Ignition JSON, for fw_cfg under each of [`FW_CFG_NAMES`].
    FwCfg(PathBuf),
}

/// Where Ignition looks for its configuration under QEMU: Fedora CoreOS and RHEL CoreOS read the first, Flatcar the
/// second.
pub const FW_CFG_NAMES: [&str; 2] = ["opt/com.coreos/config", "opt/org.flatcar-linux/config"];

/// Writes a node's seed into `dir`, mode 0600: it holds the node's private host key. An earlier one is replaced.
///
/// The same input gives the same bytes.
pub fn write(
    node: &PlannedNode,
    plan: &Plan,
    keys: &ClusterKeys,
    host_key: &HostKey,
    dir: &Path,
) -> Result<Seed, FirstBootError> {
    check_login(&node.node.first_boot, &node.node.ssh_user)?;
    let (user_data, network_config) = match &node.node.first_boot {
        FirstBoot::Plain => (None, None),
        FirstBoot::CloudInit {
            user_data,
            network_config,
        } => (user_data.as_deref(), network_config.as_deref()),
        FirstBoot::Ignition { config } => {
            let path = dir.join(format!("{}.ign", node.name()));
            let bytes = ignition::wrap(node, keys, host_key, config)?;
            file::write(&path, &bytes)?;
            return Ok(Seed::FwCfg(path));
        }
    };
    let path = dir.join(format!("{}-cidata.img", node.name()));
    let meta_data = cloud_init::ours::meta_data(node, plan, keys);
    let user_data = cloud_init::user_data(&node.node.ssh_user, keys, host_key, user_data)?;
    let network_config = match network_config {
        Some(theirs) => theirs.to_vec(),
        None => cloud_init::network::config(node, plan).into_bytes(),
    };
    let image = fat::image(&[
        ("meta-data", meta_data.as_bytes()),
        ("user-data", &user_data),
        ("network-config", &network_config),
    ])
    .map_err(|source| FirstBootError::Image {
        path: path.clone(),
        source,
    })?;
    file::write(&path, &image)?;
    Ok(Seed::Cidata(path))
}

/// Refuses early what cannot work, whoever logs in: files that are too large, that do not parse, or that cloud-init
/// or Ignition would ignore.
pub fn check(first_boot: &FirstBoot) -> Result<(), FirstBootError> {
    match first_boot {
        FirstBoot::Plain => Ok(()),
        FirstBoot::CloudInit {
            user_data,
            network_config,
        } => {
            if let Some(user_data) = user_data {
                cloud_init::check::user_data(user_data)?;
            }
            network_config
                .as_deref()
                .map_or(Ok(()), cloud_init::check::network_config)
        }
        FirstBoot::Ignition { config } => ignition::check(config),
    }
}

/// Refuses what [`check`] refuses, and what would lock out the user by whom the nodes are reached.
pub fn check_login(first_boot: &FirstBoot, ssh_user: &UserName) -> Result<(), FirstBootError> {
    check(first_boot)?;
    match first_boot {
        FirstBoot::CloudInit {
            user_data: Some(user_data),
            ..
        } => cloud_init::check::login(user_data, ssh_user),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
