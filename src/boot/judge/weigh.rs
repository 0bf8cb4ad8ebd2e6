//! Of all that is suspected, what is said.

use std::time::Duration;

use super::text::is_refused;
use super::{Judge, Kind, Suspect};
use crate::boot::cause::{Cause, Ends, Weight};
use crate::boot::evidence::{Outcome, VirtioDevice};
use crate::boot::marks::Hint;
use crate::boot::phase::Phase;
use crate::boot::verdict::{Candidate, Verdict};

/// Lines of evidence in a verdict: what fits a screen.
const EVIDENCE: usize = 8;

/// Other candidates that are told.
const OTHERS: usize = 4;

/// So many boots that ended abruptly, and another has begun.
const ABRUPT: u32 = 2;

/// So many boots that shut down by themselves: an installer or an update needs one or two.
const ORDERLY: u32 = 3;

impl Judge {
    /// Something speaks for a cause. What was told first counts; what comes later adds to the evidence.
    pub(super) fn suspect(&mut self, cause: Cause, detail: String, evidence: Vec<String>) {
        let ends = match cause.ends() {
            Ends::After(seconds) => Some(self.now + Duration::from_secs(seconds)),
            Ends::Scaled(seconds) => Some(self.now + self.scaled(seconds)),
            Ends::Never => None,
        };
        match self.suspects.get_mut(&cause) {
            Some(known) => {
                if known.detail.is_empty() {
                    known.detail = detail;
                }
                for line in evidence {
                    if known.evidence.len() < EVIDENCE && !known.evidence.contains(&line) {
                        known.evidence.push(line);
                    }
                }
            }
            None => {
                self.suspects.insert(
                    cause,
                    Suspect {
                        detail,
                        at: self.now,
                        phase: self.boot.phase,
                        ends,
                        evidence,
                    },
                );
            }
        }
    }

    /// The node has come to a phase: what would have kept it from there was not so.
    pub(super) fn refute(&mut self, phase: Phase) {
        let furthest = self.past.furthest;
        let loader = self.boot.loader;
        self.suspects.retain(|cause, suspect| {
            let last = match cause {
                // That a firmware tries its disks too is no success of theirs.
                cause if cause.phase() == Phase::Netboot && !loader => Phase::Bootloader,
                Cause::QemuFailed
                | Cause::QemuOutOfMemory
                | Cause::HostDiskFull
                | Cause::HostDiskFailed
                | Cause::InternalError
                | Cause::Paused
                | Cause::StoppedFromOutside
                | Cause::PoweredOff
                | Cause::WatchdogFired
                | Cause::ReadyCommandFailed
                | Cause::ReadyCommandTimedOut
                | Cause::DiskFull => Phase::Ready,
                Cause::EmergencyMode
                | Cause::MountFailed
                | Cause::DeviceMissing
                | Cause::RescueMode
                | Cause::InstallerWaits
                | Cause::WaitsForConfig => Phase::SshPort,
                Cause::InitramfsShell => Phase::Initramfs,
                Cause::ResetLoop => furthest,
                cause if cause.ends() == Ends::Never => Phase::Ready,
                _ => suspect.phase,
            };
            phase <= last.max(suspect.phase)
        });
    }

    /// Boots that follow one another without getting further.
    pub(super) fn suspect_loop(&mut self) {
        if self.past.abrupt < ABRUPT && self.past.orderly < ORDERLY {
            return;
        }
        let mut evidence = vec![format!(
            "boot {} begins, none got past {}",
            self.boot.number, self.past.furthest
        )];
        let mut detail = String::new();
        if let Some((cause, suspect)) = &self.past.first {
            detail = sentence(*cause, &suspect.detail);
            evidence.extend(suspect.evidence.iter().cloned());
        }
        self.suspect(Cause::ResetLoop, detail, evidence);
    }

