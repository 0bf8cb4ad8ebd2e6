//! Ignition, specification 3.x: the user's configuration inside a wrapper that adds ours.
//!
//! The wrapper names the user's by `config.merge`, whose content overrides the wrapper's where both set one thing and
//! is joined with it where they set lists (Ignition, "Config merging"): ours adds and never replaces.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::keys::{ClusterKeys, HostKey};
use super::{FirstBootError, MAX_USER_BYTES};
use crate::topology::plan::PlannedNode;
use crate::units::ByteSize;

const WHAT: &str = "ignition";
const HOST_KEY: &str = "/etc/ssh/ssh_host_ed25519_key";

/// The configuration for a node, JSON.
pub fn wrap(
    node: &PlannedNode,
    keys: &ClusterKeys,
    host_key: &HostKey,
    theirs: &[u8],
) -> Result<Vec<u8>, FirstBootError> {
    let version = version(&parse(theirs)?)?;
    let user = node.node.ssh_user.as_str();
    let mut files = vec![
        file("/etc/hostname", 0o644, &format!("{}\n", node.name())),
        file(HOST_KEY, 0o600, &host_key.private),
        file(
            &format!("{HOST_KEY}.pub"),
            0o644,
            &format!("{}\n", host_key.public),
        ),
    ];
    if user != "root" {
        // A group such as wheel would do only where the image has it; one that it lacks fails the boot.
        files.push(file(
            &format!("/etc/sudoers.d/90-{}", user.replace('.', "_")),
            0o440,
            &format!("{user} ALL=(ALL) NOPASSWD: ALL\n"),
        ));
    }
    let config = json!({
        "ignition": {
            "version": version,
            "config": {"merge": [{"source": data_url(theirs)}]},
        },
        "passwd": {"users": [{"name": user, "sshAuthorizedKeys": [keys.login_public]}]},
        "storage": {"files": files},
    });
    Ok(config.to_string().into_bytes())
}

/// Refuses what Ignition would refuse, or what would lock us out.
pub fn check(config: &[u8]) -> Result<(), FirstBootError> {
    if config.len() > MAX_USER_BYTES {
        return Err(FirstBootError::TooLarge {
            what: WHAT,
            size: ByteSize(config.len() as u64),
        });
    }
    let config = parse(config)?;
    version(&config)?;
    let files = config.pointer("/storage/files").and_then(Value::as_array);
    let host_key = files.is_some_and(|files| files.iter().any(|file| file["path"] == HOST_KEY));
    if host_key {
        return Err(FirstBootError::LocksOut {
            what: WHAT,
            setting: format!("the file {HOST_KEY}"),
            why: "a host key made for the cluster is what known_hosts holds".to_owned(),
            help: "Take the ed25519 host key out; host keys of other types may stay.".to_owned(),
        });
    }
    Ok(())
}

fn parse(config: &[u8]) -> Result<Value, FirstBootError> {
    if config.iter().all(u8::is_ascii_whitespace) {
        return Err(FirstBootError::Empty { what: WHAT });
    }
    serde_json::from_slice(config).map_err(|error| {
        // JSON with a slip in it often is YAML too.
        let braces = config.trim_ascii_start().starts_with(b"{");
        let yaml: Option<serde_yaml_ng::Mapping> = serde_yaml_ng::from_slice(config).ok();
        if !braces && yaml.is_some_and(|map| map.contains_key("variant") || map.contains_key("ignition")) {
            return FirstBootError::Butane;
        }
        FirstBootError::json(WHAT, &error)
    })
}

/// The specification's version that it is written in.
fn version(config: &Value) -> Result<String, FirstBootError> {
    let Some(version) = config.pointer("/ignition/version") else {
        return Err(FirstBootError::Shape {
            what: WHAT,
            at: String::new(),
            problem: "has no ignition.version".to_owned(),
            help: "Give an Ignition configuration of specification 3.x, as butane writes it.",
        });
    };
    let found = version
        .as_str()
        .map_or_else(|| version.to_string(), str::to_owned);
    let mut numbers = found.split(['.', '-']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(3..)), Some(Ok(_)), Some(Ok(_))) if version.is_string() => Ok(found),
        _ => Err(FirstBootError::IgnitionVersion { found }),
    }
}

fn file(path: &str, mode: u32, content: &str) -> Value {
    json!({
        "path": path,
        "mode": mode,
        "overwrite": true,
        "contents": {"source": data_url(content.as_bytes())},
    })
}

/// RFC 2397.
fn data_url(content: &[u8]) -> String {
    format!("data:;base64,{}", STANDARD.encode(content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_cannot_work_is_refused() {
        let all: Vec<String> = [
            r#"{"ignition": {"version": "3.4.0"}}"#,
            r#"{"ignition": {"version": "3.6.0-experimental"}}"#,
            r#"{"ignition": {"version": "2.3.0"}}"#,
            r#"{"ignition": {"version": 3}}"#,
            r#"{"ignitionVersion": 1}"#,
            r#"{"ignition": {"version": "3.4.0"}, "storage": {"files": [{"path": "/etc/ssh/ssh_host_ed25519_key"}]}}"#,
            "variant: fcos\nversion: 1.5.0\n",
            "{\n \"ignition\": }",
            "hello",
            "[]",
            "",
        ]
        .iter()
        .map(|text| check(text.as_bytes()).map_or_else(|e| crate::fault::tell(&e), |()| "taken".to_owned()))
        .collect();
        insta::assert_snapshot!(all.join("\n"));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,100}", version in "\\PC{0,12}") {
            let _ = check(text.as_bytes());
            let _ = check(json!({"ignition": {"version": version}}).to_string().as_bytes());
        }
    }
}
