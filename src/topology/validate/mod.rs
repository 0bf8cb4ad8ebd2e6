//! What was written becomes what it means, or a list of everything that is wrong with it.

mod collect;
mod first_boot;
mod image;
mod network;
mod settings;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use self::settings::{Outer, Settings};
use super::inputs::Inputs;
use super::limits;
use super::model::{
    AcceleratorChoice, FirstBoot, Network, NetworkingChoice, Node, OnFailure, Ready, Timeout, Topology,
    UserName,
};
use super::name::Name;
use super::problems::{Problem, Problems, did_you_mean, listed};
use super::reader::{Cursor, Object, Report};

/// Reads a topology, and the first-boot files that it names below `inputs`.
///
/// Tells everything that is wrong at once, each with its path (`nodes.worker.memory`). Reads no image and reaches no
/// network.
pub fn validate(raw: &Value, inputs: &Inputs) -> Result<Topology, Problems> {
    let report = Report::default();
    let made = topology(&Cursor::new("", raw, &report), inputs);
    report.done(made)
}

/// `None` where something was wrong; what, is in the report.
fn topology(cursor: &Cursor<'_>, inputs: &Inputs) -> Option<Topology> {
    let object = cursor.object("a mapping with image and nodes")?;
    let outer = Outer::read(&object, inputs);
    let defaults = match object.field("defaults") {
        None => Settings::default(),
        Some(field) => field
            .object("a mapping of fields that hold for every group")
            .map(|fields| {
                let read = Settings::read(&fields, inputs);
                fields.finish(|key| (key == "count").then(|| "count belongs to a group".to_owned()));
                read
            })
            .unwrap_or_else(Settings::unreadable),
    };
    let networks = network::all(object.field("networks"));
    let nodes = nodes(&object, &outer, &defaults, &networks, inputs);
    let avoid = network::avoid(object.field("avoid"));
    let known = nodes.as_deref();
    let collect = object
        .field("collect")
        .map_or_else(|| Some(BTreeMap::new()), |field| collect::all(&field, known));
    let lifetime = object
        .field("lifetime")
        .map_or(Some(limits::DEFAULT_LIFETIME), |field| {
            settings::within(
                &field,
                &limits::LIFETIME,
                "a time",
                "; Concourse keeps no container longer",
                |_| None,
            )
        });
    let on_failure = object
        .field("on_failure")
        .map_or(Some(OnFailure::default()), |field| {
            field.choice(&[("destroy", OnFailure::Destroy), ("keep", OnFailure::Keep)])
        });
    let accelerator = object
        .field("accelerator")
        .map_or(Some(AcceleratorChoice::default()), |field| {
            field.choice(&[
                ("auto", AcceleratorChoice::Auto),
                ("kvm", AcceleratorChoice::Kvm),
                ("tcg", AcceleratorChoice::Tcg),
            ])
        });
    let networking = object
        .field("networking")
        .map_or(Some(NetworkingChoice::default()), |field| {
            field.choice(&[
                ("auto", NetworkingChoice::Auto),
                ("bridges", NetworkingChoice::Bridges),
                ("user", NetworkingChoice::User),
            ])
        });
    network::apart(
        &networks,
        avoid.as_deref().unwrap_or_default(),
        nodes.as_deref().unwrap_or_default(),
    );
    object.finish(|key| {
        matches!(key, "cpus" | "memory" | "disk" | "extra_disks" | "nested")
            .then(|| "put it under defaults, where it holds for every node, or into a group".to_owned())
    });
    Some(Topology {
        nodes: nodes?,
        networks: networks.made()?,
        avoid: avoid?,
        collect: collect?,
        lifetime: lifetime?.duration(),
        on_failure: on_failure?,
        accelerator: accelerator?,
        networking: networking?,
    })
}

fn nodes(
    object: &Object<'_>,
    outer: &Outer,
    defaults: &Settings,
    networks: &network::Networks<'_>,
    inputs: &Inputs,
) -> Option<Vec<Node>> {
    const EXPECTED: &str = "a mapping from group names to groups, such as {worker: {count: 3}}";
    let field = object.required("nodes", EXPECTED)?;
    let groups = field.entries(EXPECTED)?;
    if groups.is_empty() {
        field.wrong("has no group: name at least one, such as {worker: {count: 3}}");
        return None;
    }
    let mut made = Some(Vec::new());
    let mut total = 0;
    let mut pictured = true;
    for (key, cursor) in &groups {
        let name = group_name(key, cursor, &groups);
        let nothing = Value::Object(Map::new());
        // `worker:` with nothing behind it is a group that says nothing otherwise.
        let shape = if cursor.value.is_null() {
            Cursor {
                value: &nothing,
                ..cursor.clone()
            }
        } else {
            cursor.clone()
        };
        let Value::Object(_) = shape.value else {
            let meant = shape
                .value
                .as_u64()
                .map(|count| format!("did you mean {{count: {count}}}?"));
            shape.expected_hint("a mapping of fields, such as {count: 3, memory: 4GiB}", meant);
            made = None;
            continue;
        };
        let Some(group) = shape.object("a mapping") else {
            continue;
        };
        let count = group
            .field("count")
            .map_or(Some(1), |field| field.whole(&limits::NODES));
        total += count.unwrap_or(1);
        let settings = Settings::read(&group, inputs);
        group.finish(|key| {
            matches!(
                key,
                "lifetime" | "on_failure" | "accelerator" | "networking" | "collect" | "avoid"
            )
            .then(|| "it belongs to the whole topology, not to a group".to_owned())
        });
        pictured &= outer.image.is_some() || defaults.outer.image.is_some() || settings.outer.image.is_some();
        let node = machine(&cursor.path, cursor.report, outer, defaults, &settings, networks);
        let name = name.filter(|name| networks.apart_from(name, count.unwrap_or(1), cursor));
        match (made.as_mut(), name, count, node) {
            (Some(made), Some(role), Some(count), Some(machine)) if total <= *limits::NODES.end() => {
                // A group's name is short enough that every number fits behind it.
                made.extend((1..=count).filter_map(|number| {
                    let name = format!("{role}-{number}").parse().ok()?;
                    Some(machine.clone().named(name, role.clone()))
                }));
            }
            _ => made = None,
        }
    }
    if !pictured {
        let message = "is missing: name a disk image for every node, such as {file: os-image/disk.qcow2}";
        field.report.add(Problem::new("image", message));
    }
    if total > *limits::NODES.end() {
        field.wrong(format!(
            "are {total} in all: {} are the most",
            limits::NODES.end()
        ));
        return None;
    }
    made
}

