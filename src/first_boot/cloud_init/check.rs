//! Early refusal of what cloud-init would choke on, ignore, or lock us out by.

use serde::de::IgnoredAny;
use serde_yaml_ng::Value;

use super::kind::{self, Kind};
use super::look;
use crate::first_boot::{FirstBootError, MAX_USER_BYTES};
use crate::topology::model::UserName;
use crate::units::ByteSize;

/// Refuses user-data that cannot work.
pub fn user_data(bytes: &[u8]) -> Result<(), FirstBootError> {
    let unpacked = kind::unpack(bytes)?;
    match kind::of(&unpacked)? {
        Kind::CloudConfig => mapping(kind::text(&unpacked)?),
        Kind::CloudConfigArchive => archive(kind::text(&unpacked)?),
        Kind::CloudConfigJsonp => patch(kind::text(&unpacked)?),
        Kind::Mime => message(kind::text(&unpacked)?),
        // Code and templates: only the node can tell.
        Kind::Script
        | Kind::Boothook
        | Kind::Include
        | Kind::IncludeOnce
        | Kind::PartHandler
        | Kind::Jinja => Ok(()),
    }
}

/// Refuses a network configuration that cannot work.
pub fn network_config(bytes: &[u8]) -> Result<(), FirstBootError> {
    let what = "network_config";
    if bytes.len() > MAX_USER_BYTES {
        return Err(FirstBootError::TooLarge {
            what,
            size: ByteSize(bytes.len() as u64),
        });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| FirstBootError::NotUtf8 {
        what,
        at: error.valid_up_to(),
    })?;
    let config: Value = serde_yaml_ng::from_str(text).map_err(|error| look::yaml_error(what, &error))?;
    let help = "Write cloud-init's network configuration, version 1 or 2: \
                https://cloudinit.readthedocs.io/en/latest/reference/network-config.html.";
    let shape = |at: &str, problem: &str| {
        Err(FirstBootError::Shape {
            what,
            at: at.to_owned(),
            problem: problem.to_owned(),
            help,
        })
    };
    if config.is_null() {
        return Err(FirstBootError::Empty { what });
    }
    // It may stand under `network:`, as in a netplan file.
    let (at, inner) = match config.get("network") {
        Some(inner) => (": network", inner),
        None => ("", &config),
    };
    if !inner.is_mapping() {
        return shape(at, "is not a mapping");
    }
    if inner.get("config").and_then(Value::as_str) == Some("disabled") {
        return Ok(());
    }
    match inner.get("version").map(|version| version.as_u64()) {
        Some(Some(1 | 2)) => Ok(()),
        Some(_) => shape(
            &format!("{at}{}version", if at.is_empty() { ": " } else { "." }),
            "is neither 1 nor 2",
        ),
        None => shape(at, "has no version"),
    }
}

/// Refuses a `#cloud-config` that would keep `ssh_user` from logging in.
pub fn login(bytes: &[u8], ssh_user: &UserName) -> Result<(), FirstBootError> {
    let unpacked = kind::unpack(bytes)?;
    if kind::of(&unpacked)? != Kind::CloudConfig {
        return Ok(());
    }
    let look = look::at(&unpacked)?;
    let locks_out = |setting: &str, why: &str, help: &str| {
        Err(FirstBootError::LocksOut {
            what: "user_data",
            setting: setting.to_owned(),
            why: why.to_owned(),
            help: help.to_owned(),
        })
    };
    let root = ssh_user.as_str() == "root";
    if root && look.disable_root.as_ref().is_some_and(truthy) {
        return locks_out(
            "disable_root: true",
            "they are reached as root",
            "Take it out, or name another login with ssh_user.",
        );
    }
    if look
        .ssh_authorized_keys
        .as_ref()
        .is_some_and(|keys| !keys.is_sequence())
    {
        return locks_out(
            "ssh_authorized_keys",
            "it is not a list, so that no key can be appended",
            "Write it as a list of public keys.",
        );
    }
    if !root && look.users.as_ref().is_some_and(|users| !users.is_sequence()) {
        return locks_out(
            "users",
            &format!(
                "it is not a list, so that {} cannot be appended",
                ssh_user.as_str()
            ),
            "Write it as a list.",
        );
    }
    if look
        .ssh_keys
        .as_ref()
        .and_then(|keys| keys.get("ed25519_private"))
        .is_some()
    {
        return locks_out(
            "ssh_keys.ed25519_private",
            "a host key made for the cluster is what known_hosts holds",
            "Take the ed25519 host key out; host keys of other types may stay.",
        );
    }
    Ok(())
}

/// As cloud-init's `util.is_true` reads it.
fn truthy(value: &Value) -> bool {
    match value {
        Value::Bool(is) => *is,
        Value::Number(number) => number.as_u64() == Some(1),
        Value::String(text) => matches!(
            text.trim().to_ascii_lowercase().as_str(),
            "true" | "1" | "on" | "yes"
        ),
        _ => false,
    }
}