    /// The first thing that this boot could not get over.
    pub(super) fn first_fatal(&self) -> Option<(Cause, Suspect)> {
        let mut fatal: Vec<(&Cause, &Suspect)> = self
            .suspects
            .iter()
            .filter(|(cause, _)| cause.weight() == Weight::Fatal)
            .collect();
        // A network boot that is only the last resort explains nothing: the disk should have booted.
        let meant = self.network_is_meant();
        if meant && fatal.iter().any(|(cause, _)| cause.phase() == Phase::Netboot) {
            // And where it is what was meant, that no disk boots either explains nothing.
            fatal.retain(|(cause, _)| {
                !matches!(
                    cause,
                    Cause::NoBootableDevice | Cause::BootDiskUnreadable | Cause::UefiShell
                )
            });
        }
        let disk_failed =
            self.boot.hints.contains_key(&Hint::Disk) || self.suspects.contains_key(&Cause::UefiShell);
        if !meant && disk_failed && fatal.iter().any(|(cause, _)| cause.phase() == Phase::Firmware) {
            fatal.retain(|(cause, _)| cause.phase() != Phase::Netboot);
        }
        let (cause, suspect) = fatal
            .into_iter()
            .min_by_key(|(cause, suspect)| (suspect.at, rank(**cause)))?;
        Some(self.refine(*cause, suspect.clone()))
    }

    fn network_is_meant(&self) -> bool {
        self.boot.network_first || self.context.as_ref().is_some_and(|context| context.network_boot)
    }

    /// What a boot that has not given up yet, or whose last word is not recorded, complained of and has not got over.
    fn lacks(&self) -> Option<(Cause, Suspect)> {
        let early = self.boot.phase <= Phase::Initramfs;
        let known = |hint: Hint| self.boot.hints.get(&hint).filter(|_| early);
        let refused = known(Hint::Disk)
            .filter(|(detail, _)| self.boot.phase <= Phase::Netboot && is_refused(detail))
            .map(|told| (Cause::SecureBootRefused, told));
        let told = refused
            .or_else(|| Some((Cause::NoInit, known(Hint::NoInit)?)))
            .or_else(|| Some((Cause::FilesystemCorrupt, known(Hint::Damaged)?)))
            .or_else(|| Some((Cause::RootNotFound, known(Hint::RootMissing)?)));
        if let Some((cause, (detail, line))) = told {
            return Some((cause, self.told_now(detail.clone(), line.clone())));
        }
        let no_lease = self.net.no_lease.as_ref();
        let (_, line) =
            no_lease.filter(|_| self.boot.phase <= Phase::Address && self.net.expected_at.is_none())?;
        Some((Cause::DhcpNoAnswer, self.told_now(String::new(), line.clone())))
    }

    /// What kept the init system from the disks that it cannot do without, though it has not said yet that it gives up.
    fn gives_up(&self) -> Option<(Cause, Suspect)> {
        let up = self.boot.login.is_some() || self.boot.phase > Phase::FirstBoot;
        let reason = self.boot.reason().filter(|_| !up)?;
        let cause = cause_of(reason.kind, self.boot.phase)?;
        let given_up = self.boot.ignition_failure().is_some() || self.boot.given_up_at().is_some();
        given_up.then(|| (cause, self.told_now(reason.what.clone(), reason.line.clone())))
    }

    fn told_now(&self, detail: String, line: String) -> Suspect {
        Suspect {
            detail,
            at: self.now,
            phase: self.boot.phase,
            ends: None,
            evidence: vec![line],
        }
    }

