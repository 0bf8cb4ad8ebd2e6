//! Which accelerator the nodes get: KVM where a tiny guest really runs on it, else TCG, and why.
//!
//! A `/dev/kvm` that opens proves little: on some clouds it opens and no stock kernel boots on it. So a guest is the
//! judge, and the CPU's flags only help to explain its verdict. A verdict is not kept between runs: each put has a new
//! container, and a stale "no" would outlive its cure.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::sync::mpsc;

use super::command::Group;
use super::cpu;
use super::devices::{Condition, Device, ensure_one};
use crate::fault::Fault;
use crate::progress::{Event, Level, Progress};
use crate::topology::model::{Accelerator, AcceleratorChoice};

/// What the tiny guest prints once it runs.
pub const ALIVE: &str = "libvirt-resource-probe: alive";

/// The worker's environment variable that lets containers use KVM.
pub const WORKER_VARIABLE: &str = "CONCOURSE_CONTAINERD_ALLOWED_DEVICE=\"c 10:232 rwm\"";

/// How much longer the guest may take under translation, on a machine that has other things to do.
const TCG_FACTOR: u32 = 12;

/// How many lines of the guest's console and QEMU's errors are shown as evidence.
const EVIDENCE: usize = 8;

/// Which accelerator is used, and why it is not KVM where it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What the nodes run on.
    pub accelerator: Accelerator,
    /// Why not KVM, as one line; `None` where it is KVM, or where nobody asked for it.
    pub reason: Option<String>,
}

/// KVM was demanded and is not to be had.
#[derive(Debug, thiserror::Error)]
#[error("accelerator: kvm was asked for, and KVM cannot be used here")]
pub struct AcceleratorError(#[from] pub NoKvm);

impl Fault for AcceleratorError {
    fn help(&self) -> Option<String> {
        Some(format!(
            "{}\nOr write `accelerator: auto`, which falls back to QEMU's own translation (TCG): slower, but it needs nothing.",
            self.0.cure()
        ))
    }
}

/// Why KVM cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoKvm {
    /// No node and no right to make one.
    #[error("/dev/kvm is missing and cannot be made ({0})")]
    CannotBeMade(Errno),
    /// Something else under its name.
    #[error("/dev/kvm is not the KVM device (character device 10:232)")]
    Occupied,
    /// The container's device cgroup says no.
    #[error(
        "/dev/kvm exists but opening it is refused ({0}): the worker does not allow containers to use it"
    )]
    Forbidden(Errno),
    /// The kernel has no KVM.
    #[error("the worker's kernel has no KVM ({errno}){}", flags_told(*flags))]
    NoDriver {
        /// What open said: ENODEV or ENXIO.
        errno: Errno,
        /// How many CPUs show vmx or svm.
        flags: usize,
    },
    /// Something else happened at open.
    #[error("/dev/kvm cannot be opened ({0})")]
    Unopenable(Errno),
    /// The probe's files are not where they should be.
    #[error("the guest that tries KVM cannot be started ({program}: {reason})")]
    NoProbe {
        /// QEMU, the kernel or the initrd.
        program: String,
        /// What the system said.
        reason: String,
    },
    /// The guest ended without a word.
    #[error("/dev/kvm opens, but a guest dies on it ({how}){}", flags_told(*flags))]
    Died {
        /// How QEMU ended.
        how: String,
        /// The last lines of the guest's console and of QEMU's errors.
        evidence: Vec<String>,
        /// How many CPUs show vmx or svm.
        flags: usize,
    },
    /// The guest ran on and said nothing.
    #[error("/dev/kvm opens, but a guest hangs on it (silent for {}s){}", limit.as_secs_f32(), flags_told(*flags))]
    Silent {
        /// How long it was waited for.
        limit: Duration,
        /// The last lines of the guest's console and of QEMU's errors.
        evidence: Vec<String>,
        /// How many CPUs show vmx or svm.
        flags: usize,
    },
}

/// What the CPU's flags add to a verdict.
fn flags_told(flags: usize) -> &'static str {
    if flags == 0 {
        "; no CPU in /proc/cpuinfo shows vmx or svm"
    } else {
        ""
    }
}

