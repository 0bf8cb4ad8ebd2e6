//! Vagrant boxes for libvirt: a tar, compressed or not, of `metadata.json` and one disk.
//!
//! The format is vagrant-libvirt's: version 1 names no disk (it is `box.img`), version 2 lists `disks`, each with a
//! `path` (by default `box_0.img`).

use std::io::{self, Read};

use serde::Deserialize;

use super::sniff::clean;
use super::tar::{Archive, EntryKind};
use crate::fault::Fault;

/// The largest `metadata.json` that is read.
const LARGEST_METADATA: u64 = 1 << 20;

/// How many of an archive's names are told.
const NAMES: usize = 8;

/// Why a box was refused.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BoxError {
    /// The archive ends in the middle of a file.
    #[error("is truncated: its tar archive ends in the middle of a file")]
    Cut,
    /// The archive is none.
    #[error("is damaged: {0}")]
    Damaged(String),
    /// An archive, but no box.
    #[error("is a tar archive without metadata.json{}", listed(.holds))]
    NoMetadata {
        /// Some of what is in it.
        holds: Vec<String>,
    },
    /// `metadata.json` is not what it should be.
    #[error("has a metadata.json that cannot be read: {0}")]
    Metadata(String),
    /// For another hypervisor.
    #[error("is made for {0}, not for libvirt")]
    Provider(String),
    /// Several disks.
    #[error("has {0} disks; boxes of one disk are taken")]
    Disks(usize),
    /// A disk that would lie outside.
    #[error("names a disk outside of the box, {0:?}")]
    Outside(String),
    /// The disk is not there.
    #[error("lacks its disk {name}{}", listed(.holds))]
    NoDisk {
        /// The disk's name.
        name: String,
        /// Some of what is in it.
        holds: Vec<String>,
    },
    /// The disk or the metadata is a link.
    #[error("holds {0} as a link; links are not followed")]
    Link(String),
    /// A sparse file in a form that is not read.
    #[error("holds {0} as a sparse file in pax format, which is not read")]
    PaxSparse(String),
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        " and without any file".to_owned()
    } else {
        format!("; it holds {}", names.join(", "))
    }
}

impl Fault for BoxError {
    fn help(&self) -> Option<String> {
        Some(match self {
            Self::Cut | Self::Damaged(_) => "Fetch the box again, and compare its checksum.".to_owned(),
            Self::NoMetadata { holds } => no_box_cure(holds).to_owned(),
            Self::Metadata(_) => "A box's metadata.json reads {\"provider\": \"libvirt\", \"format\": \"qcow2\", \"virtual_size\": 20}.".to_owned(),
            Self::Provider(_) => "Fetch the same box for the provider libvirt: vagrant box add --provider libvirt NAME".to_owned(),
            Self::Disks(_) => "Give the first disk as image: {file: …}, the others as extra_disks.".to_owned(),
            Self::Outside(_) | Self::Link(_) | Self::NoDisk { .. } => {
                "Make the box again, with the disk as a regular file beside metadata.json.".to_owned()
            }
            Self::PaxSparse(_) => "Pack the box by GNU tar: tar --format=gnu -S -cf NAME.box metadata.json box.img".to_owned(),
        })
    }
}

fn no_box_cure(holds: &[String]) -> &'static str {
    let any = |test: &dyn Fn(&str) -> bool| holds.iter().any(|name| test(name));
    if any(&|name| name == "oci-layout" || name == "manifest.json" || name.starts_with("blobs/")) {
        "That is a container image, not a machine's disk. If it holds a disk, get it with the registry-image resource and format: rootfs."
    } else if any(&|name| name.ends_with(".ovf")) {
        "That is an OVA: unpack it, then qemu-img convert -f vmdk -O qcow2 DISK.vmdk disk.qcow2"
    } else if any(&|name| {
        ["bin/", "dev/", "etc/", "usr/", "var/"]
            .iter()
            .any(|top| name.starts_with(top))
    }) {
        "That is a root file system, not a disk: it has no boot loader. Use the cloud image (qcow2 or raw) of that system."
    } else {
        "Unpack the archive in a task before, and name the disk in it."
    }
}

#[derive(Deserialize)]
struct Metadata {
    provider: String,
    disks: Option<Vec<Disk>>,
}

#[derive(Deserialize)]
struct Disk {
    path: Option<String>,
}