    /// What stands behind a failure that names no reason itself.
    fn refine(&self, cause: Cause, mut suspect: Suspect) -> (Cause, Suspect) {
        let boot = &self.boot;
        let hint = |hint: Hint| boot.hints.get(&hint).map(|(detail, _)| detail.clone());
        let early = suspect.phase <= Phase::Initramfs;
        let reason = boot.reason();
        let found = match cause {
            Cause::InitramfsShell
            | Cause::EmergencyMode
            | Cause::InitDied
            | Cause::PoweredOff
            | Cause::KernelPanic => {
                let gave_up = cause != Cause::PoweredOff || boot.emergency || early;
                let ignition = self
                    .suspects
                    .get(&Cause::IgnitionFailed)
                    .map(|known| known.detail.clone())
                    .or_else(|| boot.ignition_failure().map(|unit| unit.what.clone()));
                let told = |cause: Cause, detail: Option<String>| detail.map(|detail| (cause, detail));
                let init = cause == Cause::InitDied;
                let none = || None::<(Cause, String)>;
                let of_hints = told(Cause::IgnitionFailed, ignition.filter(|_| early))
                    .or_else(|| {
                        if init {
                            told(Cause::CpuTooOld, hint(Hint::OldCpu))
                        } else {
                            none()
                        }
                    })
                    .or_else(|| {
                        if init {
                            told(Cause::InitramfsBroken, hint(Hint::BadInitramfs))
                        } else {
                            none()
                        }
                    })
                    .or_else(|| {
                        if init {
                            told(Cause::OutOfMemory, hint(Hint::NoMemory))
                        } else {
                            none()
                        }
                    })
                    .or_else(|| {
                        if early {
                            told(Cause::NoInit, hint(Hint::NoInit))
                        } else {
                            none()
                        }
                    })
                    .or_else(|| {
                        // A later init system says which of its units failed; one without units has only fsck's words.
                        let untold = cause == Cause::EmergencyMode && boot.failures.is_empty();
                        if early || untold {
                            told(Cause::FilesystemCorrupt, hint(Hint::Damaged))
                        } else {
                            none()
                        }
                    })
                    .or_else(|| {
                        if early {
                            told(Cause::RootNotFound, hint(Hint::RootMissing))
                        } else {
                            none()
                        }
                    });
                let of_units = || {
                    let reason = reason.filter(|_| {
                        matches!(
                            cause,
                            Cause::InitramfsShell | Cause::EmergencyMode | Cause::PoweredOff
                        )
                    })?;
                    let behind = cause_of(reason.kind, suspect.phase).unwrap_or(cause);
                    Some((behind, reason.what.clone()))
                };
                if gave_up { of_hints.or_else(of_units) } else { None }
            }
            Cause::BootloaderRescue | Cause::BootloaderPrompt | Cause::BootloaderKernelMissing => {
                hint(Hint::Bootloader).map(|detail| (cause, detail))
            }
            Cause::NoBootableDevice | Cause::UefiShell => hint(Hint::Disk).map(|detail| {
                if is_refused(&detail) {
                    (Cause::SecureBootRefused, detail)
                } else {
                    (cause, detail)
                }
            }),
            Cause::ReadyCommandFailed | Cause::ReadyCommandTimedOut => {
                let invalid = self.suspects.get(&Cause::UserDataInvalid);
                if let Some(line) = invalid.and_then(|invalid| invalid.evidence.first()) {
                    push_first(&mut suspect.evidence, line.clone());
                }
                return match invalid {
                    Some(invalid) => {
                        suspect.detail.clone_from(&invalid.detail);
                        (Cause::UserDataInvalid, suspect)
                    }
                    None => (cause, suspect),
                };
            }
            // The firmware went on to the network, because it was not to start what is on the disk.
            cause if cause.phase() == Phase::Netboot && !self.network_is_meant() => hint(Hint::Disk)
                .filter(|detail| is_refused(detail))
                .map(|detail| (Cause::SecureBootRefused, detail)),
            _ => None,
        };
        let Some((cause, detail)) = found else {
            return (cause, suspect);
        };
        if let Some(reason) = reason.filter(|reason| reason.what == detail) {
            push_first(&mut suspect.evidence, reason.line.clone());
        } else {
            let line = boot
                .hints
                .values()
                .find(|(told, _)| *told == detail)
                .map(|(_, line)| line.clone());
            push_first(&mut suspect.evidence, line.unwrap_or_else(|| detail.clone()));
        }
        suspect.detail = detail;
        (cause, suspect)
    }

