//! A version: what a put has made, in strings, and nothing secret in it.

use std::net::SocketAddrV4;

use serde::{Deserialize, Serialize};

use crate::topology::model::Sha256;
use crate::topology::name::Name;
use crate::topology::problems::Problems;
use crate::topology::reader::{Cursor, Report};

/// Names one cluster and where it is reached. Every put emits another, so that Concourse never answers from its cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The cluster's name: `brisk-otter-3f9c`.
    pub cluster: Name,
    /// Where the agent's API listens: the put container's own address.
    pub endpoint: SocketAddrV4,
    /// SHA-256 of the agent's certificate (DER), as 64 hexadecimal digits.
    pub fingerprint: Sha256,
    /// Whether the put made the cluster or removed it.
    pub state: State,
}

/// Whether a put made the cluster or removed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// All nodes were ready.
    Ready,
    /// The cluster was removed: there is nothing to get.
    Destroyed,
}

impl Version {
    /// Makes out what Concourse hands back; paths begin with `version`.
    pub(crate) fn read(cursor: &Cursor<'_>) -> Option<Self> {
        let object = cursor.object("the version that a put has made")?;
        let cluster = object
            .required("cluster", "a cluster's name")
            .and_then(|field| field.checked("a cluster's name"));
        let endpoint = object
            .required("endpoint", "an address and port")
            .and_then(|field| {
                const EXPECTED: &str = "an IPv4 address and port, such as 10.80.0.7:7420";
                let address = field
                    .text(EXPECTED)?
                    .parse()
                    .map_err(|_| field.expected(EXPECTED));
                address.ok()
            });
        let fingerprint = object
            .required("fingerprint", "a certificate's SHA-256 digest")
            .and_then(|field| field.checked("a certificate's SHA-256 digest"));
        let state = object
            .required("state", "ready or destroyed")
            .and_then(|field| field.choice(&[("ready", State::Ready), ("destroyed", State::Destroyed)]));
        object.finish(|_| {
            Some("this version was made by another release or by hand: put once more".to_owned())
        });
        Some(Self {
            cluster: cluster?,
            endpoint: endpoint?,
            fingerprint: fingerprint?,
            state: state?,
        })
    }
}

/// From the JSON of a version, as it stands in a request or in a file.
impl TryFrom<&serde_json::Value> for Version {
    type Error = Problems;

    fn try_from(value: &serde_json::Value) -> Result<Self, Problems> {
        let report = Report::default();
        let read = Self::read(&Cursor::new("version", value, &report));
        report.done(read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn it_comes_back_as_it_went_and_in_strings(
            cluster in "[a-z]([a-z0-9-]{0,20}[a-z0-9])?", address: u32, port: u16, digest: [u8; 32], ready: bool,
        ) {
            let version = Version {
                cluster: cluster.parse().unwrap(),
                endpoint: SocketAddrV4::new(address.into(), port),
                fingerprint: Sha256(digest),
                state: if ready { State::Ready } else { State::Destroyed },
            };
            let json = serde_json::to_value(&version).unwrap();
            prop_assert!(json.as_object().unwrap().values().all(serde_json::Value::is_string), "{}", json);
            prop_assert_eq!(Version::try_from(&json).unwrap(), version);
        }
    }

    #[test]
    fn everything_wrong_is_told() {
        let told = Version::try_from(
            &json!({"cluster": "A", "endpoint": "10.80.0.7", "fingerprint": "ab", "sate": "ready"}),
        );
        let told = told.unwrap_err().to_string();
        for line in [
            "version.cluster: \"A\" begins with 'A': use lower-case letters, digits and '-', with a letter first and no '-' last",
            "version.endpoint: \"10.80.0.7\": use an IPv4 address and port, such as 10.80.0.7:7420",
            "version.fingerprint: \"ab\" is no SHA-256 digest: use its 64 hexadecimal digits, as sha256sum prints them",
            "version.sate: no such field; did you mean state?",
        ] {
            assert!(told.lines().any(|shown| shown == line), "{line}\nnot in\n{told}");
        }
    }
}
