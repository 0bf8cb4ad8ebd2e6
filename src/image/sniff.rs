//! What a file is, from its first bytes. Names are not trusted: a `.qcow2` may be an error page.

use super::codec::Codec;
use super::qcow2;

/// How much of a file's start [`sniff`] wants to see: the furthest mark is that of btrfs, at 64 KiB.
pub const HEAD: usize = 72 << 10;

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A qcow2 image of any version.
    Qcow2,
    /// Taken for the bytes of a disk, as nothing says otherwise.
    Raw,
    /// Compressed.
    Packed(Codec),
    /// A tar archive: a Vagrant box, perhaps.
    Tar,
    /// Something that is recognisably no disk.
    Alien(Alien),
}

/// What people give for a disk that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alien {
    /// No bytes.
    Empty,
    /// Less than a sector.
    Tiny(usize),
    /// What Git holds in the place of a file that Git LFS keeps.
    LfsPointer,
    /// A web page, with its title.
    Html(String),
    /// XML: often what an object store says instead of the object.
    Xml,
    /// JSON.
    Json,
    /// Any other text, with its first line.
    Text(String),
    /// A known format, with the format that `qemu-img convert -f` knows it by, if it does.
    Disk(&'static str, Option<&'static str>),
    /// A CD image.
    Iso,
    /// A kernel, or a program.
    Program(&'static str),
    /// A file system or archive that no firmware boots.
    Archive(&'static str),
    /// A compression that is not read.
    Packed(&'static str),
}

impl std::fmt::Display for Alien {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("an empty file"),
            Self::Tiny(size) => write!(f, "a file of {size} bytes, less than a sector"),
            Self::LfsPointer => f.write_str("a Git LFS pointer, not the file that it stands for"),
            Self::Html(title) if title.is_empty() => f.write_str("an HTML page"),
            Self::Html(title) => write!(f, "an HTML page ({title:?})"),
            Self::Xml => f.write_str("an XML document"),
            Self::Json => f.write_str("a JSON document"),
            Self::Text(line) => write!(f, "text ({line:?})"),
            Self::Disk(name, _) => write!(f, "a disk in {name} format"),
            Self::Iso => f.write_str("a CD image (ISO 9660)"),
            Self::Program(name) | Self::Archive(name) => f.write_str(name),
            Self::Packed(name) => write!(f, "compressed by {name}"),
        }
    }
}

impl Alien {
    /// What to do about it.
    pub fn cure(&self) -> String {
        match self {
            Self::Empty | Self::Tiny(_) => "See whether the step that made it has failed half way.".to_owned(),
            Self::LfsPointer => "Fetch the files of Git LFS: the Concourse git resource does so unless disable_git_lfs \
                is set; elsewhere run git lfs pull."
                .to_owned(),
            Self::Html(_) | Self::Xml | Self::Json => "A server probably said in it why it did not serve the image: \
                read it, and use the address of the file itself (not of a page about it), with a login if it asks for one."
                .to_owned(),
            Self::Text(_) => "Name the file that holds the disk, not a list, script or checksum beside it.".to_owned(),
            Self::Disk(_, Some(format)) => {
                format!("Convert it: qemu-img convert -f {format} -O qcow2 IMAGE disk.qcow2")
            }
            Self::Disk(_, None) => "Convert it to raw or qcow2 with the tool that made it.".to_owned(),
            Self::Iso => "Use the cloud image (qcow2 or raw) of that system rather than its installer.".to_owned(),
            Self::Program(_) => "Use a whole disk image with a boot loader; a kernel alone is not booted.".to_owned(),
            Self::Archive(_) => "Name the disk image itself; gz, xz, zst and bz2 files and Vagrant boxes are unpacked, \
                no other archives."
                .to_owned(),
            Self::Packed(_) => "Compress it by gzip, xz, zstd or bzip2 instead, or not at all.".to_owned(),
        }
    }
}

/// Magic numbers by place.
const MARKS: &[(usize, &[u8], Alien)] = &[
    (0, b"KDMV", Alien::Disk("VMDK", Some("vmdk"))),
    (0, b"COWD", Alien::Disk("VMDK", Some("vmdk"))),
    (0, b"# Disk DescriptorFile", Alien::Disk("VMDK", Some("vmdk"))),
    (64, b"\x7f\x10\xda\xbe", Alien::Disk("VDI", Some("vdi"))),
    (0, b"conectix", Alien::Disk("VHD", Some("vpc"))),
    (0, b"vhdxfile", Alien::Disk("VHDX", Some("vhdx"))),
    (0, b"QED\0", Alien::Disk("QED", Some("qed"))),
    (
        0,
        b"WithoutFreeSpace",
        Alien::Disk("Parallels", Some("parallels")),
    ),
    (
        0,
        b"WithouFreSpacExt",
        Alien::Disk("Parallels", Some("parallels")),
    ),
    (0, b"\x3a\xff\x26\xed", Alien::Disk("Android sparse", None)),
    (0x202, b"HdrS", Alien::Program("a Linux kernel")),
    (0, b"\x7fELF", Alien::Program("an ELF program or kernel")),
    (0, b"hsqs", Alien::Archive("a squashfs file system")),
    (0, b"070701", Alien::Archive("a cpio archive (an initramfs)")),
    (0, b"070702", Alien::Archive("a cpio archive (an initramfs)")),
    (0, b"PK\x03\x04", Alien::Archive("a zip archive")),
    (0, b"7z\xbc\xaf\x27\x1c", Alien::Archive("a 7z archive")),
    (0, b"Rar!\x1a\x07", Alien::Archive("a RAR archive")),
    (
        0,
        b"!<arch>\n",
        Alien::Archive("an ar archive (a Debian package)"),
    ),
    (0, b"\x04\x22\x4d\x18", Alien::Packed("lz4")),
    (0, b"LZIP", Alien::Packed("lzip")),
    (
        0,
        b"\x5d\x00\x00\x80\x00\xff\xff\xff\xff",
        Alien::Packed("lzma (the old .lzma)"),
    ),
    (0, b"\x1f\x9d", Alien::Packed("compress (.Z)")),
    (0x8001, b"CD001", Alien::Iso),
];