    /// What explains why a node cannot be reached or logged in to.
    fn explanation(&self, cause: Cause) -> Option<Cause> {
        let of = |causes: &[Cause]| {
            causes
                .iter()
                .copied()
                .find(|cause| self.suspects.contains_key(cause))
        };
        // A system that is not up yet waits for what it has told.
        let waits = || of(&[Cause::JobWaiting, Cause::NetworkWaits]).filter(|_| self.boot.login.is_none());
        match cause {
            Cause::SshKeyRefused
            | Cause::SshHostKeyDiffers
            | Cause::LoginNotAllowed
            | Cause::SshdNotRunning => {
                let first_boot = of(&[
                    Cause::UserDataInvalid,
                    Cause::SeedNotFound,
                    Cause::IgnitionNoConfig,
                    Cause::CloudInitAbsent,
                    Cause::DiskFull,
                ]);
                let keys = of(&[Cause::SshdNoHostKeys]).filter(|_| cause == Cause::SshdNotRunning);
                match cause {
                    // Without its first-boot configuration an image mostly uses DHCP, and has its SSH server; one that is made for
                    // Ignition may have its server's keys from there.
                    Cause::SshdNotRunning => keys
                        .or_else(|| of(&[Cause::IgnitionNoConfig, Cause::DiskFull]))
                        .or_else(waits),
                    _ => first_boot,
                }
            }
            Cause::NoDhcpRequest => of(&[Cause::DiskFull, Cause::OomKilled]).or_else(waits),
            Cause::Hung => of(&[
                Cause::NetworkWaits,
                Cause::JobWaiting,
                Cause::KernelOops,
                Cause::DiskFull,
                Cause::OomKilled,
            ]),
            _ => None,
        }
    }

    pub(super) fn weigh(&self) -> Verdict {
        let over = self.over();
        let mut evidence = Vec::new();
        let (cause, suspect, sure) = self.choose(over);
        evidence.extend(suspect.evidence.iter().cloned());
        if let Some(known) = self.suspects.get(&cause) {
            for line in &known.evidence {
                if !evidence.contains(line) {
                    evidence.push(line.clone());
                }
            }
        }
        if evidence.len() < EVIDENCE && cause.weight() < Weight::Complaint {
            evidence.extend(self.state());
        }
        if matches!(
            cause,
            Cause::Unknown | Cause::Hung | Cause::SlowNotStuck | Cause::BootloaderWaits
        ) || evidence.is_empty()
        {
            let room = EVIDENCE.saturating_sub(evidence.len()).max(3);
            let lines: Vec<String> = self.recent.iter().rev().take(room).rev().cloned().collect();
            evidence.extend(lines);
        }
        evidence.truncate(EVIDENCE);
        let others = self.others(cause, &suspect);
        let phase = if cause.weight() == Weight::Fatal {
            suspect.phase.max(self.earliest_phase(cause))
        } else {
            self.boot.phase
        };
        Verdict {
            code: cause,
            sure,
            phase,
            boot: self.boot.number,
            sentence: sentence(cause, &suspect.detail) + ".",
            evidence,
            advice: cause.advice().to_owned(),
            others,
            fatal: over
                || self.told.is_some()
                || self.suspects.keys().any(|cause| self.ends_the_wait(*cause)),
            at_seconds: (suspect.at.as_secs_f64() * 1e3).round() / 1e3,
        }
    }

    fn earliest_phase(&self, cause: Cause) -> Phase {
        match cause {
            Cause::ReadyCommandFailed | Cause::ReadyCommandTimedOut => Phase::ReadyCommand,
            _ => Phase::Firmware,
        }
    }