/// Names that mean something else: on every host, or to Ansible, which reads groups from the inventory.
const TAKEN: [&str; 6] = [
    "localhost",
    "ip6-localhost",
    "ip6-loopback",
    "gateway",
    "all",
    "ungrouped",
];

fn group_name(key: &str, cursor: &Cursor<'_>, groups: &[(&str, Cursor<'_>)]) -> Option<Name> {
    let name = match key.parse::<Name>() {
        Ok(name) => name,
        Err(error) => {
            cursor.wrong(format!("the group's name {error}"));
            return None;
        }
    };
    if key.len() > limits::GROUP_NAME {
        cursor.wrong(format!(
            "the group's name has {} characters: {} are the most, so that a number fits behind it",
            key.len(),
            limits::GROUP_NAME
        ));
        return None;
    }
    if TAKEN.contains(&key) {
        cursor.wrong(format!(
            "{key} means something else to every host or to Ansible: choose another name"
        ));
        return None;
    }
    // A group called worker-1 beside one called worker: the same word would mean a group and a node.
    let (stem, number) = key.rsplit_once('-').unwrap_or((key, ""));
    let number: u64 = if number.starts_with('0') {
        0
    } else {
        number.parse().unwrap_or(0)
    };
    let clash = groups.iter().find(|(other, group)| {
        let count = group.value.get("count").and_then(Value::as_u64).unwrap_or(1);
        *other == stem && (1..=count).contains(&number)
    });
    if clash.is_some() {
        cursor.wrong(format!(
            "{key} is also the name of a node of the group {stem}: choose another name"
        ));
        return None;
    }
    Some(name)
}

/// A node but for its name.
#[derive(Clone)]
struct Machine {
    settings: Settings,
    networks: Vec<Name>,
    image: super::model::ImageSource,
}

impl Machine {
    fn named(self, name: Name, role: Name) -> Node {
        let Settings {
            cpus,
            memory,
            disk,
            extra_disks,
            nested,
            networks: _,
            outer,
        } = self.settings;
        let mut forward = outer.forward.flatten().unwrap_or_default();
        forward.insert(22);
        Node {
            name,
            role,
            cpus: cpus.flatten().unwrap_or(limits::DEFAULT_CPUS),
            memory: memory.flatten().unwrap_or(limits::DEFAULT_MEMORY),
            disk: disk.flatten(),
            image: self.image,
            extra_disks: extra_disks.flatten().unwrap_or_default(),
            nested: nested.flatten().unwrap_or_default(),
            networks: self.networks,
            forward,
            ssh_user: outer.ssh_user.flatten().unwrap_or_else(UserName::root),
            first_boot: outer.first_boot.flatten().unwrap_or(FirstBoot::Plain),
            ready: outer.ready.flatten().unwrap_or(Ready {
                command: None,
                timeout: Timeout::Default,
            }),
        }
    }
}

/// The nearest of group, defaults and top level wins, whole fields at a time.
fn machine(
    path: &str,
    report: &Report,
    outer: &Outer,
    defaults: &Settings,
    group: &Settings,
    networks: &network::Networks<'_>,
) -> Option<Machine> {
    let settings = group.clone().or(defaults.clone()).or(Settings {
        outer: outer.clone(),
        ..Settings::default()
    });
    let named = match settings.networks.clone() {
        Some(named) => named,
        None => match networks.by_default() {
            Some(name) => Some(vec![settings::NamedNetwork {
                name,
                path: String::new(),
            }]),
            None if networks.broken() => None,
            None => {
                let names = networks.names();
                report.add(Problem::new(
                    format!("{path}.networks"),
                    format!(
                        "is missing: say which of {} its nodes are in; the first carries SSH",
                        listed(&names, "and")
                    ),
                ));
                None
            }
        },
    };
    let named = named?;
    let mut known = true;
    for network in named.iter().filter(|network| !networks.has(&network.name)) {
        known = false;
        // What stands in defaults is told once, not once a group.
        let names = networks.names();
        let hint = did_you_mean(network.name.as_str(), names.iter().map(String::as_str));
        report.add_once(
            Problem::new(
                network.path.clone(),
                format!(
                    "there is no network {:?}: there is {}",
                    network.name.as_str(),
                    listed(&names, "and")
                ),
            )
            .hint(hint),
        );
    }
    let image = settings.outer.image.clone().flatten();
    let whole = known && settings.is_whole();
    image.filter(|_| whole).map(|image| Machine {
        networks: named.into_iter().map(|network| network.name).collect(),
        image,
        settings,
    })
}

/// How many nodes have a NIC in the network.
fn members(network: &Network, nodes: &[Node]) -> u64 {
    nodes
        .iter()
        .filter(|node| node.networks.contains(&network.name))
        .count() as u64
}

#[cfg(test)]
mod tests;
