//! The user's own first-boot files: read, and judged as far as their reader would judge them silently.
//!
//! cloud-init ignores user data that it does not recognise with no more than a warning inside the node, so what would be
//! ignored is refused here.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::topology::document::yaml_problem;
use crate::topology::inputs::Inputs;
use crate::topology::limits;
use crate::topology::model::FirstBoot;
use crate::topology::problems::quoted;
use crate::topology::reader::Cursor;

const EXPECTED: &str = "{user_data: PATH, network_config: PATH} or {ignition: PATH}";

pub(super) fn read(field: &Cursor<'_>, inputs: &Inputs) -> Option<FirstBoot> {
    let object = field.object(EXPECTED)?;
    let (user_data, network_config, ignition) = (
        object.field("user_data"),
        object.field("network_config"),
        object.field("ignition"),
    );
    let made = match (&user_data, &network_config, &ignition) {
        (None, None, None) => {
            object.wrong(format!("names no file: use {EXPECTED}"));
            None
        }
        (None, None, Some(ignition)) => {
            content(ignition, inputs, judge_ignition).map(|config| FirstBoot::Ignition { config })
        }
        (_, _, Some(_)) => {
            object.wrong("names files for cloud-init and for Ignition: a node has one of them");
            None
        }
        _ => {
            let user_data = user_data.map(|field| content(&field, inputs, judge_user_data));
            let network_config = network_config.map(|field| content(&field, inputs, judge_network_config));
            match (user_data, network_config) {
                (Some(None), _) | (_, Some(None)) => None,
                (user_data, network_config) => Some(FirstBoot::CloudInit {
                    user_data: user_data.flatten(),
                    network_config: network_config.flatten(),
                }),
            }
        }
    };
    object.finish(|_| None);
    made
}

/// What is wrong with a file, and a hint.
type Verdict = Result<(), (String, Option<String>)>;

fn content(field: &Cursor<'_>, inputs: &Inputs, judge: fn(&[u8]) -> Verdict) -> Option<Vec<u8>> {
    let path = field.text("a path")?;
    let content = match inputs.read(path, limits::FIRST_BOOT) {
        Ok(content) => content,
        Err(bad) => {
            field.wrong_hint(bad.message, bad.hint);
            return None;
        }
    };
    let verdict = if content.is_empty() {
        Err(("is an empty file".to_owned(), None))
    } else {
        judge(&content)
    };
    verdict
        .map_err(|(message, hint)| field.wrong_hint(format!("{} {message}", quoted(path)), hint))
        .ok()?;
    Some(content)
}

/// The beginnings by which cloud-init knows what it was given (its `INCLUSION_TYPES_MAP`, and MIME).
const BEGINNINGS: [&str; 11] = [
    "#cloud-config",
    "#cloud-config-archive",
    "#cloud-config-jsonp",
    "#cloud-boothook",
    "#include",
    "#include-once",
    "#part-handler",
    "#!",
    "## template: jinja",
    "Content-Type:",
    "MIME-Version:",
];

fn judge_user_data(content: &[u8]) -> Verdict {
    const GZIP: &[u8] = &[0x1f, 0x8b];
    if content.starts_with(GZIP) {
        return Ok(());
    }
    let Ok(text) = std::str::from_utf8(content) else {
        return Err((
            "is neither text in UTF-8 nor gzip: cloud-init would ignore it".to_owned(),
            None,
        ));
    };
    let first = text.lines().next().unwrap_or_default();
    let known = BEGINNINGS.iter().any(|beginning| {
        first
            .get(..beginning.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(beginning))
    });
    if !known {
        let mapping = matches!(yaml_mapping(text), Ok(true));
        let hint = mapping.then(|| "add #cloud-config as its first line".to_owned());
        return Err((
            "begins with nothing that cloud-init knows, such as #cloud-config or #!, and would be ignored"
                .to_owned(),
            hint,
        ));
    }
    if first.trim_end() == "#cloud-config" {
        match yaml_mapping(text) {
            Ok(_) => {}
            Err(message) => return Err((format!("is no valid cloud-config: {message}"), None)),
        }
    } else if first.starts_with("#cloud-confi") && !first.starts_with("#cloud-config-") {
        let hint = Some("its first line must be #cloud-config and no more".to_owned());
        return Err((
            format!(
                "begins with {}, which cloud-init may not recognise",
                quoted(first)
            ),
            hint,
        ));
    }
    Ok(())
}

/// Whether a text is a YAML mapping with anything in it; what is wrong with it where it is none.
fn yaml_mapping(text: &str) -> Result<bool, String> {
    match serde_yaml_ng::from_str::<Option<BTreeMap<String, IgnoredAny>>>(text) {
        Ok(mapping) => Ok(mapping.is_some_and(|mapping| !mapping.is_empty())),
        Err(error) => Err(yaml_problem(text, &error).to_string()),
    }
}

