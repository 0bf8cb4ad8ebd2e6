//! What this container can and cannot do, and what would cure it.
//!
//! [`examine`] tries everything for real: a guest on KVM, a libvirtd that answers, a firewall table. Whatever it starts
//! runs in namespaces of its own and is gone afterwards; only missing device nodes are made and stay.

mod daemons;
mod devices;
mod kernel;
mod network;
mod privileges;
mod room;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::agent::host::accelerator::Prober;

pub use table::table;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Nodes boot all the same, but not as one would wish.
    Warn,
    /// No node boots.
    Fail,
    /// Could not or need not be judged.
    Skip,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Stable, for programs: `kvm`, `capabilities`.
    pub id: &'static str,
    /// For people.
    pub title: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found, in one line.
    pub found: String,
    /// What to do, one sentence or more, where something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
    /// Raw lines that bear the verdict out: a guest's console, a daemon's log.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
}

impl Check {
    fn new(id: &'static str, title: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self {
            id,
            title,
            verdict,
            found: found.into(),
            cure: None,
            evidence: Vec::new(),
        }
    }

    fn cured_by(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }

    fn with_evidence(mut self, evidence: Vec<String>) -> Self {
        self.evidence = evidence;
        self
    }
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether nodes can boot here, if only on TCG: no check failed.
    pub able: bool,
    /// In the order in which they are shown.
    pub checks: Vec<Check>,
}

impl Report {
    fn new(checks: Vec<Check>) -> Self {
        Self {
            able: checks.iter().all(|check| check.verdict != Verdict::Fail),
            checks,
        }
    }
}

/// What to look at.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the nodes' disks would go.
    pub disks: PathBuf,
    /// How KVM is tried.
    pub prober: Prober,
    /// How long libvirtd may take to answer.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            disks: "/scratch".into(),
            prober: Prober::default(),
            patience: Duration::from_secs(20),
        }
    }
}

/// Looks at everything; takes seconds, and never longer than the sum of its time limits (under three minutes, where it takes a guest on TCG).
pub async fn examine(options: &Options) -> Report {
    let mut checks = vec![kernel::version(), devices::cpu_flags(&options.prober)];
    // Side by side: the guest is the slowest, and shares nothing with the daemons.
    let (kvm, daemons, network) = tokio::join!(
        devices::kvm(&options.prober),
        daemons::examine(options.patience),
        network::examine()
    );
    let hardware = kvm.verdict == Verdict::Ok;
    checks.push(kvm);
    if !hardware {
        checks.push(devices::tcg(&options.prober).await);
    }
    checks.push(devices::nested());
    checks.push(devices::tun());
    checks.push(devices::vhost_net());
    checks.push(privileges::user_namespace());
    checks.extend(privileges::needs());
    checks.push(privileges::seccomp());
    checks.push(kernel::cgroup());
    checks.push(kernel::writable());
    checks.push(kernel::oom_score());
    checks.extend(daemons);
    checks.extend(network);
    checks.extend(room::examine(&options.disks));
    Report::new(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failure_means_no() {
        let check = |verdict| Check::new("a", "A", verdict, "x");
        assert!(
            Report::new(vec![
                check(Verdict::Ok),
                check(Verdict::Warn),
                check(Verdict::Skip)
            ])
            .able
        );
        assert!(!Report::new(vec![check(Verdict::Ok), check(Verdict::Fail)]).able);
    }

    #[test]
    fn json_leaves_out_what_is_not_there() {
        let json = serde_json::to_value(Check::new("tun", "/dev/net/tun", Verdict::Ok, "opens")).unwrap();
        let expected =
            serde_json::json!({"id": "tun", "title": "/dev/net/tun", "verdict": "ok", "found": "opens"});
        assert_eq!(json, expected);
    }
}