impl NoKvm {
    /// What would give KVM, as full sentences.
    pub fn cure(&self) -> String {
        let no_flags = matches!(
            self,
            Self::NoDriver { flags: 0, .. } | Self::Died { flags: 0, .. } | Self::Silent { flags: 0, .. }
        );
        match self {
            _ if no_flags => "The worker's CPU offers no hardware virtualisation: switch on VT-x or AMD-V in its firmware, or, if the \
                 worker is itself a virtual machine, nested virtualisation in its hypervisor or cloud."
                .to_owned(),
            Self::CannotBeMade(_) => "Set `privileged: true` on the resource type (or run the task with `privileged: true`, docker with \
                 `--privileged`). A worker with --containerd-privileged-mode other than full takes that away again."
                .to_owned(),
            Self::Occupied => "Remove what stands under /dev/kvm in the container.".to_owned(),
            Self::Forbidden(_) => format!(
                "Start the worker with --containerd-allowed-device \"c 10:232 rwm\" (environment: {WORKER_VARIABLE}), Concourse 8.1 \
                 or newer; with docker run: --device /dev/kvm."
            ),
            Self::NoDriver { .. } => "Load the module on the worker: `modprobe kvm_intel` or `modprobe kvm_amd`. If that fails, \
                 virtualisation is switched off in its firmware or its hypervisor."
                .to_owned(),
            Self::Unopenable(_) => "Look at /dev/kvm on the worker itself; `dmesg | grep -i kvm` there tells more.".to_owned(),
            Self::NoProbe { .. } => "The image lacks a part of itself: use the image as it was built.".to_owned(),
            Self::Died { .. } | Self::Silent { .. } => "The worker offers a KVM on which stock kernels do not boot: use a bare-metal worker, \
                 or one with working nested virtualisation."
                .to_owned(),
        }
    }

    /// The last lines that the guest and QEMU printed.
    pub fn evidence(&self) -> &[String] {
        match self {
            Self::Died { evidence, .. } | Self::Silent { evidence, .. } => evidence,
            _ => &[],
        }
    }
}

/// What is needed to try KVM.
#[derive(Clone, Debug)]
pub struct Prober {
    /// The device.
    pub device: Device,
    /// QEMU.
    pub qemu: PathBuf,
    /// A stock kernel.
    pub kernel: PathBuf,
    /// An init that prints [`ALIVE`] on ttyS0 and powers off.
    pub initrd: PathBuf,
    /// How long the guest may take. It needs about a second where KVM works.
    pub limit: Duration,
    /// Where CPU flags are read.
    pub cpuinfo: PathBuf,
}

impl Default for Prober {
    fn default() -> Self {
        let folder = PathBuf::from("/usr/share/libvirt-resource/probe");
        Self {
            device: Device::kvm(),
            qemu: "qemu-system-x86_64".into(),
            kernel: folder.join("vmlinuz"),
            initrd: folder.join("initrd"),
            limit: Duration::from_secs(10),
            cpuinfo: "/proc/cpuinfo".into(),
        }
    }
}

/// Settles the accelerator with the guest that the image ships.
///
/// # Errors
/// When KVM was demanded and is not to be had.
pub async fn probe(choice: AcceleratorChoice, progress: &Progress) -> Result<Verdict, AcceleratorError> {
    Prober::default().settle(choice, progress).await
}

impl Prober {
    /// Settles the accelerator; a fallback is told in `progress`, with cause, evidence and cure.
    ///
    /// # Errors
    /// When KVM was demanded and is not to be had.
    pub async fn settle(
        &self,
        choice: AcceleratorChoice,
        progress: &Progress,
    ) -> Result<Verdict, AcceleratorError> {
        if choice == AcceleratorChoice::Tcg {
            return Ok(Verdict {
                accelerator: Accelerator::Tcg,
                reason: None,
            });
        }
        match self.try_kvm().await {
            Ok(took) => {
                progress.info(format!(
                    "KVM works: a guest ran on it after {:.1}s",
                    took.as_secs_f64()
                ));
                Ok(Verdict {
                    accelerator: Accelerator::Kvm,
                    reason: None,
                })
            }
            Err(cause) => {
                let quote = |text: &String| Event {
                    level: Level::Quote,
                    node: None,
                    text: text.clone(),
                };
                cause
                    .evidence()
                    .iter()
                    .map(quote)
                    .for_each(|event| progress.send(event));
                if choice == AcceleratorChoice::Kvm {
                    return Err(cause.into());
                }
                progress.warn(format!("no KVM, nodes run on TCG, many times slower: {cause}"));
                cause
                    .cure()
                    .lines()
                    .for_each(|line| progress.warn(format!("to get KVM: {line}")));
                Ok(Verdict {
                    accelerator: Accelerator::Tcg,
                    reason: Some(cause.to_string()),
                })
            }
        }
    }