#[derive(Deserialize)]
struct NetworkConfig {
    version: Option<u64>,
    network: Option<Versioned>,
}

#[derive(Deserialize)]
struct Versioned {
    version: Option<u64>,
}

fn judge_network_config(content: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(content) else {
        return Err(("is no text in UTF-8".to_owned(), None));
    };
    let config: NetworkConfig = serde_yaml_ng::from_str(text).map_err(|error| {
        (
            format!("is no network configuration: {}", yaml_problem(text, &error)),
            None,
        )
    })?;
    let version = config
        .version
        .or(config.network.and_then(|network| network.version));
    match version {
        Some(1 | 2) => Ok(()),
        Some(other) => Err((
            format!("has version {other}: cloud-init knows versions 1 and 2"),
            None,
        )),
        None => Err((
            "has no version: cloud-init wants version: 1 or version: 2".to_owned(),
            None,
        )),
    }
}

#[derive(Deserialize)]
struct IgnitionConfig {
    ignition: IgnitionHead,
}

#[derive(Deserialize)]
struct IgnitionHead {
    version: String,
}

fn judge_ignition(content: &[u8]) -> Verdict {
    let config: IgnitionConfig = match serde_json::from_slice(content) {
        Ok(config) => config,
        Err(error) => {
            let butane = content
                .split(|byte| *byte == b'\n')
                .any(|line| line.starts_with(b"variant:"));
            let hint =
                butane.then(|| "it is Butane: turn it into Ignition by `butane --strict` first".to_owned());
            return Err((format!("is no Ignition configuration: {error}"), hint));
        }
    };
    let version = config.ignition.version;
    if version == "3" || version.starts_with("3.") {
        return Ok(());
    }
    let hint = version
        .starts_with("2.")
        .then(|| "ign-converter turns version 2 into 3".to_owned());
    Err((
        format!("has ignition.version {}: version 3.x is needed", quoted(&version)),
        hint,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(verdict: Verdict) -> String {
        match verdict {
            Ok(()) => "ok".to_owned(),
            Err((message, hint)) => message + &hint.map(|hint| format!("; {hint}")).unwrap_or_default(),
        }
    }

    #[test]
    fn user_data() {
        for text in [
            "#cloud-config\npackages: [vim]\n",
            "#cloud-config\n# nothing yet\n",
            "#cloud-config  \r\nruncmd:\r\n- [ls]\r\n",
            "#!/bin/sh\necho",
            "## template: jinja\n#cloud-config\n{% if x %}",
            "Content-Type: multipart/mixed; boundary=\"x\"\n",
            "content-type: multipart/mixed",
            "#cloud-config-archive\n- x",
        ] {
            assert_eq!(told(judge_user_data(text.as_bytes())), "ok", "{text}");
        }
        assert_eq!(told(judge_user_data(&[0x1f, 0x8b, 8, 0xff])), "ok");
        assert!(told(judge_user_data(b"packages: [vim]")).ends_with("add #cloud-config as its first line"));
        assert!(told(judge_user_data(b"#cloud-config\na: [1\nb")).contains("line 4, column 1: did not find"));
        assert!(told(judge_user_data(b"#cloud-config\n- a\n")).starts_with("is no valid cloud-config"));
        assert!(told(judge_user_data(b"#cloud-configs\na: 1\n")).contains("may not recognise"));
        assert!(told(judge_user_data(b"hello")).ends_with("would be ignored"));
        assert!(told(judge_user_data(&[0xff, 0xfe])).starts_with("is neither text"));
    }

    #[test]
    fn network_configuration() {
        for text in [
            "version: 2\nethernets: {}",
            "network:\n  version: 1\n  config: []",
            "{\"version\": 2}",
        ] {
            assert_eq!(told(judge_network_config(text.as_bytes())), "ok", "{text}");
        }
        assert!(told(judge_network_config(b"version: 3")).contains("versions 1 and 2"));
        assert!(told(judge_network_config(b"ethernets: {}")).contains("has no version"));
        assert!(told(judge_network_config(b"[")).starts_with("is no network configuration: line"));
    }

    #[test]
    fn ignition() {
        assert_eq!(
            told(judge_ignition(
                br#"{"ignition": {"version": "3.4.0"}, "storage": {}}"#
            )),
            "ok"
        );
        assert!(
            told(judge_ignition(br#"{"ignition": {"version": "2.3.0"}}"#))
                .ends_with("turns version 2 into 3")
        );
        assert!(told(judge_ignition(b"variant: fcos\nversion: 1.5.0\n")).contains("it is Butane"));
        assert!(told(judge_ignition(b"{}")).contains("missing field `ignition`"));
    }
}