fn mapping(text: &str) -> Result<(), FirstBootError> {
    // Parsed without building values, since cloud-init lets a key be written twice.
    let _: IgnoredAny =
        serde_yaml_ng::from_str(text).map_err(|error| look::yaml_error("user_data", &error))?;
    // Then by its shape.
    match serde_yaml_ng::from_str::<Option<std::collections::BTreeMap<Key, IgnoredAny>>>(text) {
        Ok(_) => look::at(text.as_bytes()).map(drop),
        Err(_) => Err(FirstBootError::Shape {
            what: "user_data",
            at: String::new(),
            problem: "is a #cloud-config that is not a mapping of settings".to_owned(),
            help: "Write settings as `name: value`, one a line.",
        }),
    }
}

/// A setting's name: anything that YAML takes as a key.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key;

impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(from).map(|_| Self)
    }
}

fn archive(text: &str) -> Result<(), FirstBootError> {
    let _: IgnoredAny =
        serde_yaml_ng::from_str(text).map_err(|error| look::yaml_error("user_data", &error))?;
    serde_yaml_ng::from_str::<Vec<IgnoredAny>>(text)
        .map(drop)
        .map_err(|_| FirstBootError::Shape {
            what: "user_data",
            at: String::new(),
            problem: "is a #cloud-config-archive that is not a list of parts".to_owned(),
            help: "Write each part as a list item with `type` and `content`.",
        })
}

fn patch(text: &str) -> Result<(), FirstBootError> {
    let text = text.trim_start();
    let json = text.get("#cloud-config-jsonp".len()..).unwrap_or_default();
    serde_json::from_str::<Vec<IgnoredAny>>(json)
        .map(drop)
        .map_err(|error| FirstBootError::json("user_data", &error))
}

/// A message must begin with its headers: cloud-init's parser takes everything before them as text without type.
fn message(text: &str) -> Result<(), FirstBootError> {
    let headers = super::mime::headers(text).to_ascii_lowercase();
    if !headers.lines().any(|line| line.starts_with("mime-version:")) {
        return Err(FirstBootError::Mime {
            why: "whose headers are not at its beginning",
        });
    }
    if !headers.lines().any(|line| line.starts_with("content-type:")) {
        return Err(FirstBootError::Mime {
            why: "without a Content-Type",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(result: Result<(), FirstBootError>) -> String {
        result.map_or_else(|error| crate::fault::tell(&error), |()| "taken".to_owned())
    }

    #[test]
    fn user_data_that_works_is_taken() {
        for text in [
            "#cloud-config\npackages: [jq]\n",
            "#cloud-config\n",
            "#cloud-config\nruncmd: [a]\nruncmd: [b]\n",
            "#!/bin/sh\nexit 0\n",
            "## template: jinja\n#cloud-config\nhostname: {{ v1.region }}\n",
            "#cloud-config-archive\n- type: text/cloud-boothook\n  content: |\n    true\n",
            "#cloud-config-jsonp\n[{\"op\": \"add\", \"path\": \"/a\", \"value\": 1}]\n",
            "#include\nhttp://10.0.0.1/a\n",
            "Content-Type: multipart/mixed; boundary=\"b\"\nMIME-Version: 1.0\n\n--b--\n",
        ] {
            assert_eq!(said(user_data(text.as_bytes())), "taken", "{text}");
        }
    }

    #[test]
    fn user_data_that_cannot_work_is_refused() {
        let all: Vec<String> = [
            "#cloud-config\nusers:\n\t- a\n",
            "#cloud-config\n- a\n",
            "#cloud-config\njust text\n",
            "#cloud-config-archive\na: b\n",
            "#cloud-config-jsonp\n[{]\n",
            "hello\nMIME-Version: 1.0\n\n",
            "MIME-Version: 1.0\n\nhello\n",
            "packages: [jq]\n",
            "",
        ]
        .iter()
        .map(|text| said(user_data(text.as_bytes())))
        .collect();
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn network_configurations() {
        for text in [
            "version: 2\nethernets: {}\n",
            "network:\n  version: 1\n  config: []\n",
            "network: {config: disabled}",
        ] {
            assert_eq!(said(network_config(text.as_bytes())), "taken", "{text}");
        }
        let all: Vec<String> = [
            "- a\n",
            "ethernets: {}\n",
            "network: {version: 3}\n",
            "version: x\n",
            "a: [\n",
            "",
        ]
        .iter()
        .map(|text| said(network_config(text.as_bytes())))
        .collect();
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn what_would_lock_us_out_is_refused() {
        let root = UserName::root();
        let alice = UserName::try_from("alice".to_owned()).unwrap();
        let all: Vec<String> = [
            ("disable_root: true", &root),
            ("disable_root: true", &alice),
            ("ssh_authorized_keys: one", &root),
            ("users: bob", &root),
            ("users: bob", &alice),
            ("ssh_keys: {ed25519_private: x}", &root),
            ("ssh_keys: {rsa_private: x}", &root),
        ]
        .iter()
        .map(|(text, user)| said(login(format!("#cloud-config\n{text}\n").as_bytes(), user)))
        .collect();
        insta::assert_snapshot!(all.join("\n"));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "(#cloud-config|#cloud-config-archive|#cloud-config-jsonp|MIME-Version:)?\\PC{0,100}") {
            let _ = user_data(text.as_bytes());
            let _ = network_config(text.as_bytes());
            let _ = login(text.as_bytes(), &UserName::root());
        }
    }
}