/// The name of the disk that a `metadata.json` speaks of; `None` where it leaves that to custom.
///
/// # Errors
///
/// Why the box is refused.
pub fn disk_name(metadata: &[u8]) -> Result<Option<String>, BoxError> {
    let metadata: Metadata =
        serde_json::from_slice(metadata).map_err(|error| BoxError::Metadata(error.to_string()))?;
    if !matches!(metadata.provider.as_str(), "libvirt" | "qemu") {
        return Err(BoxError::Provider(clean(&metadata.provider)));
    }
    let Some(disks) = metadata.disks else {
        return Ok(None);
    };
    let [disk] = &disks[..] else {
        return Err(BoxError::Disks(disks.len()));
    };
    let Some(path) = &disk.path else { return Ok(None) };
    let path = path.trim_start_matches("./");
    if path.is_empty() || path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(BoxError::Outside(clean(path)));
    }
    Ok(Some(path.to_owned()))
}

/// The disk's name where `metadata.json` gives none.
const CUSTOM: [&str; 2] = ["box.img", "box_0.img"];

/// What one pass over a box has found.
#[derive(Default)]
struct Pass {
    metadata: Option<Vec<u8>>,
    taken: Option<String>,
    odd: Vec<(String, BoxError)>,
    names: Vec<String>,
}

/// Finds the disk of a box and hands it to `take`, which may be called a second time if the first file it was given has turned
/// out not to be the disk: it must then begin anew.
///
/// `metadata.json` may come after the disk; so the file with the customary name is taken on suspicion, and only if that was wrong is
/// the box read twice.
///
/// # Errors
///
/// A [`BoxError`] inside an [`io::Error`], or those of `open`'s readers and of `take`.
pub fn disk<R: Read>(
    open: &mut dyn FnMut() -> io::Result<R>,
    take: &mut dyn FnMut(&mut dyn Read) -> io::Result<()>,
) -> io::Result<()> {
    let first = pass(open()?, None, take)?;
    let refuse = |error| Err(io::Error::other(error));
    let Some(metadata) = first.metadata else {
        if let Some((_, error)) = first.odd.into_iter().find(|(name, _)| name == "metadata.json") {
            return refuse(error);
        }
        return refuse(BoxError::NoMetadata { holds: first.names });
    };
    let wanted = disk_name(&metadata).map_err(io::Error::other)?;
    let is_wanted = |name: &str| {
        wanted
            .as_deref()
            .map_or(CUSTOM.contains(&name), |wanted| wanted == name)
    };
    if first.taken.as_deref().is_some_and(is_wanted) {
        return Ok(());
    }
    if let Some((_, error)) = first.odd.into_iter().find(|(name, _)| is_wanted(name)) {
        return refuse(error);
    }
    if let Some(wanted) = &wanted {
        let second = pass(open()?, Some(wanted), take)?;
        if second.taken.is_some() {
            return Ok(());
        }
        if let Some((_, error)) = second.odd.into_iter().find(|(name, _)| name == wanted) {
            return refuse(error);
        }
    }
    let name = wanted.unwrap_or_else(|| CUSTOM[0].to_owned());
    refuse(BoxError::NoDisk {
        name,
        holds: first.names,
    })
}

