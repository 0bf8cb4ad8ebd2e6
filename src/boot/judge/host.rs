//! What is seen of the machine from outside: its state, its counters, its devices.

use std::time::Duration;

use super::{Judge, Rest};
use crate::boot::cause::Cause;
use crate::boot::evidence::{Counters, CpuMode, Life, PauseReason, StopReason, VirtioDevice, VirtioKind};
use crate::boot::phase::Phase;

/// Lines of QEMU's log that are kept.
const QEMU_LINES: usize = 8;

/// A driver of an operating system takes this many of a virtio device's features; a firmware's takes three.
const FEATURES_OF_A_SYSTEM: u32 = 7;

/// One reboot may come as two resets.
const DEBOUNCE: Duration = Duration::from_secs(2);

impl Judge {
    pub(super) fn live(&mut self, life: Life) {
        match life {
            Life::Started => {
                self.off = false;
                self.paused_since = None;
            }
            Life::Stopped { reason } => self.stop(reason),
            Life::Panicked => {
                let said = vec!["the guest's kernel reported its panic to the host (pvpanic)".to_owned()];
                self.suspect(Cause::KernelPanic, String::new(), said);
            }
            Life::Rebooted => {
                let fresh = self
                    .reset_at
                    .is_none_or(|before| self.now.saturating_sub(before) > DEBOUNCE);
                let after_start = self.now.saturating_sub(self.boot.began) > DEBOUNCE;
                if fresh && after_start {
                    // Who prints will print again; who is silent has only this.
                    if !self.boot.printed && !self.boot.firmware && self.boot.phase > Phase::Firmware {
                        self.reboot();
                    }
                    self.reset_at = Some(self.now);
                }
            }
            Life::Paused { reason } => {
                self.paused_since.get_or_insert(self.now);
                match reason {
                    PauseReason::IoError => {
                        self.suspect(
                            Cause::HostDiskFailed,
                            String::new(),
                            vec!["the machine was paused for an I/O error".to_owned()],
                        );
                    }
                    PauseReason::InternalError => {
                        let log = self.qemu_log.iter().cloned().collect();
                        self.suspect(Cause::InternalError, String::new(), log);
                    }
                    PauseReason::Panicked => {
                        self.suspect(
                            Cause::KernelPanic,
                            String::new(),
                            vec!["the machine was paused for a panic of its guest".to_owned()],
                        );
                    }
                    PauseReason::Watchdog => self.suspect(Cause::WatchdogFired, String::new(), Vec::new()),
                    PauseReason::User | PauseReason::Unknown => {
                        self.suspect(Cause::Paused, String::new(), Vec::new());
                    }
                }
            }
            Life::Resumed => {
                self.paused_since = None;
                self.moves.last = self.now;
                for cause in [Cause::Paused, Cause::HostDiskFailed, Cause::WatchdogFired] {
                    self.suspects.remove(&cause);
                }
            }
            Life::DiskFailed { path, reason } => {
                let full = reason.contains("enospc") || reason.contains("No space");
                let cause = if full {
                    Cause::HostDiskFull
                } else {
                    Cause::HostDiskFailed
                };
                self.suspect(cause, path, vec![format!("the host's disk said: {reason}")]);
            }
            Life::Unknown => {}
        }
    }

    fn stop(&mut self, reason: StopReason) {
        self.off = true;
        let log: Vec<String> = self.qemu_log.iter().cloned().collect();
        match reason {
            StopReason::Shutdown => {
                self.suspect(
                    Cause::PoweredOff,
                    String::new(),
                    vec!["the guest switched itself off".to_owned()],
                );
                if let Some(suspect) = self.suspects.get_mut(&Cause::PoweredOff) {
                    suspect.ends = Some(self.now);
                }
            }
            StopReason::Destroyed => self.suspect(Cause::StoppedFromOutside, String::new(), Vec::new()),
            StopReason::Panicked => {
                self.suspect(
                    Cause::KernelPanic,
                    String::new(),
                    vec!["the machine was stopped for a panic of its guest".to_owned()],
                );
            }
            StopReason::Crashed | StopReason::Failed | StopReason::Unknown => {
                let detail = log.last().cloned().unwrap_or_default();
                self.suspect(Cause::QemuFailed, detail, log);
            }
        }
    }

