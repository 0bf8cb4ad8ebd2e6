//! CPU flags, KVM by a real guest, nesting, tun, vhost-net.

use super::{Check, Verdict};
use crate::agent::host::accelerator::{NoKvm, Prober};
use crate::agent::host::devices::{Condition, Device, ensure_one};
use crate::agent::host::{cpu, nested as nesting, tun_cure};

pub(super) fn cpu_flags(prober: &Prober) -> Check {
    let (id, title) = ("cpu_flags", "CPU flags");
    let Ok(text) = std::fs::read_to_string(&prober.cpuinfo) else {
        return Check::new(
            id,
            title,
            Verdict::Skip,
            format!("cannot read {}", prober.cpuinfo.display()),
        );
    };
    match cpu::virtualisation_flags(&text) {
        0 => Check::new(id, title, Verdict::Warn, "0 lines with vmx or svm (grep -cE 'vmx|svm' /proc/cpuinfo): this CPU offers no hardware virtualisation").cured_by(
            "Switch on VT-x or AMD-V in the worker's firmware, or nested virtualisation in the hypervisor or cloud that it runs on.",
        ),
        count => Check::new(id, title, Verdict::Ok, format!("{count} lines with vmx or svm (grep -cE 'vmx|svm' /proc/cpuinfo): hardware virtualisation is offered")),
    }
}

pub(super) async fn kvm(prober: &Prober) -> Check {
    let (id, title) = ("kvm", "KVM, by a guest");
    match prober.try_kvm().await {
        Ok(took) => Check::new(
            id,
            title,
            Verdict::Ok,
            format!("a guest ran on it after {:.1}s", took.as_secs_f64()),
        ),
        Err(cause) => {
            // Nothing else is wrong with a container whose image lacks the guest, and TCG would not need it.
            let verdict = if matches!(cause, NoKvm::NoProbe { .. }) {
                Verdict::Skip
            } else {
                Verdict::Warn
            };
            let evidence = cause.evidence().to_vec();
            Check::new(id, title, verdict, cause.to_string())
                .cured_by(cause.cure())
                .with_evidence(evidence)
        }
    }
}

/// What is left where there is no KVM: the same guest on QEMU's translation.
pub(super) async fn tcg(prober: &Prober) -> Check {
    let (id, title) = ("tcg", "TCG, by a guest");
    match prober.try_tcg().await {
        Ok(took) => {
            let found = format!("a guest ran on it after {:.1}s", took.as_secs_f64());
            Check::new(id, title, Verdict::Ok, found)
        }
        Err(cause) => {
            let verdict = if matches!(cause, NoKvm::NoProbe { .. }) {
                Verdict::Skip
            } else {
                Verdict::Fail
            };
            let evidence = cause.evidence().to_vec();
            let found = match &cause {
                NoKvm::Died { how, .. } => format!("a guest dies on it ({how})"),
                NoKvm::Silent { limit, .. } => format!("a guest says nothing for {} s", limit.as_secs()),
                other => other.to_string(),
            };
            Check::new(id, title, verdict, found)
                .cured_by(
                    "Read QEMU's own words beside it; an image as it was built can run this guest anywhere.",
                )
                .with_evidence(evidence)
        }
    }
}

pub(super) fn nested() -> Check {
    nested_of(nesting::Parameter::read())
}

fn nested_of(parameter: Option<nesting::Parameter>) -> Check {
    let (id, title) = ("nested", "nested virtualisation");
    let Some(parameter) = parameter else {
        return Check::new(
            id,
            title,
            Verdict::Skip,
            "neither kvm_intel nor kvm_amd is loaded",
        );
    };
    let (module, text) = (parameter.module, &parameter.text);
    match parameter.is_on() {
        Some(true) => Check::new(
            id,
            title,
            Verdict::Ok,
            format!("{module}.nested is on: nodes can run KVM themselves"),
        ),
        Some(false) => Check::new(
            id,
            title,
            Verdict::Ok,
            format!("{module}.nested is off: nodes cannot run KVM themselves"),
        )
        .cured_by(format!(
            "Only if nodes shall run KVM themselves (`nested: true`). {}",
            nesting::cure(module)
        )),
        None => Check::new(id, title, Verdict::Skip, format!("{module}.nested is {text:?}")),
    }
}

pub(super) fn tun() -> Check {
    let condition = ensure_one(&Device::tun());
    let (id, title) = ("tun", "/dev/net/tun");
    if condition.usable() {
        return Check::new(id, title, Verdict::Ok, condition.to_string());
    }
    Check::new(
        id,
        title,
        Verdict::Warn,
        format!("{condition}: the nodes' networks are user-mode"),
    )
    .cured_by(tun_cure(&condition))
}

pub(super) fn vhost_net() -> Check {
    let condition = ensure_one(&Device::vhost_net());
    let (id, title) = ("vhost_net", "/dev/vhost-net");
    if condition.usable() {
        return Check::new(id, title, Verdict::Ok, condition.to_string());
    }
    let check = Check::new(
        id,
        title,
        Verdict::Ok,
        format!("{condition}: NICs are slower, nothing fails"),
    );
    match condition {
        Condition::Refused { .. } => check.cured_by(
            "For faster NICs: `modprobe vhost_net` on the worker, and the worker flag --containerd-allowed-device \"c 10:238 rwm\".",
        ),
        _ => check,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_told_in_words() {
        let said = |module, text: &str| {
            let text = text.to_owned();
            nested_of(Some(nesting::Parameter { module, text }))
        };
        assert_eq!(nested_of(None).verdict, Verdict::Skip);
        assert!(said("kvm_intel", "Y").found.contains("is on"));
        let off = said("kvm_amd", "0");
        assert!(off.cure.is_some_and(|cure| cure.contains("nested=1")) && off.verdict == Verdict::Ok);
        assert_eq!(said("kvm_amd", "?").verdict, Verdict::Skip);
    }

    #[test]
    fn flags_are_counted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let prober = Prober {
            cpuinfo: file.path().into(),
            ..Prober::default()
        };
        assert_eq!(cpu_flags(&prober).verdict, Verdict::Warn);
        std::fs::write(file.path(), "flags : vmx\nflags : vmx\n").unwrap();
        assert_eq!(
            cpu_flags(&prober).found,
            "2 lines with vmx or svm (grep -cE 'vmx|svm' /proc/cpuinfo): hardware virtualisation is offered"
        );
        std::fs::remove_file(file.path()).unwrap();
        assert_eq!(cpu_flags(&prober).verdict, Verdict::Skip);
    }

    #[tokio::test]
    async fn a_missing_guest_is_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let prober = Prober {
            device: Device {
                path: "/dev/null".into(),
                major: 1,
                minor: 3,
            },
            kernel: dir.path().join("nowhere"),
            ..Prober::default()
        };
        assert_eq!(kvm(&prober).await.verdict, Verdict::Skip);
    }
}