    fn choose(&self, over: bool) -> (Cause, Suspect, bool) {
        if let Some((cause, suspect)) = self.first_fatal() {
            let due = suspect.ends.is_some_and(|ends| self.now >= ends);
            let host = matches!(cause, Cause::PoweredOff) && self.off;
            // The last boot of a recording may be the one that came through.
            let as_far = self.boot.phase >= self.past.furthest && self.boot.panic.is_none();
            let may_be_over = cause == Cause::ResetLoop && as_far;
            let sure = (due || host || self.ended.is_some()) && !may_be_over;
            return (cause, suspect, sure);
        }
        let mut rest: Vec<(Cause, &Suspect)> = self
            .suspects
            .iter()
            .map(|(cause, suspect)| (*cause, suspect))
            .collect();
        rest.sort_by_key(|(cause, suspect)| {
            let due = suspect.ends.is_some_and(|ends| self.now >= ends);
            (!due, std::cmp::Reverse(cause.weight()), rank(*cause), suspect.at)
        });
        let due: Vec<Cause> = rest
            .iter()
            .filter(|(_, suspect)| suspect.ends.is_some_and(|ends| self.now >= ends))
            .map(|(cause, _)| *cause)
            .collect();
        let held = rest.first().copied();
        if let Some((cause, suspect)) = held.filter(|(cause, _)| due.contains(cause)) {
            if let Some(behind) = self.explanation(cause) {
                let known = self.suspects.get(&behind).unwrap_or(suspect);
                let mut told = known.clone();
                told.evidence.extend(suspect.evidence.iter().cloned());
                // What was told, not what was concluded.
                let sure = matches!(behind, Cause::UserDataInvalid | Cause::SshdNoHostKeys)
                    || (behind == Cause::SeedNotFound && !known.detail.is_empty());
                return (behind, told, sure);
            }
            let rivals = due
                .iter()
                .filter(|other| other.weight() >= cause.weight())
                .count();
            let sure = cause.weight() == Weight::Device && rivals == 1;
            return (cause, suspect.clone(), sure);
        }
        // What waits with an idle CPU is not getting on, however slow the machine.
        let moving = self.now.saturating_sub(self.moves.last.max(self.moves.cpu)) < self.scaled(15)
            && !self.waits_idly();
        let blank = |detail: String| Suspect {
            detail,
            at: self.now,
            phase: self.boot.phase,
            ends: None,
            evidence: Vec::new(),
        };
        let timed_out = over && self.ended.is_none_or(|outcome| outcome == Outcome::TimedOut);
        // What lacks memory or room is slow for that.
        let starved = rest
            .iter()
            .find(|(cause, _)| matches!(cause, Cause::OomKilled | Cause::DiskFull));
        if timed_out
            && moving
            && self.context.is_some()
            && self.boot.phase < Phase::Address
            && starved.is_none()
        {
            return (
                Cause::SlowNotStuck,
                blank(format!("it was at {}", self.boot.phase)),
                false,
            );
        }
        if let Some((cause, suspect)) = held.filter(|(cause, _)| cause.weight() == Weight::Device) {
            let behind = self.explanation(cause);
            let (cause, suspect) = behind
                .and_then(|behind| Some((behind, self.suspects.get(&behind)?)))
                .unwrap_or((cause, suspect));
            return (cause, suspect.clone(), false);
        }
        if let Some((cause, suspect)) = self.gives_up() {
            return (cause, suspect, false);
        }
        if let Some((cause, suspect)) = held {
            return (cause, suspect.clone(), false);
        }
        if let Some((cause, suspect)) = self.lacks() {
            return (cause, suspect, false);
        }
        // A boot that came up this time is explained by no failure of the one before.
        if let Some((cause, suspect)) = self.past.first.as_ref().filter(|_| self.boot.login.is_none()) {
            return (*cause, suspect.clone(), false);
        }
        if self.boot.phase == Phase::Bootloader && !self.boot.loader {
            return (Cause::BootSectorStuck, blank(String::new()), false);
        }
        let seen = if self.boot.login.is_some() {
            "its console shows no failure, and a login prompt".to_owned()
        } else {
            format!("it was last seen at {}", self.boot.phase)
        };
        (Cause::Unknown, blank(seen), false)
    }