    pub(super) fn see_qemu_log(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let line: String = line.chars().filter(|c| !c.is_control()).take(300).collect();
            if line.contains("annot allocate memory") || line.contains("annot set up guest memory") {
                self.suspect(Cause::QemuOutOfMemory, line.clone(), vec![line.clone()]);
            } else if line.contains("KVM internal error") || line.contains("entry failed, hardware error") {
                self.suspect(Cause::InternalError, line.clone(), vec![line.clone()]);
            }
            if self.qemu_log.len() >= QEMU_LINES {
                self.qemu_log.pop_front();
            }
            self.qemu_log.push_back(line);
        }
    }

    pub(super) fn count(&mut self, counters: Counters) {
        let now = self.now;
        if let Some(before) = self.moves.counters {
            let passed = now.saturating_sub(self.moves.counted).as_secs_f64();
            let worked = counters.cpu_time_seconds - before.cpu_time_seconds;
            if passed > 0.0 {
                self.moves.load = worked / passed;
            }
            // An idle system's clock ticks; that is no work.
            if worked > 0.02 * passed {
                self.moves.cpu = now;
            }
            let read = counters.disk_read_bytes != before.disk_read_bytes;
            if read {
                self.moves.reads_since = now;
                self.moves.cpu_at_read = counters.cpu_time_seconds;
            }
            if read || counters.disk_write_bytes != before.disk_write_bytes {
                self.moves.last = now;
            }
            if counters.net_tx_packets > before.net_tx_packets {
                self.moves.last = now;
            }
        } else {
            self.moves.reads_since = now;
            self.moves.cpu_at_read = counters.cpu_time_seconds;
            self.moves.cpu = now;
        }
        self.net.sent = Some(counters.net_tx_packets);
        self.moves.counters = Some(counters);
        self.moves.counted = now;
    }

    pub(super) fn see_registers(&mut self, mode: CpuMode, halted: bool) {
        let since = match self.registers {
            Some((before, _, since)) if before == mode => since,
            _ => self.now,
        };
        self.registers = Some((mode, halted, since));
        self.rest.look(self.now, halted);
        match mode {
            CpuMode::Kernel => self.silently_reach(Phase::Kernel),
            CpuMode::User => self.silently_reach(Phase::Initramfs),
            CpuMode::Real | CpuMode::Protected | CpuMode::Firmware64 | CpuMode::Unknown => {}
        }
    }

    pub(super) fn see_devices(&mut self, devices: Vec<VirtioDevice>) {
        if devices != self.devices {
            self.moves.last = self.now;
        }
        let driven = |kinds: &[VirtioKind]| {
            devices.iter().any(|device| {
                device.driver_ok
                    && kinds.contains(&device.device)
                    && device.guest_features >= FEATURES_OF_A_SYSTEM
            })
        };
        if driven(&[VirtioKind::Block, VirtioKind::Net]) {
            self.silently_reach(Phase::Kernel);
        }
        // A firmware drives neither; the initial RAM disk leaves them to udev in the installed system.
        let later = devices.iter().any(|device| {
            device.driver_ok && matches!(device.device, VirtioKind::Balloon | VirtioKind::Console)
        });
        if later {
            self.silently_reach(Phase::Userspace);
        }
        self.devices = devices;
    }
}

/// Looks that are remembered, and how many of them it takes to say anything.
const LOOKS: usize = 6;
const LEAST_LOOKS: usize = 4;

/// Looks that are further apart tell nothing of the time between them.
const STALE: Duration = Duration::from_secs(30);

impl Rest {
    fn look(&mut self, at: Duration, halted: bool) {
        if self
            .looks
            .back()
            .is_some_and(|(last, _)| at.saturating_sub(*last) > STALE)
        {
            *self = Self::default();
        }
        if self.looks.len() >= LOOKS {
            self.looks.pop_front();
        }
        self.looks.push_back((at, halted));
        // Attempts to log in keep it busy for a part of the time.
        let halts = self.looks.iter().filter(|(_, halted)| *halted).count();
        let rests = self.looks.len() >= LEAST_LOOKS && halts * 2 >= self.looks.len();
        let first = self.looks.iter().find(|(_, halted)| *halted).map(|(at, _)| *at);
        self.since = match self.since {
            Some(since) if rests => Some(since),
            _ => first.filter(|_| rests),
        };
    }

    /// Since when it has had nothing to do, as known at a time.
    pub(super) fn since(&self, now: Duration) -> Option<Duration> {
        let fresh = self
            .looks
            .back()
            .is_some_and(|(last, _)| now.saturating_sub(*last) <= STALE);
        self.since.filter(|_| fresh)
    }
}
