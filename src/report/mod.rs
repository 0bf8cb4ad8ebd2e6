//! How every node of a cluster came up, or why it did not: `report.json`, and the same as a page, `report.html`.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::boot::recording::Diagnosis;
use crate::fault::Fault;

/// The report of one cluster. `nodectl schema --report` prints its JSON Schema.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The number of this format: 1. Fields may be added to it without a new number.
    pub report: u32,
    /// The cluster's name.
    pub cluster: String,
    /// When its put began, in seconds since the Unix epoch.
    pub started_at: u64,
    /// `kvm` or `tcg`; absent where it ended before that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
    /// libvirt's version; absent where it did not start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub libvirt: Option<String>,
    /// QEMU's version; absent where libvirt did not start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qemu: Option<String>,
    /// Every node that was to come up, in the topology's order.
    pub nodes: Vec<NodeReport>,
}

/// One node's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// `booting`, `ready`, `failed` or `off`.
    pub state: String,
    /// Its address on its first network.
    pub address: Ipv4Addr,
    /// Its phases, and why it is not ready where it is not; absent where its machine was not started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
    /// What its serial console printed, without escape sequences: the last 256 KiB.
    pub console: String,
    /// Whether the console's beginning is left out.
    #[serde(default)]
    pub console_cut: bool,
    /// Its screen as PNG in base64 (RFC 4648), taken when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub screenshot: Option<String>,
}

/// How much of a console goes into a report, in bytes: ten nodes make a page that a browser still opens at once.
pub const CONSOLE: usize = 256 << 10;

/// The report's JSON Schema.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Report).to_value()
}

/// The report as one page that needs nothing else.
///
/// # Errors
/// None in practice: a report is plain data.
pub fn html(report: &Report) -> serde_json::Result<String> {
    // Within a script element only `</script` and `<!--` mean anything to HTML; escaped, neither can come up.
    let data = serde_json::to_string(report)?.replace('<', "\\u003c");
    let (before, after) = PAGE.split_once("/*REPORT*/").unwrap_or((PAGE, ""));
    Ok([before, &data, after].concat())
}

/// A report that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be read or written", path.display())]
pub struct ReportError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: std::io::Error,
}

impl Fault for ReportError {
    fn help(&self) -> Option<String> {
        Some("see whether the directory is there and can be written".to_owned())
    }
}

/// Writes `report.json` and `report.html` into a directory.
///
/// # Errors
/// When a file cannot be written.
pub fn write(directory: &Path, report: &Report) -> Result<(), ReportError> {
    let put = |name: &str, text: serde_json::Result<String>| {
        let path = directory.join(name);
        let written = text
            .map_err(Into::into)
            .and_then(|text| std::fs::write(&path, text));
        written.map_err(|source| ReportError { path, source })
    };
    put("report.json", serde_json::to_string_pretty(report))?;
    put("report.html", html(report))
}

/// Reads a `report.json` back.
///
/// # Errors
/// When there is none.
pub fn read(directory: &Path) -> Result<Report, ReportError> {
    let path = directory.join("report.json");
    let report = std::fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
    report.map_err(|source| ReportError { path, source })
}

const PAGE: &str = include_str!("page.html");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_node_printed_leaves_its_script_element_and_nothing_is_asked_of_anyone() {
        let node = NodeReport {
            name: "a".into(),
            state: "failed".into(),
            address: Ipv4Addr::LOCALHOST,
            diagnosis: None,
            console: "</script><script>alert(1)</script><!-- ".into(),
            console_cut: false,
            screenshot: None,
        };
        let report = Report {
            report: 1,
            cluster: "c".into(),
            started_at: 0,
            accelerator: None,
            libvirt: None,
            qemu: None,
            nodes: vec![node],
        };
        let page = html(&report).unwrap();
        assert_eq!(page.matches("</script>").count(), 2);
        assert!(!page.contains("<!--") && !page.contains("http://") && !page.contains("https://"));
        let json = page
            .split_once("id=\"report\">")
            .unwrap()
            .1
            .split_once("</script>")
            .unwrap()
            .0;
        assert_eq!(serde_json::from_str::<Report>(json).unwrap(), report);
    }
}