fn pass<R: Read>(
    reader: R,
    wanted: Option<&str>,
    take: &mut dyn FnMut(&mut dyn Read) -> io::Result<()>,
) -> io::Result<Pass> {
    let mut archive = Archive::new(reader);
    let mut pass = Pass::default();
    while let Some(entry) = archive.next()? {
        if pass.names.len() < NAMES {
            pass.names.push(clean(&entry.name));
        }
        let is_metadata = entry.name == "metadata.json";
        // Once metadata.json has been read, it alone says what the disk is called, and refuses early.
        let named = match (wanted, &pass.metadata) {
            (Some(wanted), _) => Some(wanted.to_owned()),
            (None, Some(metadata)) => disk_name(metadata).map_err(io::Error::other)?,
            (None, None) => None,
        };
        let is_disk = named
            .as_deref()
            .map_or(CUSTOM.contains(&entry.name.as_str()), |named| named == entry.name);
        if !is_metadata && !is_disk {
            continue;
        }
        match entry.kind {
            EntryKind::File if is_metadata => {
                if entry.size > LARGEST_METADATA {
                    return Err(io::Error::other(BoxError::Metadata(format!(
                        "it has {} bytes",
                        entry.size
                    ))));
                }
                let mut bytes = Vec::new();
                archive.data(&entry).read_to_end(&mut bytes)?;
                // A refusal need not wait for gigabytes to be unpacked.
                disk_name(&bytes).map_err(io::Error::other)?;
                pass.metadata = Some(bytes);
            }
            EntryKind::File if pass.taken.is_none() || named.is_some() => {
                take(&mut archive.data(&entry))?;
                pass.taken = Some(entry.name);
            }
            EntryKind::Link => pass
                .odd
                .push((entry.name.clone(), BoxError::Link(clean(&entry.name)))),
            EntryKind::PaxSparse => pass
                .odd
                .push((entry.name.clone(), BoxError::PaxSparse(clean(&entry.name)))),
            EntryKind::File | EntryKind::Other => {}
        }
        // An archive of endless odd entries is no box, and is not remembered at length.
        pass.odd.truncate(NAMES);
    }
    archive.finish()?;
    Ok(pass)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A box of these files.
    pub(crate) fn pack(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = ::tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = ::tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn unpack(bytes: &[u8]) -> Result<Vec<u8>, BoxError> {
        let mut disk_bytes = Vec::new();
        let result = disk(&mut || Ok(bytes), &mut |data| {
            disk_bytes.clear();
            data.read_to_end(&mut disk_bytes).map(|_| ())
        });
        result
            .map(|()| disk_bytes)
            .map_err(|error| error.downcast::<BoxError>().unwrap())
    }

    const V1: &[u8] = br#"{"provider": "libvirt", "format": "qcow2", "virtual_size": 20}"#;
    const V2: &[u8] = br#"{"provider": "libvirt", "disks": [{"format": "qcow2", "path": "root.qcow2"}]}"#;

    #[test]
    fn both_versions_in_any_order() {
        assert_eq!(
            unpack(&pack(&[("metadata.json", V1), ("box.img", b"disk")])).unwrap(),
            b"disk"
        );
        assert_eq!(
            unpack(&pack(&[("box.img", b"disk"), ("metadata.json", V1)])).unwrap(),
            b"disk"
        );
        assert_eq!(
            unpack(&pack(&[
                ("metadata.json", V2),
                ("box.img", b"no"),
                ("root.qcow2", b"disk")
            ]))
            .unwrap(),
            b"disk"
        );
        assert_eq!(
            unpack(&pack(&[
                ("box.img", b"no"),
                ("root.qcow2", b"disk"),
                ("metadata.json", V2)
            ]))
            .unwrap(),
            b"disk"
        );
    }

    #[test]
    fn each_refusal_is_its_own() {
        let of = |metadata: &[u8]| {
            unpack(&pack(&[("metadata.json", metadata), ("box.img", b"disk")])).unwrap_err()
        };
        assert_eq!(
            of(br#"{"provider": "virtualbox"}"#),
            BoxError::Provider("virtualbox".to_owned())
        );
        assert_eq!(
            of(br#"{"provider": "libvirt", "disks": [{}, {}]}"#),
            BoxError::Disks(2)
        );
        assert_eq!(
            of(br#"{"provider": "libvirt", "disks": [{"path": "../../etc/shadow"}]}"#),
            BoxError::Outside("../../etc/shadow".to_owned())
        );
        assert!(matches!(of(b"{"), BoxError::Metadata(_)));
        assert_eq!(
            unpack(&pack(&[("box.img", b"disk")])),
            Err(BoxError::NoMetadata {
                holds: vec!["box.img".to_owned()]
            })
        );
        assert!(matches!(
            unpack(&pack(&[("metadata.json", V2)])),
            Err(BoxError::NoDisk { .. })
        ));
        let whole = pack(&[("metadata.json", V1), ("box.img", &[7; 2000])]);
        assert_eq!(unpack(&whole[..2500]), Err(BoxError::Cut));
    }

    #[test]
    fn links_are_not_followed() {
        let mut builder = ::tar::Builder::new(Vec::new());
        let mut header = ::tar::Header::new_gnu();
        header.set_entry_type(::tar::EntryType::Symlink);
        header.set_size(0);
        builder
            .append_link(&mut header, "box.img", "/etc/shadow")
            .unwrap();
        let mut header = ::tar::Header::new_gnu();
        header.set_size(V1.len() as u64);
        builder.append_data(&mut header, "metadata.json", V1).unwrap();
        assert_eq!(
            unpack(&builder.into_inner().unwrap()),
            Err(BoxError::Link("box.img".to_owned()))
        );
    }

    #[test]
    fn other_archives_are_told_apart() {
        for (name, word) in [
            ("oci-layout", "container"),
            ("a.ovf", "OVA"),
            ("usr/bin/sh", "root file system"),
            ("x", "Unpack"),
        ] {
            let help = unpack(&pack(&[(name, b"")])).unwrap_err().help().unwrap();
            assert!(help.contains(word), "{help}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_metadata_upsets_it(text in "\\{(\"provider\":\"libvirt\"|,|\"disks\":\\[|\\{\"path\":\"[./a]{0,5}\"\\}|\\]){0,8}\\}") {
            let _ = disk_name(text.as_bytes());
        }
    }
}