    /// Boots the guest on KVM; says how long it took to speak.
    ///
    /// # Errors
    /// Why KVM cannot be used.
    pub async fn try_kvm(&self) -> Result<Duration, NoKvm> {
        let flags =
            cpu::virtualisation_flags(&tokio::fs::read_to_string(&self.cpuinfo).await.unwrap_or_default());
        match ensure_one(&self.device) {
            Condition::There | Condition::Made => {}
            Condition::Occupied => return Err(NoKvm::Occupied),
            Condition::CannotBeMade { errno } => return Err(NoKvm::CannotBeMade(errno)),
            Condition::Refused {
                errno: errno @ (Errno::PERM | Errno::ACCESS),
            } => return Err(NoKvm::Forbidden(errno)),
            Condition::Refused {
                errno: errno @ (Errno::NODEV | Errno::NXIO),
            } => {
                return Err(NoKvm::NoDriver { errno, flags });
            }
            Condition::Refused { errno } => return Err(NoKvm::Unopenable(errno)),
        }
        for file in [&self.kernel, &self.initrd] {
            if let Err(error) = std::fs::File::open(file) {
                return Err(NoKvm::NoProbe {
                    program: file.display().to_string(),
                    reason: error.to_string(),
                });
            }
        }
        self.boot(Accelerator::Kvm, self.limit, flags).await
    }

    /// Boots the guest on QEMU's translation; says how long it took to speak.
    ///
    /// # Errors
    /// [`NoKvm::NoProbe`], [`NoKvm::Died`] or [`NoKvm::Silent`], whose words speak of KVM.
    pub async fn try_tcg(&self) -> Result<Duration, NoKvm> {
        self.boot(Accelerator::Tcg, self.limit * TCG_FACTOR, 1).await
    }

    async fn boot(&self, accelerator: Accelerator, limit: Duration, flags: usize) -> Result<Duration, NoKvm> {
        let started = tokio::time::Instant::now();
        let mut group = Group::spawn(self.command(accelerator)).map_err(|error| NoKvm::NoProbe {
            program: self.qemu.display().to_string(),
            reason: error.to_string(),
        })?;
        let (sender, mut lines) = mpsc::channel(64);
        let console = group
            .child()
            .stdout
            .take()
            .map(|pipe| tokio::spawn(split(pipe, sender.clone())));
        let errors = group
            .child()
            .stderr
            .take()
            .map(|pipe| tokio::spawn(split(pipe, sender)));
        let mut evidence = VecDeque::new();
        let alive = tokio::time::timeout(limit, async {
            // Ends when both pipes do, which is when QEMU is gone.
            while let Some(line) = lines.recv().await {
                if line.contains(ALIVE) {
                    return true;
                }
                if evidence.len() == EVIDENCE {
                    evidence.pop_front();
                }
                evidence.push_back(line);
            }
            false
        })
        .await;
        let how = match alive {
            Ok(false) => {
                // Both pipes are closed: QEMU has ended or is about to.
                match tokio::time::timeout(Duration::from_secs(1), group.child().wait()).await {
                    Ok(Ok(status)) => format!("QEMU ended with {status}"),
                    _ => "QEMU ended".to_owned(),
                }
            }
            _ => String::new(),
        };
        group.end().await;
        [console, errors]
            .into_iter()
            .flatten()
            .for_each(|task| task.abort());
        match alive {
            Ok(true) => Ok(started.elapsed()),
            Ok(false) => Err(NoKvm::Died {
                how,
                evidence: evidence.into(),
                flags,
            }),
            Err(_) => Err(NoKvm::Silent {
                limit,
                evidence: evidence.into(),
                flags,
            }),
        }
    }

