//! The fields that may stand at several levels: of a group, under `defaults`, and some of them at the top.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::{first_boot, image};
use crate::topology::inputs::Inputs;
use crate::topology::limits;
use crate::topology::model::{DiskSerial, ExtraDisk, FirstBoot, ImageSource, Ready, Timeout, UserName};
use crate::topology::name::Name;
use crate::topology::problems::{did_you_mean, quoted};
use crate::topology::reader::{Cursor, Object, shown};
use crate::units::{ByteSize, nearest_size};

/// A field as it was found: `None` where it was not written, `Some(None)` where it was and is wrong.
///
/// The two differ: what is wrong is told once, and must neither be called missing nor be filled in from elsewhere.
pub(super) type Found<T> = Option<Option<T>>;

/// What may stand at all three levels.
#[derive(Clone, Default)]
pub(super) struct Outer {
    pub forward: Found<BTreeSet<u16>>,
    pub image: Found<ImageSource>,
    pub ssh_user: Found<UserName>,
    pub first_boot: Found<FirstBoot>,
    pub ready: Found<Ready>,
}

/// What may stand in a group and under `defaults`.
#[derive(Clone, Default)]
pub(super) struct Settings {
    pub cpus: Found<u32>,
    pub memory: Found<ByteSize>,
    pub disk: Found<ByteSize>,
    pub extra_disks: Found<Vec<ExtraDisk>>,
    pub nested: Found<bool>,
    pub networks: Found<Vec<NamedNetwork>>,
    pub outer: Outer,
}

/// A network that a node is said to be in, and where that is said.
#[derive(Clone)]
pub(super) struct NamedNetwork {
    pub name: Name,
    pub path: String,
}

impl Outer {
    pub fn read(object: &Object<'_>, inputs: &Inputs) -> Self {
        Self {
            forward: object.field("forward").map(|field| forward(&field)),
            image: object.field("image").map(|field| image::read(&field, inputs)),
            ssh_user: object
                .field("ssh_user")
                .map(|field| field.checked("a login name, such as root")),
            first_boot: object
                .field("first_boot")
                .map(|field| first_boot::read(&field, inputs)),
            ready: object.field("ready").map(|field| ready(&field)),
        }
    }

    fn or(self, further: Self) -> Self {
        Self {
            forward: self.forward.or(further.forward),
            image: self.image.or(further.image),
            ssh_user: self.ssh_user.or(further.ssh_user),
            first_boot: self.first_boot.or(further.first_boot),
            ready: self.ready.or(further.ready),
        }
    }
}

impl Settings {
    pub fn read(object: &Object<'_>, inputs: &Inputs) -> Self {
        Self {
            cpus: object.field("cpus").map(|field| {
                field
                    .whole(&limits::CPUS)
                    .and_then(|cpus| u32::try_from(cpus).ok())
            }),
            memory: object.field("memory").map(|field| size(&field, &limits::MEMORY)),
            disk: object.field("disk").map(|field| size(&field, &limits::DISK)),
            extra_disks: object.field("extra_disks").map(|field| extra_disks(&field)),
            nested: object.field("nested").map(|field| field.yes_or_no()),
            networks: object.field("networks").map(|field| networks(&field)),
            outer: Outer::read(object, inputs),
        }
    }

    /// A section that is no mapping: told already, so that nothing it may have held is called missing.
    pub fn unreadable() -> Self {
        let outer = Outer {
            image: Some(None),
            ..Outer::default()
        };
        Self {
            networks: Some(None),
            outer,
            ..Self::default()
        }
    }

    /// These, and what stands further off where these say nothing.
    pub fn or(self, further: Self) -> Self {
        Self {
            cpus: self.cpus.or(further.cpus),
            memory: self.memory.or(further.memory),
            disk: self.disk.or(further.disk),
            extra_disks: self.extra_disks.or(further.extra_disks),
            nested: self.nested.or(further.nested),
            networks: self.networks.or(further.networks),
            outer: self.outer.or(further.outer),
        }
    }

    /// Whether nothing that was found is wrong.
    pub fn is_whole(&self) -> bool {
        fn fine<T>(found: &Found<T>) -> bool {
            !matches!(found, Some(None))
        }
        fine(&self.cpus)
            && fine(&self.memory)
            && fine(&self.disk)
            && fine(&self.extra_disks)
            && fine(&self.nested)
            && fine(&self.networks)
            && fine(&self.outer.forward)
            && fine(&self.outer.image)
            && fine(&self.outer.ssh_user)
            && fine(&self.outer.first_boot)
            && fine(&self.outer.ready)
    }
}

/// A size or time within limits. `why` is added where the upper limit is passed.
pub(super) fn within<T>(
    field: &Cursor<'_>,
    range: &RangeInclusive<T>,
    what: &str,
    why: &str,
    hint: impl FnOnce(&str) -> Option<String>,
) -> Option<T>
where
    T: FromStr + PartialOrd + Display,
    T::Err: Display,
{
    let value: T = field.parsed(hint)?;
    if range.contains(&value) {
        return Some(value);
    }
    let why = if value > *range.end() { why } else { "" };
    field.expected(format!("{what} from {} to {}{why}", range.start(), range.end()));
    None
}

