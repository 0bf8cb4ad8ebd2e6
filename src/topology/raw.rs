//! The form of what users write: the source of the published JSON Schema.
//!
//! Documents are read by [`super::validate()`], which can tell all that is wrong at once; these types say the same in a
//! form that editors understand. A test proves that both know the same fields.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::model::{AcceleratorChoice, NetworkingChoice, OnFailure};

/// The JSON Schema (2020-12) of a topology.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Topology);
    schema.insert("title".to_owned(), Value::from("libvirt-resource topology"));
    let mut schema = schema.to_value();
    if let Value::Object(root) = &mut schema {
        tidy(root);
    }
    schema
}

/// A field may be left out and may not be null, which `Option` would allow; a description is one line to editors.
fn tidy(object: &mut Map<String, Value>) {
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties
            .values_mut()
            .filter_map(Value::as_object_mut)
            .for_each(not_null);
    }
    if let Some(Value::String(description)) = object.get_mut("description") {
        *description = description.replace('\n', " ");
    }
    for value in object.values_mut() {
        match value {
            Value::Object(below) => tidy(below),
            Value::Array(items) => items.iter_mut().filter_map(Value::as_object_mut).for_each(tidy),
            _ => {}
        }
    }
}

fn not_null(property: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = property.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [kind] = types.as_slice() {
            let kind = kind.clone();
            property.insert("type".to_owned(), kind);
        }
    }
    let Some(Value::Array(choices)) = property.get_mut("anyOf") else {
        return;
    };
    choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
    if let [Value::Object(only)] = choices.as_slice() {
        let only = only.clone();
        property.remove("anyOf");
        property.extend(only);
    }
}

/// A cluster of virtual machines that stand in for bare-metal nodes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// The groups of nodes by name; the nodes are named GROUP-1, GROUP-2 and so on. A group without fields may be left
    /// empty.
    #[schemars(extend("minProperties" = 1, "propertyNames" = {"pattern": "^[a-z]([a-z0-9-]{0,58}[a-z0-9])?$"}))]
    pub nodes: BTreeMap<String, Option<Group>>,
    /// The disk image of every node that does not name another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// What holds for every group that does not say otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Defaults>,
    /// The networks by name. Without this section there is one NAT network called default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 32, "propertyNames" = {"pattern": "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"}))]
    pub networks: Option<BTreeMap<String, Network>>,
    /// TCP ports of every node that later steps reach on the cluster's address. 22 is always among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(range(min = 1, max = 65535)))]
    pub forward: Option<Vec<u16>>,
    /// Who logs in by SSH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9._-]{0,31}$"), extend("default" = "root"))]
    pub ssh_user: Option<String>,
    /// What is done at a node's first boot beside what this resource needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_boot: Option<FirstBoot>,
    /// When a node counts as ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
    /// Files to copy from nodes once all are ready, by the name they get in the artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 64, "propertyNames" = {"pattern": "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"}))]
    pub collect: Option<BTreeMap<String, Collect>>,
    /// Subnets that auto must not choose and that no network may overlap, such as those the nodes' software uses inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(regex(pattern = r"^\d+\.\d+\.\d+\.\d+/\d+$")))]
    pub avoid: Option<Vec<String>>,
    /// How long the cluster lives after the put, from 1m to 120h: Concourse keeps no container longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(\d+d)?(\d+h)?(\d+m)?(\d+s)?$"), extend("default" = "2h"))]
    pub lifetime: Option<String>,
    /// What becomes of a cluster that does not get ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "destroy"))]
    pub on_failure: Option<OnFailure>,
    /// Whether hardware virtualisation is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "auto"))]
    pub accelerator: Option<AcceleratorChoice>,
    /// Who carries the nodes' packets: the kernel's bridges or, where the container may make none, the agent itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "auto"))]
    pub networking: Option<NetworkingChoice>,
}

/// What holds for every group that does not say otherwise.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// Virtual CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 512), extend("default" = 2))]
    pub cpus: Option<u32>,
    /// RAM, such as 2GiB: a whole number of MiB from 32MiB to 8TiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^\d+(\.\d{1,3})?(B|KiB|MiB|GiB|TiB)$"), extend("default" = "2GiB"))]
    pub memory: Option<String>,
    /// Size of the root disk, such as 20GiB: a whole number of MiB from 1MiB to 64TiB, not less than the image's own size,
    /// which it has by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^\d+(\.\d{1,3})?(B|KiB|MiB|GiB|TiB)$"))]
    pub disk: Option<String>,
    /// Blank disks beside the root disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub extra_disks: Option<Vec<ExtraDisk>>,
    /// Whether the nodes can run KVM machines of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = false))]
    pub nested: Option<bool>,
    /// The networks a node has a NIC in, in order; the first carries SSH. By default the network called default, or the
    /// only one there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    pub networks: Option<Vec<String>>,
    /// TCP ports of a node that later steps reach on the cluster's address. 22 is always among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(range(min = 1, max = 65535)))]
    pub forward: Option<Vec<u16>>,
    /// The disk image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// Who logs in by SSH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9._-]{0,31}$"), extend("default" = "root"))]
    pub ssh_user: Option<String>,
    /// What is done at first boot beside what this resource needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_boot: Option<FirstBoot>,
    /// When a node counts as ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
}

