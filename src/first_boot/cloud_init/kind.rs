//! What a user's user-data is, told as cloud-init tells it: by its beginning.

use std::borrow::Cow;
use std::io::Read as _;

use crate::first_boot::{FirstBootError, MAX_USER_BYTES};
use crate::units::ByteSize;

/// A form of user-data that cloud-init knows (cloud-init, `handlers/__init__.py`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `#cloud-config`: YAML.
    CloudConfig,
    /// `#cloud-config-archive`: a YAML list of parts.
    CloudConfigArchive,
    /// `#cloud-config-jsonp`: a JSON patch (RFC 6902).
    CloudConfigJsonp,
    /// `#!`: a script for the end of the boot.
    Script,
    /// `#cloud-boothook`: a script for its beginning.
    Boothook,
    /// `#include`: URLs of further parts.
    Include,
    /// `#include-once`: likewise, fetched once.
    IncludeOnce,
    /// `#part-handler`: Python code for further kinds.
    PartHandler,
    /// `## template: jinja`: rendered, then told again.
    Jinja,
    /// A MIME message of parts.
    Mime,
}

/// The beginnings, the longer before those that they begin with.
const BEGINNINGS: [(&str, Kind); 9] = [
    ("#cloud-config-archive", Kind::CloudConfigArchive),
    ("#cloud-config-jsonp", Kind::CloudConfigJsonp),
    ("## template: jinja", Kind::Jinja),
    ("#cloud-boothook", Kind::Boothook),
    ("#cloud-config", Kind::CloudConfig),
    ("#include-once", Kind::IncludeOnce),
    ("#part-handler", Kind::PartHandler),
    ("#include", Kind::Include),
    ("#!", Kind::Script),
];

impl Kind {
    /// The type by which a MIME part is announced to cloud-init.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::CloudConfig => "text/cloud-config",
            Self::CloudConfigArchive => "text/cloud-config-archive",
            Self::CloudConfigJsonp => "text/cloud-config-jsonp",
            Self::Script => "text/x-shellscript",
            Self::Boothook => "text/cloud-boothook",
            Self::Include => "text/x-include-url",
            Self::IncludeOnce => "text/x-include-once-url",
            Self::PartHandler => "text/part-handler",
            Self::Jinja => "text/jinja2",
            Self::Mime => "multipart/mixed",
        }
    }
}

/// Tells what unpacked user-data is.
pub fn of(bytes: &[u8]) -> Result<Kind, FirstBootError> {
    // cloud-init looks for this first, anywhere in so many bytes and in any case.
    let head = bytes.get(..4096).unwrap_or(bytes).to_ascii_lowercase();
    if head.windows(13).any(|window| window == b"mime-version:") {
        return Ok(Kind::Mime);
    }
    let start = bytes.iter().position(|byte| !byte.is_ascii_whitespace());
    let Some(rest) = start.and_then(|start| bytes.get(start..)) else {
        return Err(FirstBootError::Empty { what: "user_data" });
    };
    let begins = |text: &str| {
        rest.get(..text.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(text.as_bytes()))
    };
    let known = BEGINNINGS.iter().find(|(text, _)| begins(text));
    known.map(|(_, kind)| *kind).ok_or_else(|| {
        let line = rest.split(|byte| *byte == b'\n').next().unwrap_or(rest);
        let found = String::from_utf8_lossy(line).chars().take(40).collect();
        FirstBootError::UnknownKind { found }
    })
}

/// Unpacks gzip, which cloud-init takes around everything but not around a MIME message inside a MIME message.
pub fn unpack(bytes: &[u8]) -> Result<Cow<'_, [u8]>, FirstBootError> {
    let what = "user_data";
    if bytes.len() > MAX_USER_BYTES {
        return Err(FirstBootError::TooLarge {
            what,
            size: ByteSize(bytes.len() as u64),
        });
    }
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut unpacked = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes)
        .take(MAX_USER_BYTES as u64 + 1)
        .read_to_end(&mut unpacked)
        .map_err(|source| FirstBootError::Gzip { what, source })?;
    if unpacked.len() > MAX_USER_BYTES {
        return Err(FirstBootError::Unpacks { what });
    }
    Ok(Cow::Owned(unpacked))
}

/// The bytes as text.
pub fn text(bytes: &[u8]) -> Result<&str, FirstBootError> {
    std::str::from_utf8(bytes).map_err(|error| FirstBootError::NotUtf8 {
        what: "user_data",
        at: error.valid_up_to(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_beginning_is_told() {
        for (text, kind) in BEGINNINGS {
            assert_eq!(of(format!("{text}\nrest").as_bytes()).unwrap(), kind, "{text}");
            assert_eq!(
                of(format!("\n  {}\n", text.to_uppercase()).as_bytes()).unwrap(),
                kind,
                "{text}"
            );
        }
        assert_eq!(
            of(b"Content-Type: multipart/mixed\nMIME-Version: 1.0\n\n").unwrap(),
            Kind::Mime
        );
    }

    #[test]
    fn what_cloud_init_ignores_is_refused_with_its_first_line() {
        let error = of(b"users:\n- bob\n").unwrap_err().to_string();
        assert_eq!(
            error,
            r#"user_data starts with "users:", which cloud-init does not know: it would ignore the file"#
        );
        assert!(matches!(of(b" \n"), Err(FirstBootError::Empty { .. })));
    }

    #[test]
    fn gzip_is_unpacked_and_bounded() {
        use std::io::Write as _;
        let pack = |bytes: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(unpack(&pack(b"#!/bin/sh\n")).unwrap().as_ref(), b"#!/bin/sh\n");
        assert!(matches!(
            unpack(&pack(&vec![b' '; MAX_USER_BYTES + 1])),
            Err(FirstBootError::Unpacks { .. })
        ));
        assert!(matches!(
            unpack(b"\x1f\x8bnonsense"),
            Err(FirstBootError::Gzip { .. })
        ));
        assert!(matches!(
            unpack(&vec![b'#'; MAX_USER_BYTES + 1]),
            Err(FirstBootError::TooLarge { .. })
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_are_told_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = unpack(&bytes).and_then(|unpacked| of(&unpacked));
        }
    }
}
