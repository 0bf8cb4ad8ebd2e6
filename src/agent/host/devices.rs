//! The device nodes that QEMU needs: made where the container has none, and tried.

use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat, open, stat};
use rustix::io::Errno;
use serde::{Serialize, Serializer};

/// A character device by its numbers, which are the kernel's ABI (`Documentation/admin-guide/devices.txt`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Where programs look for it.
    pub path: PathBuf,
    /// Its major number.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
}

impl Device {
    /// `/dev/kvm`.
    pub fn kvm() -> Self {
        Self {
            path: "/dev/kvm".into(),
            major: 10,
            minor: 232,
        }
    }

    /// `/dev/net/tun`.
    pub fn tun() -> Self {
        Self {
            path: "/dev/net/tun".into(),
            major: 10,
            minor: 200,
        }
    }

    /// `/dev/vhost-net`.
    pub fn vhost_net() -> Self {
        Self {
            path: "/dev/vhost-net".into(),
            major: 10,
            minor: 238,
        }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path.display())
    }
}

/// What there is to say of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Condition {
    /// The node was there and opens.
    There,
    /// The node was missing, was made, and opens.
    Made,
    /// The node is missing and cannot be made: EPERM without CAP_MKNOD or in a user namespace.
    CannotBeMade {
        /// What mkdir or mknod said.
        #[serde(serialize_with = "errno_text")]
        errno: Errno,
    },
    /// The node is (or could be made) there but does not open: EPERM where the device cgroup forbids it, ENODEV or
    /// ENXIO where the kernel has no driver for it.
    Refused {
        /// What open said.
        #[serde(serialize_with = "errno_text")]
        errno: Errno,
    },
    /// Something else stands under its name.
    Occupied,
}

impl Condition {
    /// Whether it can be used.
    pub fn usable(&self) -> bool {
        matches!(self, Self::There | Self::Made)
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::There => f.write_str("there, opens"),
            Self::Made => f.write_str("was missing, made by mknod, opens"),
            Self::CannotBeMade { errno } => write!(f, "missing, and mknod fails: {errno}"),
            Self::Refused { errno } => write!(f, "does not open: {errno}"),
            Self::Occupied => f.write_str("is something else than the device node"),
        }
    }
}

fn errno_text<S: Serializer>(errno: &Errno, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(errno)
}

/// The three devices and their conditions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Devices {
    /// `/dev/kvm`: hardware virtualisation.
    pub kvm: Condition,
    /// `/dev/net/tun`: no node has a NIC without it.
    pub tun: Condition,
    /// `/dev/vhost-net`: makes NICs faster; nothing fails without it.
    pub vhost_net: Condition,
}

/// Makes the nodes that are missing, and says of each whether it can be used. Harmless to repeat.
pub fn ensure() -> Devices {
    Devices {
        kvm: ensure_one(&Device::kvm()),
        tun: ensure_one(&Device::tun()),
        vhost_net: ensure_one(&Device::vhost_net()),
    }
}

/// Makes one node if it is missing, and tries it.
pub fn ensure_one(device: &Device) -> Condition {
    let made = match condition_of_node(device) {
        Node::There => false,
        Node::Other => return Condition::Occupied,
        Node::Missing => match make(device) {
            Ok(()) => true,
            // Somebody else was faster.
            Err(Errno::EXIST) => false,
            Err(errno) => return Condition::CannotBeMade { errno },
        },
    };
    match open(
        &device.path,
        OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK,
        Mode::empty(),
    ) {
        Ok(_) if made => Condition::Made,
        Ok(_) => Condition::There,
        Err(errno) => {
            if made {
                // A node that is there but does not open misleads: libvirt takes a /dev/kvm that exists for one that
                // works, and probes QEMU anew at each start of a machine.
                let _ = std::fs::remove_file(&device.path);
            }
            Condition::Refused { errno }
        }
    }
}

enum Node {
    There,
    Missing,
    Other,
}

fn condition_of_node(device: &Device) -> Node {
    match stat(&device.path) {
        Ok(found) => {
            let same = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
                && found.st_rdev == makedev(device.major, device.minor);
            if same { Node::There } else { Node::Other }
        }
        Err(_) => Node::Missing,
    }
}

fn make(device: &Device) -> Result<(), Errno> {
    let folder = device.path.parent().unwrap_or(Path::new("/"));
    // Where a file stands under the folder's name, mkdir's EEXIST would read as if the node were there.
    std::fs::create_dir_all(folder).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::EXIST) => Errno::NOTDIR,
        errno => errno.unwrap_or(Errno::IO),
    })?;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
    mknodat(
        CWD,
        &device.path,
        FileType::CharacterDevice,
        mode,
        makedev(device.major, device.minor),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_there_is_left_alone() {
        let null = Device {
            path: "/dev/null".into(),
            major: 1,
            minor: 3,
        };
        assert_eq!(ensure_one(&null), Condition::There);
        assert_eq!(ensure_one(&null), Condition::There);
    }

    #[test]
    fn a_file_of_that_name_is_no_device() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kvm");
        std::fs::write(&path, "").unwrap();
        assert_eq!(
            ensure_one(&Device {
                path: path.clone(),
                ..Device::kvm()
            }),
            Condition::Occupied
        );
        assert!(path.exists());
        assert_eq!(
            ensure_one(&Device {
                path: "/dev/null".into(),
                ..Device::kvm()
            }),
            Condition::Occupied
        );
    }

    #[test]
    fn a_missing_node_is_made_or_the_errno_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deeper/null");
        let condition = ensure_one(&Device {
            path: path.clone(),
            major: 1,
            minor: 3,
        });
        // Which one depends on who runs the tests and on what file system.
        match condition {
            Condition::Made => assert!(path.exists()),
            Condition::CannotBeMade { .. } | Condition::Refused { .. } => assert!(!path.exists()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_folder_that_is_a_file_is_an_errno() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let device = Device {
            path: dir.path().join("file/kvm"),
            ..Device::kvm()
        };
        assert!(matches!(ensure_one(&device), Condition::CannotBeMade { .. }));
    }

    #[test]
    fn conditions_serialise_with_the_errno_as_text() {
        let json = serde_json::to_value(Condition::Refused { errno: Errno::PERM }).unwrap();
        assert_eq!(json["is"], "refused");
        assert!(
            json["errno"]
                .as_str()
                .is_some_and(|text| text.contains("not permitted")),
            "{json}"
        );
    }
}