/// A group of nodes that are alike.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// How many; 64 in the whole cluster at the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64), extend("default" = 1))]
    pub count: Option<u32>,
    /// Virtual CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 512), extend("default" = 2))]
    pub cpus: Option<u32>,
    /// RAM, such as 2GiB: a whole number of MiB from 32MiB to 8TiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^\d+(\.\d{1,3})?(B|KiB|MiB|GiB|TiB)$"), extend("default" = "2GiB"))]
    pub memory: Option<String>,
    /// Size of the root disk, such as 20GiB: a whole number of MiB from 1MiB to 64TiB, not less than the image's own size,
    /// which it has by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^\d+(\.\d{1,3})?(B|KiB|MiB|GiB|TiB)$"))]
    pub disk: Option<String>,
    /// Blank disks beside the root disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub extra_disks: Option<Vec<ExtraDisk>>,
    /// Whether the nodes can run KVM machines of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = false))]
    pub nested: Option<bool>,
    /// The networks a node has a NIC in, in order; the first carries SSH. By default the network called default, or the
    /// only one there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    pub networks: Option<Vec<String>>,
    /// TCP ports of a node that later steps reach on the cluster's address. 22 is always among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(range(min = 1, max = 65535)))]
    pub forward: Option<Vec<u16>>,
    /// The disk image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// Who logs in by SSH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9._-]{0,31}$"), extend("default" = "root"))]
    pub ssh_user: Option<String>,
    /// What is done at first boot beside what this resource needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_boot: Option<FirstBoot>,
    /// When a node counts as ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
}

/// A blank disk.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtraDisk {
    /// Its size, such as 10GiB: a whole number of MiB from 1MiB to 64TiB.
    #[schemars(regex(pattern = r"^\d+(\.\d{1,3})?(B|KiB|MiB|GiB|TiB)$"))]
    pub size: String,
    /// What the node reads as the disk's serial number (/dev/disk/by-id/virtio-SERIAL). By default data0 for the first,
    /// data1 for the second and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,20}$"))]
    pub serial: Option<String>,
}

/// Where a disk image comes from: one of file, box and url. qcow2 or raw, also compressed by gzip, xz, zstd or bzip2.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Image {
    /// A file of an input.
    File(ImageFile),
    /// A Vagrant box.
    Box(ImageBox),
    /// A download.
    Url(ImageUrl),
}

/// A disk image that is a file of an input.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageFile {
    /// Its path: INPUT/NAME.qcow2 in a put, relative to the topology's folder otherwise.
    pub file: String,
}

/// A disk image inside a Vagrant box for libvirt.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageBox {
    /// The path of the .box file: INPUT/NAME.box in a put, relative to the topology's folder otherwise.
    pub r#box: String,
}

/// A disk image that is downloaded.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageUrl {
    /// http or https, without user name and password.
    #[schemars(url)]
    pub url: String,
    /// The SHA-256 digest of the file as it is served, 64 hexadecimal digits.
    #[schemars(regex(pattern = r"^[0-9A-Fa-f]{64}$"))]
    pub sha256: String,
}

/// A network: one of nat and isolated.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Network {
    /// Leads outwards.
    Nat(NatNetwork),
    /// Among the nodes alone.
    Isolated(IsolatedNetwork),
}

/// A network that leads outwards by address translation.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NatNetwork {
    /// auto, or its subnet: private IPv4 space, from /8 to /29.
    #[schemars(regex(pattern = r"^(auto|\d+\.\d+\.\d+\.\d+/\d+)$"))]
    pub nat: String,
    /// The MTU of bridge and NICs; by default that of the container's own way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 576, max = 65535))]
    pub mtu: Option<u32>,
}

/// A network among the nodes alone.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IsolatedNetwork {
    /// auto, or its subnet: private IPv4 space, from /8 to /29.
    #[schemars(regex(pattern = r"^(auto|\d+\.\d+\.\d+\.\d+/\d+)$"))]
    pub isolated: String,
    /// The MTU of bridge and NICs; 1500 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 576, max = 65535))]
    pub mtu: Option<u32>,
}

/// What is done at first boot beside what this resource needs: cloud-init's files, or an Ignition configuration.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum FirstBoot {
    /// For cloud-init.
    CloudInit(CloudInit),
    /// For Ignition.
    Ignition(Ignition),
}

/// Files for cloud-init (data source NoCloud).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloudInit {
    /// The path of a user-data file in any form that cloud-init takes, 1 MiB at the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<String>,
    /// The path of a network configuration (version 1 or 2) that replaces the generated one, 1 MiB at the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_config: Option<String>,
}

/// A configuration for Ignition.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ignition {
    /// The path of an Ignition configuration (JSON, spec 3.x), 1 MiB at the most.
    pub ignition: String,
}

/// When a node counts as ready.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// A shell command that must succeed on the node once login works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32768))]
    pub command: Option<String>,
    /// How long from power on until ready at the most, from 1s to 24h. By default 5m under KVM, stretched without it; a
    /// given time is never stretched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(\d+d)?(\d+h)?(\d+m)?(\d+s)?$"))]
    pub timeout: Option<String>,
}

/// A file to copy from a node.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Collect {
    /// The node's name, such as control-1.
    pub node: String,
    /// An absolute path on it.
    #[schemars(regex(pattern = "^/"))]
    pub path: String,
}