fn size(field: &Cursor<'_>, range: &RangeInclusive<ByteSize>) -> Option<ByteSize> {
    let size = within(field, range, "a size", "", |text| {
        nearest_size(text).map(|size| format!("did you mean {size}?"))
    })?;
    // libvirt and QEMU would round otherwise, each in its own way.
    if size.bytes() % (1 << 20) != 0 {
        field.wrong(format!("{}: use a whole number of MiB", shown(field.value)));
        return None;
    }
    Some(size)
}

fn extra_disks(field: &Cursor<'_>) -> Option<Vec<ExtraDisk>> {
    let items = field.list(
        limits::EXTRA_DISKS,
        "a list of disks, such as [{size: 10GiB, serial: data0}]",
    )?;
    let mut disks: Option<Vec<ExtraDisk>> = Some(Vec::new());
    let mut taken = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let disk = extra_disk(item, index);
        if let Some(disk) = &disk {
            if !taken.insert(disk.serial.as_str().to_owned()) {
                let serial = disk.serial.as_str();
                item.wrong(format!(
                    "the serial {serial:?} is another disk's already: give each its own"
                ));
                disks = None;
            }
        }
        disks = disks.zip(disk).map(|(mut disks, disk)| {
            disks.push(disk);
            disks
        });
    }
    disks
}

fn extra_disk(item: &Cursor<'_>, index: usize) -> Option<ExtraDisk> {
    let object = item.object("a mapping, such as {size: 10GiB, serial: data0}")?;
    let size = object
        .required("size", "a size, such as 10GiB")
        .and_then(|field| size(&field, &limits::DISK));
    let serial = match object.field("serial") {
        Some(field) => field.checked("a disk serial of 1 to 20 characters, such as data0"),
        None => DiskSerial::try_from(format!("data{index}")).ok(),
    };
    object.finish(|_| None);
    Some(ExtraDisk {
        size: size?,
        serial: serial?,
    })
}

fn networks(field: &Cursor<'_>) -> Option<Vec<NamedNetwork>> {
    let items = field.list(
        limits::NICS,
        "a list of network names, such as [default, storage]",
    )?;
    if items.is_empty() {
        field.wrong("is empty: a node needs a network, or SSH would not reach it");
        return None;
    }
    let mut names = Some(Vec::new());
    let mut taken = BTreeSet::new();
    for item in &items {
        let name: Option<Name> = item.checked("a network's name");
        if let Some(name) = &name {
            if !taken.insert(name.clone()) {
                item.wrong(format!(
                    "{:?} is named twice: a node has one NIC in a network",
                    name.as_str()
                ));
                names = None;
            }
        }
        names = names.zip(name).map(|(mut names, name)| {
            names.push(NamedNetwork {
                name,
                path: item.path.clone(),
            });
            names
        });
    }
    names
}

fn forward(field: &Cursor<'_>) -> Option<BTreeSet<u16>> {
    let items = field.list(limits::FORWARDS, "a list of TCP ports, such as [6443]")?;
    // All of them are read before any is judged missing, so that every wrong one is told.
    let ports: Vec<Option<u16>> = items
        .iter()
        .map(|item| {
            item.whole(&(1..=u64::from(u16::MAX)))
                .and_then(|port| u16::try_from(port).ok())
        })
        .collect();
    ports.into_iter().collect()
}

fn ready(field: &Cursor<'_>) -> Option<Ready> {
    let object =
        field.object("a mapping, such as {command: systemctl is-system-running --wait, timeout: 5m}")?;
    let command = object.field("command").map(|field| command(&field));
    let timeout = object
        .field("timeout")
        .map(|field| within(&field, &limits::READY_TIMEOUT, "a time", "", |_| None));
    object.finish(|_| None);
    Some(Ready {
        command: match command {
            None => None,
            Some(command) => Some(command?),
        },
        timeout: match timeout {
            None => Timeout::Default,
            Some(timeout) => Timeout::Given(timeout?.duration()),
        },
    })
}

fn command(field: &Cursor<'_>) -> Option<String> {
    const EXPECTED: &str = "a shell command";
    let text = match field.value {
        // `command: true` is a mapping's boolean to YAML and a program to everyone else.
        serde_json::Value::Bool(value) => return Some(value.to_string()),
        _ => field.text(EXPECTED)?,
    };
    if text.trim().is_empty() {
        field.wrong("is empty: use a shell command, or leave it out");
    } else if text.len() > limits::COMMAND {
        field.wrong(format!(
            "has {} bytes: {} are the most; put it into the image or user data",
            text.len(),
            limits::COMMAND
        ));
    } else if text.contains('\0') {
        field.wrong("holds a NUL character");
    } else {
        return Some(text.to_owned());
    }
    None
}

/// A misspelt name among names of the user's own.
pub(super) fn no_such(field: &Cursor<'_>, what: &str, name: &str, known: &[String]) {
    let hint = did_you_mean(name, known.iter().map(String::as_str));
    let list = crate::topology::problems::listed(known, "and");
    field.wrong_hint(
        format!("there is no {what} {}: there is {list}", quoted(name)),
        hint,
    );
}