/// What a file is, judged by its first [`HEAD`] bytes (all of it, where it is shorter).
pub fn sniff(head: &[u8]) -> Kind {
    if head.is_empty() {
        return Kind::Alien(Alien::Empty);
    }
    if head.starts_with(&qcow2::MAGIC) {
        return Kind::Qcow2;
    }
    if let Some(codec) = Codec::sniff(head) {
        return Kind::Packed(codec);
    }
    for (at, mark, alien) in MARKS {
        if head.get(*at..).is_some_and(|there| there.starts_with(mark)) {
            return Kind::Alien(alien.clone());
        }
    }
    if super::tar::is_header(head) {
        return Kind::Tar;
    }
    if let Some(alien) = text(head) {
        return Kind::Alien(alien);
    }
    if head.len() < 512 {
        return Kind::Alien(Alien::Tiny(head.len()));
    }
    Kind::Raw
}

/// What a text is; `None` for what is no text.
pub fn text(head: &[u8]) -> Option<Alien> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let look = &head[..head.len().min(512)];
    let lower = String::from_utf8_lossy(look).trim_start().to_ascii_lowercase();
    if ["<!doctype html", "<html", "<head", "<body", "<title"]
        .iter()
        .any(|start| lower.starts_with(start))
    {
        return Some(Alien::Html(title(head)));
    }
    // No boot sector is all printable: it starts with a jump and ends in 0x55 0xAA.
    let printable = match std::str::from_utf8(look) {
        Ok(text) => text,
        // A character may be cut in two where the look ends.
        Err(error) if look.len() == 512 && error.valid_up_to() > 508 => {
            std::str::from_utf8(&look[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    if printable.trim().is_empty()
        || printable
            .chars()
            .any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\x1b'))
    {
        return None;
    }
    if lower.starts_with("version https://git-lfs") {
        return Some(Alien::LfsPointer);
    }
    if lower.starts_with("<!doctype") || (lower.starts_with('<') && lower.contains("<html")) {
        return Some(Alien::Html(title(head)));
    }
    if lower.starts_with("<?xml") && lower.contains("<html") {
        return Some(Alien::Html(title(head)));
    }
    if lower.starts_with('<') {
        return Some(Alien::Xml);
    }
    if lower.starts_with(['{', '[']) {
        return Some(Alien::Json);
    }
    Some(Alien::Text(clean(
        printable.trim_start().lines().next().unwrap_or_default(),
    )))
}

/// The title of a page, fit to be printed.
fn title(page: &[u8]) -> String {
    let page = String::from_utf8_lossy(page);
    let lower = page.to_ascii_lowercase();
    let title = lower.find("<title").and_then(|tag| {
        let start = tag + lower[tag..].find('>')? + 1;
        let end = start + lower[start..].find("</title")?;
        page.get(start..end)
    });
    clean(title.unwrap_or_default())
}

/// One short line without control characters.
pub fn clean(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn alien(bytes: &[u8]) -> Alien {
        match sniff(bytes) {
            Kind::Alien(alien) => alien,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn texts_are_told_apart() {
        assert_eq!(alien(b""), Alien::Empty);
        assert_eq!(alien(b"\0\0"), Alien::Tiny(2));
        assert_eq!(
            alien(b"\r\n<!DOCTYPE HTML>\n<html><head><title>404\n Not  Found</title>"),
            Alien::Html("404 Not Found".to_owned())
        );
        assert_eq!(alien(b"<!-- x --><html>"), Alien::Html(String::new()));
        assert_eq!(
            alien(b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"),
            Alien::Xml
        );
        assert_eq!(alien(b" {\"message\": \"no\"}"), Alien::Json);
        assert_eq!(
            alien(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
            Alien::LfsPointer
        );
        assert_eq!(alien(b"#!/bin/sh\necho"), Alien::Text("#!/bin/sh".to_owned()));
    }

    #[test]
    fn every_mark_is_known_with_a_cure() {
        for (at, mark, expected) in MARKS {
            let mut bytes = vec![1; HEAD];
            bytes[*at..at + mark.len()].copy_from_slice(mark);
            assert_eq!(&alien(&bytes), expected);
            assert!(!expected.cure().is_empty() && !expected.to_string().is_empty());
        }
    }

    #[test]
    fn a_boot_sector_and_zeros_are_raw() {
        let mut sector = vec![0; 512];
        assert_eq!(sniff(&sector), Kind::Raw);
        sector[..3].copy_from_slice(b"\xeb\x63\x90");
        sector[510..].copy_from_slice(b"\x55\xaa");
        assert_eq!(sniff(&sector), Kind::Raw);
    }

    proptest! {
        #[test]
        fn no_bytes_upset_it(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let _ = sniff(&bytes);
        }

        #[test]
        fn no_text_upsets_it(text in "(<html>|<title|\\{|\u{e4}|[a-z<>/ \\n]){0,200}") {
            let _ = sniff(text.as_bytes());
        }
    }
}