    fn command(&self, accelerator: Accelerator) -> Command {
        let (accelerator, cpu) = match accelerator {
            Accelerator::Kvm => ("kvm", "host"),
            // As the nodes have it.
            Accelerator::Tcg => ("tcg", "max,la57=off"),
        };
        let mut command = Command::new(&self.qemu);
        // A modern machine and the host's own CPU, as the nodes have them. No network, no display, no default devices.
        command.args([
            "-no-user-config",
            "-nodefaults",
            "-accel",
            accelerator,
            "-M",
            "q35",
            "-cpu",
            cpu,
            "-m",
            "128",
        ]);
        command.args(["-display", "none", "-serial", "stdio", "-no-reboot"]);
        command
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initrd);
        // The earliest messages are the evidence where the kernel dies; a panic ends QEMU at once by -no-reboot.
        command.args(["-append", "console=ttyS0 earlyprintk=serial,ttyS0 panic=-1"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// Sends each line, made fit for a log: no control characters, 200 characters at most.
async fn split(mut pipe: impl AsyncRead + Unpin, lines: mpsc::Sender<String>) {
    let (mut buffer, mut line) = ([0; 4096], Vec::new());
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        for &byte in &buffer[..count] {
            if byte != b'\n' && line.len() < 4096 {
                line.push(byte);
                continue;
            }
            let told = tidy(&line);
            line.clear();
            if !told.is_empty() && lines.send(told).await.is_err() {
                return;
            }
        }
    }
    let told = tidy(&line);
    if !told.is_empty() {
        let _ = lines.send(told).await;
    }
}

/// A line of a console without escape sequences and control characters.
fn tidy(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut tidied = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // CSI: parameters, then one letter (ECMA-48). Anything else is a two-character sequence.
            if chars.next() == Some('[') {
                while chars.next_if(|c| !c.is_ascii_alphabetic()).is_some() {}
                chars.next();
            }
        } else if !c.is_control() {
            tidied.push(c);
        }
    }
    tidied.trim().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    /// A prober whose QEMU is a shell script and whose KVM is /dev/null.
    fn prober(dir: &Path, script: &str) -> Prober {
        let qemu = dir.join("qemu");
        std::fs::write(&qemu, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&qemu, PermissionsExt::from_mode(0o755)).unwrap();
        for name in ["vmlinuz", "initrd", "cpuinfo"] {
            std::fs::write(dir.join(name), "").unwrap();
        }
        Prober {
            device: Device {
                path: "/dev/null".into(),
                major: 1,
                minor: 3,
            },
            qemu,
            kernel: dir.join("vmlinuz"),
            initrd: dir.join("initrd"),
            limit: Duration::from_secs(60),
            cpuinfo: dir.join("cpuinfo"),
        }
    }

    /// Writing a script and running it races with other tests' forks, which hold its descriptor for a moment (ETXTBSY).
    async fn tried(prober: &Prober) -> Result<Duration, NoKvm> {
        loop {
            match prober.try_kvm().await {
                Err(NoKvm::NoProbe { reason, .. }) if reason.contains("busy") => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                other => return other,
            }
        }
    }

    #[tokio::test]
    async fn a_guest_that_speaks_proves_kvm() {
        let dir = tempfile::tempdir().unwrap();
        let prober = prober(
            dir.path(),
            "printf '[    0.1] Linux\\r\\nlibvirt-resource-probe: alive\\r\\n'; sleep 1000",
        );
        tried(&prober).await.unwrap();
        let (progress, _) = Progress::channel();
        let verdict = prober.settle(AcceleratorChoice::Auto, &progress).await.unwrap();
        assert_eq!(
            verdict,
            Verdict {
                accelerator: Accelerator::Kvm,
                reason: None
            }
        );
    }

