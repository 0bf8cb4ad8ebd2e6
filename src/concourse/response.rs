//! What `in` and `out` answer.

use serde::Serialize;

use super::version::Version;

/// A line of the build page: both sides are text, shown to everyone who sees the pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// What it is.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl Metadata {
    /// A line of the build page.
    pub fn new(name: impl Into<String>, value: impl ToString) -> Self {
        Self {
            name: name.into(),
            value: value.to_string(),
        }
    }
}

/// The whole of `in`'s and `out`'s standard output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Response {
    /// What was made or got.
    pub version: Version,
    /// What the build page shows of it.
    pub metadata: Vec<Metadata>,
}

impl Response {
    /// As one line of JSON, with its line feed.
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self).map(|json| json + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::super::version::State;
    use super::*;
    use crate::topology::model::Sha256;

    #[test]
    fn it_is_what_concourse_reads() {
        let response = Response {
            version: Version {
                cluster: "brisk-otter-3f9c".parse().unwrap(),
                endpoint: "10.80.0.7:7420".parse().unwrap(),
                fingerprint: Sha256([0xab; 32]),
                state: State::Ready,
            },
            metadata: vec![Metadata::new("nodes", 3)],
        };
        let expected = format!(
            "{{\"version\":{{\"cluster\":\"brisk-otter-3f9c\",\"endpoint\":\"10.80.0.7:7420\",\"fingerprint\":\"{}\",\
             \"state\":\"ready\"}},\"metadata\":[{{\"name\":\"nodes\",\"value\":\"3\"}}]}}\n",
            "ab".repeat(32)
        );
        assert_eq!(response.to_line().unwrap(), expected);
    }
}