    fn others(&self, chosen: Cause, suspect: &Suspect) -> Vec<Candidate> {
        let mut rest: Vec<(Cause, &Suspect)> = self
            .suspects
            .iter()
            .map(|(cause, suspect)| (*cause, suspect))
            // What a failure entails is no other cause of it.
            .filter(|(cause, other)| {
                *cause != chosen && !(cause.weight() == Weight::Fatal && other.at >= suspect.at)
            })
            // Nor is what it could not come to.
            .filter(|(cause, _)| {
                let stopped = chosen.weight() == Weight::Fatal && cause.phase() > suspect.phase;
                !stopped || cause.weight() >= Weight::Complaint && cause.weight() != Weight::Device
            })
            .filter(|(cause, _)| *cause != Cause::SilentButRunning || chosen.weight() < Weight::Complaint)
            // Who has given up waits for nothing any more.
            .filter(|(cause, _)| {
                let waits = matches!(cause, Cause::JobWaiting | Cause::NetworkWaits);
                !waits || chosen.weight() < Weight::Fatal
            })
            .collect();
        rest.sort_by_key(|(cause, suspect)| (std::cmp::Reverse(cause.weight()), rank(*cause), suspect.at));
        rest.into_iter()
            .take(OTHERS)
            .map(|(code, suspect)| Candidate {
                code,
                sentence: sentence(code, &suspect.detail) + ".",
                evidence: suspect.evidence.iter().take(2).cloned().collect(),
            })
            .collect()
    }

    /// What the machine itself looks like.
    fn state(&self) -> Vec<String> {
        let mut state = Vec::new();
        if let Some((mode, halted, _)) = self.registers {
            let halted = if halted { ", idle" } else { "" };
            state.push(format!("the first CPU runs in {mode:?} mode{halted}"));
        }
        if let Some(counters) = self.moves.counters {
            state.push(format!(
                "CPU {:.0} %, {} MiB read from its disks, {} packets sent",
                self.moves.load * 100.0,
                counters.disk_read_bytes >> 20,
                counters.net_tx_packets
            ));
        }
        let driven = |device: &&VirtioDevice| device.driver_ok;
        if !self.devices.is_empty() {
            let count = self.devices.iter().filter(driven).count();
            state.push(format!(
                "{count} of {} virtio devices are driven",
                self.devices.len()
            ));
        }
        state
    }
}

/// What a unit that failed is a sign of, where the init system gives up for it.
fn cause_of(kind: Kind, phase: Phase) -> Option<Cause> {
    Some(match kind {
        Kind::Device if phase <= Phase::Initramfs => Cause::RootNotFound,
        Kind::Device => Cause::DeviceMissing,
        Kind::Mount => Cause::MountFailed,
        Kind::Check => Cause::FilesystemCorrupt,
        Kind::Ignition => Cause::IgnitionFailed,
        Kind::Dependency | Kind::Other => return None,
    })
}

/// Of two causes that weigh the same, the more telling first.
fn rank(cause: Cause) -> u8 {
    match cause {
        // What came of another failure.
        Cause::PoweredOff | Cause::KernelPanic => 3,
        Cause::InitramfsShell | Cause::EmergencyMode | Cause::InitDied | Cause::NoBootableDevice => 2,
        Cause::UnitFailed
        | Cause::CpuStall
        | Cause::TaskStuck
        | Cause::JobWaiting
        | Cause::IgnitionNoConfig
        | Cause::SilentButRunning => 2,
        _ => 1,
    }
}

fn sentence(cause: Cause, detail: &str) -> String {
    if detail.is_empty() {
        cause.sentence().to_owned()
    } else {
        format!("{}: {detail}", cause.sentence())
    }
}

fn push_first(lines: &mut Vec<String>, line: String) {
    if !lines.contains(&line) {
        lines.insert(0, line);
    }
}