    #[tokio::test]
    async fn a_guest_that_dies_leaves_evidence() {
        let dir = tempfile::tempdir().unwrap();
        let prober = prober(dir.path(), "echo 'failed to set MSR 0x10a' >&2; exit 134");
        let Err(NoKvm::Died {
            how,
            evidence,
            flags: 0,
        }) = tried(&prober).await
        else {
            panic!()
        };
        assert_eq!(
            (how.as_str(), evidence),
            (
                "QEMU ended with exit status: 134",
                vec!["failed to set MSR 0x10a".to_owned()]
            )
        );
        let (progress, mut events) = Progress::channel();
        let verdict = prober.settle(AcceleratorChoice::Auto, &progress).await.unwrap();
        assert_eq!(verdict.accelerator, Accelerator::Tcg);
        assert!(
            verdict
                .reason
                .is_some_and(|reason| reason.contains("a guest dies on it"))
        );
        let first = events.recv().await.unwrap();
        assert_eq!(
            (first.level, first.text.as_str()),
            (Level::Quote, "failed to set MSR 0x10a")
        );
        let error = prober
            .settle(AcceleratorChoice::Kvm, &progress)
            .await
            .unwrap_err();
        insta::assert_snapshot!(crate::fault::tell(&error), @r"
        accelerator: kvm was asked for, and KVM cannot be used here: /dev/kvm opens, but a guest dies on it (QEMU ended with exit status: 134); no CPU in /proc/cpuinfo shows vmx or svm
          help: The worker's CPU offers no hardware virtualisation: switch on VT-x or AMD-V in its firmware, or, if the worker is itself a virtual machine, nested virtualisation in its hypervisor or cloud.
          help: Or write `accelerator: auto`, which falls back to QEMU's own translation (TCG): slower, but it needs nothing.
        ");
    }

    #[tokio::test]
    async fn a_guest_that_hangs_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let mut prober = prober(dir.path(), "sleep 1000 & wait");
        tried(&Prober {
            qemu: "/bin/true".into(),
            ..prober.clone()
        })
        .await
        .unwrap_err();
        prober.limit = Duration::from_millis(100);
        std::fs::write(&prober.cpuinfo, "flags\t\t: fpu vmx\n").unwrap();
        assert!(matches!(
            tried(&prober).await,
            Err(NoKvm::Silent { flags: 1, .. })
        ));
    }

    #[tokio::test]
    async fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let good = prober(dir.path(), "");
        let cases = [
            Prober {
                kernel: dir.path().join("nowhere"),
                ..good.clone()
            },
            Prober {
                qemu: dir.path().join("nowhere"),
                ..good.clone()
            },
        ];
        for case in cases {
            let Err(NoKvm::NoProbe { program, .. }) = case.try_kvm().await else {
                panic!()
            };
            assert!(program.ends_with("nowhere"));
        }
        let occupied = Prober {
            device: Device {
                path: dir.path().join("qemu"),
                ..Device::kvm()
            },
            ..good
        };
        assert_eq!(occupied.try_kvm().await, Err(NoKvm::Occupied));
    }

    #[tokio::test]
    async fn tcg_probes_nothing() {
        let prober = Prober {
            qemu: "/no/such/qemu".into(),
            ..Prober::default()
        };
        let (progress, mut events) = Progress::channel();
        let verdict = prober.settle(AcceleratorChoice::Tcg, &progress).await.unwrap();
        assert_eq!(
            verdict,
            Verdict {
                accelerator: Accelerator::Tcg,
                reason: None
            }
        );
        drop(progress);
        assert!(events.recv().await.is_none());
    }

    #[test]
    fn each_cause_has_its_own_cure() {
        assert!(
            NoKvm::Forbidden(Errno::PERM)
                .cure()
                .contains("--containerd-allowed-device \"c 10:232 rwm\"")
        );
        assert!(
            NoKvm::Forbidden(Errno::PERM)
                .cure()
                .contains("CONCOURSE_CONTAINERD_ALLOWED_DEVICE")
        );
        assert!(
            NoKvm::CannotBeMade(Errno::PERM)
                .cure()
                .contains("privileged: true")
        );
        assert!(
            NoKvm::NoDriver {
                errno: Errno::NODEV,
                flags: 4
            }
            .cure()
            .contains("modprobe kvm_intel")
        );
        assert!(
            NoKvm::NoDriver {
                errno: Errno::NODEV,
                flags: 0
            }
            .cure()
            .contains("nested")
        );
    }

    #[test]
    fn colours_are_taken_out() {
        assert_eq!(tidy(b"\x1b[1;31mpanic\x1b[0m\r"), "panic");
        assert_eq!(tidy(b"\x1bcreset"), "reset");
    }

    proptest! {
        #[test]
        fn any_console_line_is_made_fit(line: Vec<u8>) {
            let told = tidy(&line);
            prop_assert!(told.chars().count() <= 200 && !told.chars().any(char::is_control));
        }
    }
}
