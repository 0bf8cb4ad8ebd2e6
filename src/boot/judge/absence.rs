//! What should have come by now and has not.

use std::time::Duration;

use super::{Contact, Judge, Suspect};
use crate::boot::cause::{Cause, Ends};
use crate::boot::evidence::{CpuMode, FirstBoot, VirtioKind};
use crate::boot::phase::Phase;
use crate::boot::verdict::Change;

/// Less than this much read from its disks, and a machine has loaded no kernel.
const NO_KERNEL: u64 = 2 << 20;

/// What a firmware reads of a disk before it starts its boot sector, whatever the size of a sector.
const ONE_SECTOR: u64 = 4096;

/// Seconds of CPU time after which a boot sector that did nothing else will do nothing else.
const COMPUTED: f64 = 8.0;

/// A system that has had nothing to do for so long since it came up is not going to do anything by itself.
const REST: Duration = Duration::from_secs(20);

/// After a login prompt, a unit may hold up the SSH server for a minute and more.
const SLOW_UNIT: Duration = Duration::from_secs(75);

/// A start that has gone on for so long without a word from it, in a system without anything to do, is being waited for.
const WAITED: Duration = Duration::from_secs(10);

const OTHER_KEY: &str = "the node itself answers at its address, with another host key than its first-boot configuration gives it";

/// Starts that are listed.
const LISTED: usize = 4;

/// What speaks for an absence: since when, and from when on it ends the wait.
struct Held {
    since: Duration,
    ends: Option<Duration>,
    detail: String,
    evidence: Vec<String>,
}

impl Judge {
    /// Looks at everything anew, and says so if the wait may end.
    pub(super) fn judge(&mut self) {
        if self.ready_at.is_some() {
            return;
        }
        self.look_for_rest();
        self.network_absences();
        self.login_absences();
        self.machine_absences();
        self.job_absences();
        if self.fatal() {
            if self.told.is_none() {
                let verdict = self.weigh();
                self.told = Some(verdict.code);
                self.changes.push(Change::Verdict(Box::new(verdict)));
            }
        } else if self.told.take().is_some() {
            self.changes.push(Change::Withdrawn);
        }
    }

    /// The wait is over: by the user's own limit, or because nothing more is recorded.
    pub(super) fn over(&self) -> bool {
        let limit = self.context.as_ref().and_then(|context| context.limit);
        self.ended.is_some() || limit.is_some_and(|limit| self.now >= limit)
    }

    /// Remembers when the system, up and without anything to do, had nothing more to come: what is slow is not idle.
    fn look_for_rest(&mut self) {
        if self.boot.rested.is_none() && !self.waits_for_a_job() {
            let up = match self.boot.login {
                Some(login) => Some(login + REST),
                None if !self.boot.printed => self.kernel_since().map(|begun| begun + 6 * REST),
                None if self.boot.phase >= Phase::Userspace => {
                    Some(self.moves.line + Duration::from_secs(self.quiet()))
                }
                None => None,
            };
            self.boot.rested = up
                .filter(|up| *up <= self.now && self.has_rested(REST))
                .map(|_| self.now);
        }
    }

    /// Whether it has had nothing to do for so long.
    fn has_rested(&self, least: Duration) -> bool {
        let since = self.rest.since(self.now);
        since.is_some_and(|since| self.now.saturating_sub(since) >= least)
    }

    /// Whether it has had nothing to do, and nothing to say, for a while.
    pub(super) fn waits_idly(&self) -> bool {
        self.has_rested(REST) && self.now.saturating_sub(self.moves.line) >= REST
    }

    /// systemd says after some seconds what it waits for, and again and again.
    fn waits_for_a_job(&self) -> bool {
        let job = self.boot.job.as_ref();
        job.is_some_and(|job| job.last + Duration::from_secs(10) > self.now)
    }

    /// Since when a kernel has been running.
    fn kernel_since(&self) -> Option<Duration> {
        let steps = self.timeline.steps(self.now);
        let kernel = steps
            .iter()
            .find(|step| step.boot == self.boot.number && step.phase >= Phase::Kernel);
        kernel.map(|step| step.from())
    }

    fn fatal(&self) -> bool {
        self.over() || self.suspects.keys().any(|cause| self.ends_the_wait(*cause))
    }

    /// Whether a suspicion has lasted long enough to end the wait.
    pub(super) fn ends_the_wait(&self, cause: Cause) -> bool {
        let due = self
            .suspects
            .get(&cause)
            .and_then(|suspect| suspect.ends)
            .is_some_and(|ends| self.now >= ends);
        due && !self.another_disk_may_boot(cause)
    }

    /// A network boot that is only the firmware's last resort ends nothing by itself: the firmware will say so.
    fn another_disk_may_boot(&self, cause: Cause) -> bool {
        let meant = self.context.as_ref().is_some_and(|context| context.network_boot);
        cause.phase() == Phase::Netboot
            && !meant
            && self.now.saturating_sub(self.boot.began) < self.scaled(120)
    }

    /// Since when the system has been up, with its first-boot configuration done: from then on, what is missing is missing.
    pub(super) fn settled(&self) -> Option<Duration> {
        let seeded = self.seeded();
        if let Some(done) = self.boot.cloud_done {
            return Some(self.boot.login.map_or(done, |login| login.max(done)));
        }
        if let Some(login) = self.boot.login {
            return match self.boot.cloud_init {
                Some(begun) => self.past_point(begun, 600),
                None if seeded => self.boot.rested.or_else(|| self.past_point(login, 30)),
                None => Some(login),
            };
        }
        if self.over() && self.boot.phase >= Phase::Kernel {
            return Some(self.now);
        }
        if self.boot.printed {
            // A system without a login prompt on its console has come as far as it will when it prints no more.
            let up = self.boot.phase >= Phase::Initramfs && !self.waits_for_a_job();
            return self
                .boot
                .rested
                .or_else(|| self.past_point(self.moves.line, self.quiet()))
                .filter(|_| up);
        }
        // A silent system: long after its kernel came up, with nothing to do.
        if self.boot.rested.is_some() {
            return self.boot.rested;
        }
        let begun = self.kernel_since()?;
        let idle = self.moves.counters.is_none() || self.moves.load < 0.15;
        self.past_point(begun, 120).filter(|_| idle)
    }

    /// After so many seconds without a line, a system that shows no login prompt has said what it had to say.
    fn quiet(&self) -> u64 {
        if self.boot.welcomes > 0 { 150 } else { 45 }
    }

    /// Whether it was given a seed for cloud-init.
    fn seeded(&self) -> bool {
        self.context
            .as_ref()
            .is_some_and(|context| context.first_boot == FirstBoot::CloudInit)
    }

    fn past_point(&self, from: Duration, seconds: u64) -> Option<Duration> {
        let point = from + self.scaled(seconds);
        (self.now >= point).then_some(point)
    }

    fn hold(&mut self, cause: Cause, held: Option<Held>) {
        match held {
            Some(held) => {
                let phase = self.boot.phase;
                let at = self.suspects.get(&cause).map_or(held.since, |before| before.at);
                self.suspects.insert(
                    cause,
                    Suspect {
                        detail: held.detail,
                        at,
                        phase,
                        ends: held.ends,
                        evidence: held.evidence,
                    },
                );
            }
            None => {
                self.suspects.remove(&cause);
            }
        }
    }

    fn grace(&self, cause: Cause) -> Option<Duration> {
        match cause.ends() {
            Ends::After(seconds) => Some(Duration::from_secs(seconds)),
            Ends::Scaled(seconds) => Some(self.scaled(seconds)),
            Ends::Never => None,
        }
    }

    /// Held since a time, and ending the wait after the cause's grace, counted from when the system had settled.
    ///
    /// A node that has nothing to do is not slow: then the grace is not stretched.
    fn since(&self, cause: Cause, since: Duration, detail: impl Into<String>, evidence: Vec<String>) -> Held {
        let ends = match (self.settled(), self.grace(cause)) {
            (Some(settled), Some(grace)) => {
                let from = since.max(settled);
                let short = match cause.ends() {
                    Ends::Scaled(seconds) => Duration::from_secs(seconds),
                    _ => grace,
                };
                let idle = self.boot.rested.is_some() && from + short <= self.now && self.has_rested(short);
                let before = self.suspects.get(&cause).and_then(|known| known.ends);
                // Once certain, certain for as long as it holds.
                let certain = before.filter(|ends| *ends <= self.now);
                certain.or(if idle { Some(self.now) } else { Some(from + grace) })
            }
            _ => None,
        };
        Held {
            since,
            ends,
            detail: detail.into(),
            evidence,
        }
    }

    fn network_absences(&mut self) {
        let up = self.boot.phase >= Phase::Kernel && !self.ssh.banner;
        let reached = self.net.answered_at.is_some();

        let elsewhere = self
            .net
            .elsewhere
            .clone()
            .filter(|_| up && !reached)
            .map(|(since, address, how)| {
                let expected = self
                    .expected()
                    .map(|address| address.to_string())
                    .unwrap_or_default();
                self.since(
                    Cause::AddressElsewhere,
                    since,
                    format!("{address} instead of {expected}"),
                    vec![how],
                )
            });
        let is_elsewhere = elsewhere.is_some();
        self.hold(Cause::AddressElsewhere, elsewhere);

        let clash = self.net.clash.clone().filter(|_| up).map(|(since, how)| {
            let mut held = self.since(Cause::AddressConflict, since, how.clone(), vec![how]);
            held.ends = self.grace(Cause::AddressConflict).map(|grace| since + grace);
            held
        });
        self.hold(Cause::AddressConflict, clash);

        let unanswered = self.net.asked.filter(|(first, last, count)| {
            *count >= 3 && last.saturating_sub(*first) >= Duration::from_secs(5) && self.net.offers == 0
        });
        let no_answer =
            unanswered
                .filter(|_| up && self.net.expected_at.is_none())
                .map(|(first, last, count)| {
                    let mut evidence = vec![format!(
                        "{count} DHCP requests in {} s, no answer",
                        last.saturating_sub(first).as_secs()
                    )];
                    evidence.extend(self.net.no_lease.iter().map(|(_, line)| line.clone()));
                    let mut held = self.since(Cause::DhcpNoAnswer, first, String::new(), evidence);
                    // Seen on the wire: the system need not be up for that.
                    held.ends = self.grace(Cause::DhcpNoAnswer).map(|grace| first + grace);
                    held
                });
        let told = self
            .net
            .no_lease
            .clone()
            .filter(|_| up && self.net.expected_at.is_none() && !is_elsewhere);
        let no_answer = no_answer.or_else(|| {
            told.map(|(since, line)| self.since(Cause::DhcpNoAnswer, since, String::new(), vec![line]))
        });
        let asked_in_vain = no_answer.is_some();
        self.hold(Cause::DhcpNoAnswer, no_answer);

        let refused = (up && self.net.naks >= 2 && self.net.asked.is_some()).then(|| {
            let since = self.net.asked.map_or(self.now, |(first, ..)| first);
            let mut held = self.since(
                Cause::DhcpRefused,
                since,
                String::new(),
                vec![format!("{} DHCPNAK", self.net.naks)],
            );
            held.ends = self.grace(Cause::DhcpRefused).map(|grace| since + grace);
            held
        });
        self.hold(Cause::DhcpRefused, refused);

        let nics: Vec<bool> = self
            .devices
            .iter()
            .filter(|device| device.device == VirtioKind::Net)
            .map(|device| device.driver_ok && device.guest_features > 0)
            .collect();
        let undriven = up && !nics.is_empty() && nics.iter().all(|driven| !driven);
        let settled = self.settled();
        let undriven = settled.filter(|_| undriven && !reached).map(|since| {
            self.since(
                Cause::NicNotDriven,
                since,
                String::new(),
                vec!["virtio: no driver has set up the NIC".to_owned()],
            )
        });
        let is_undriven = undriven.is_some();
        self.hold(Cause::NicNotDriven, undriven);

        let watched = self.context.as_ref().is_some_and(|context| context.dhcp_watched);
        let mute = self.net.requests == 0 && (watched || self.net.sent == Some(0));
        let known = self.net.expected_at.is_some() || reached || is_elsewhere || is_undriven || asked_in_vain;
        let no_request = settled.filter(|_| up && mute && !known).map(|since| {
            let mut evidence = vec!["no DHCP request was seen from it".to_owned()];
            if self.net.sent == Some(0) {
                evidence.push("it has sent no packet at all".to_owned());
            }
            self.since(Cause::NoDhcpRequest, since, String::new(), evidence)
        });
        let never_asked = no_request.is_some();
        self.hold(Cause::NoDhcpRequest, no_request);

        let unanswering = match self.ssh.last {
            Some((Contact::Unreachable, since, count)) if count >= 3 && self.net.expected_at.is_some() => {
                Some(since)
            }
            Some((Contact::TimedOut, since, count)) if count >= 2 && !reached && !known => Some(since),
            _ => None,
        };
        // What once answered may have fallen silent since.
        let silent = |since: &Duration| self.net.answered_at.is_none_or(|answered| answered < *since);
        let unreachable = unanswering
            .filter(|since| up && !never_asked && !is_elsewhere && silent(since))
            .map(|since| {
                self.since(
                    Cause::AddressUnreachable,
                    since,
                    String::new(),
                    vec!["nothing answers at its address".to_owned()],
                )
            });
        self.hold(Cause::AddressUnreachable, unreachable);
    }

    fn login_absences(&mut self) {
        let last = self.ssh.last;
        let told = |text: &str| {
            if text.is_empty() {
                Vec::new()
            } else {
                vec![text.to_owned()]
            }
        };
        let is = |contact: Contact, least: u32| {
            last.filter(|(kind, _, count)| *kind == contact && *count >= least)
                .map(|(_, since, _)| since)
        };
        let settled = self.settled();

        let refused = is(Contact::Refused, 2)
            .filter(|_| settled.is_some())
            .map(|since| {
                let unit = self.boot.failures.iter().find(|failure| {
                    failure.what.contains("ssh")
                        || failure.what.contains("Secure Shell")
                        || failure.what.contains("SSH")
                });
                let mut evidence = vec!["the node refuses connections to its SSH port".to_owned()];
                let detail = unit.map(|unit| unit.what.clone()).unwrap_or_default();
                evidence.extend(unit.map(|unit| unit.line.clone()));
                let told = unit.is_some() || self.suspects.contains_key(&Cause::SshdNoHostKeys);
                let mut held = self.since(Cause::SshdNotRunning, since, detail, evidence);
                if let Some(settled) = settled.filter(|_| told) {
                    held.ends = Some(since.max(settled) + self.scaled(10));
                } else if self.waits_for_a_job() {
                    // The server may be what is started next.
                    held.ends = None;
                } else if let (Some(ends), Some(login)) = (held.ends, self.boot.login) {
                    // Somebody may log in at the console long before a slow unit lets the server start.
                    held.ends = Some(ends.max(login + SLOW_UNIT));
                }
                held
            });
        self.hold(Cause::SshdNotRunning, refused);

        let filtered = is(Contact::TimedOut, 3)
            .filter(|_| self.net.answered_at.is_some() && settled.is_some())
            .map(|since| {
                self.since(
                    Cause::SshFiltered,
                    since,
                    String::new(),
                    vec!["its address answers, its SSH port does not".to_owned()],
                )
            });
        self.hold(Cause::SshFiltered, filtered);

        // Each try waits 20 s for a banner.
        for (contact, least, cause) in [
            (Contact::NoBanner, 2, Cause::SshdSilent),
            (Contact::Closed, 3, Cause::SshClosed),
            (Contact::NotAllowed, 3, Cause::LoginNotAllowed),
        ] {
            let held = is(contact, least).map(|since| {
                let mut held = self.since(cause, since, self.ssh.text.clone(), told(&self.ssh.text));
                if self.waits_for_a_job() {
                    held.ends = None;
                } else if held.ends.is_none() {
                    held.ends = self.grace(cause).map(|grace| since + grace * 3);
                }
                held
            });
            self.hold(cause, held);
        }

        for (contact, cause) in [
            (Contact::Denied, Cause::SshKeyRefused),
            (Contact::HostKey, Cause::SshHostKeyDiffers),
        ] {
            let count = last.map_or(0, |(.., count)| count);
            let held = is(contact, 1).map(|since| self.refused_key(cause, since, count));
            self.hold(cause, held);
        }

        self.seed_absences();
        let seeded = self.seeded();
        let disabled = self.suspects.contains_key(&Cause::CloudInitAbsent);
        let absent =
            seeded && self.boot.cloud_init.is_none() && self.boot.cloud_done.is_none() && self.boot.printed;
        if let Some(login) = self.boot.login.filter(|_| absent && !disabled) {
            if let Some(since) = self.past_point(login, 20) {
                let evidence = vec!["a login prompt, and not a line of cloud-init".to_owned()];
                self.hold(
                    Cause::CloudInitAbsent,
                    Some(Held {
                        since,
                        ends: None,
                        detail: String::new(),
                        evidence,
                    }),
                );
            }
        }
    }

    /// A node that answers itself, and with another host key than its seed gives it, has not had that seed.
    fn seed_absences(&mut self) {
        let cause = match self.context.as_ref().map(|context| context.first_boot) {
            Some(FirstBoot::CloudInit) if self.boot.cloud_init.is_some() => Cause::SeedNotFound,
            Some(FirstBoot::Ignition) => Cause::IgnitionNoConfig,
            _ => return,
        };
        let differs = self.suspects.get(&Cause::SshHostKeyDiffers).map(|known| known.at);
        let told = self
            .suspects
            .get(&cause)
            .is_some_and(|known| known.evidence.first().is_none_or(|line| line != OTHER_KEY));
        if told {
            return;
        }
        let itself = self.net.answers_itself && self.net.clash.is_none();
        let held = differs.filter(|_| itself).map(|since| Held {
            since,
            ends: None,
            detail: String::new(),
            evidence: vec![OTHER_KEY.to_owned()],
        });
        self.hold(cause, held);
    }

    /// A key may come late: cloud-init writes it, and a server may be up before that.
    fn refused_key(&self, cause: Cause, since: Duration, count: u32) -> Held {
        let lasted = self.now.saturating_sub(since);
        let idle = self.boot.rested.is_some() && self.has_rested(REST);
        let certain = match (self.boot.cloud_done, self.settled()) {
            (Some(_), _) => self.ssh.denied_after >= 2,
            (None, Some(_)) if idle => count >= 3 && lasted >= Duration::from_secs(10),
            (None, Some(_)) => count >= 3 && lasted >= self.scaled(10),
            (None, None) if self.seeded() || self.boot.cloud_init.is_some() => {
                count >= 4 && lasted >= self.scaled(60)
            }
            (None, None) => count >= 3 && lasted >= self.scaled(20),
        };
        // Once certain, certain until something else is answered.
        let before = self.suspects.get(&cause).and_then(|known| known.ends);
        let user = self
            .context
            .as_ref()
            .map(|context| context.ssh_user.clone())
            .unwrap_or_default();
        let named = cause == Cause::SshKeyRefused && !user.is_empty();
        Held {
            since,
            ends: before.or(certain.then_some(self.now)),
            detail: if named {
                format!("user {user}")
            } else {
                String::new()
            },
            evidence: if self.ssh.text.is_empty() {
                Vec::new()
            } else {
                vec![self.ssh.text.clone()]
            },
        }
    }

    fn machine_absences(&mut self) {
        let began = self.boot.began;
        let counters = self.moves.counters;

        let idle = counters.filter(|counters| {
            counters.cpu_time_seconds < 0.05 && self.boot.phase == Phase::Firmware && !self.off
        });
        let never_ran = idle.map(|counters| Held {
            since: began,
            ends: self.grace(Cause::NeverRan).map(|grace| began + grace),
            detail: String::new(),
            evidence: vec![format!(
                "{:.2} s of CPU time in {} s",
                counters.cpu_time_seconds,
                self.now.as_secs()
            )],
        });
        self.hold(
            Cause::NeverRan,
            never_ran.filter(|held| self.now.saturating_sub(held.since) > Duration::from_secs(20)),
        );

        let early =
            !self.boot.loader && !self.boot.kernel && self.boot.phase <= Phase::Bootloader && !self.off;
        let real = matches!(self.registers, Some((CpuMode::Real | CpuMode::Protected, ..)));
        let started = self.boot.phase == Phase::Bootloader || (real && !self.boot.firmware);
        let little = counters.filter(|counters| {
            counters.disk_read_requests > 0
                && counters.disk_read_bytes > 0
                && counters.disk_read_bytes < NO_KERNEL
        });
        let stuck = little.filter(|_| early && started).map(|counters| {
            let since = self.moves.reads_since.max(began);
            // A sector that holds a loader reads the rest of it at once, or prints what it waits for. One that only
            // computes, for seconds of CPU time however long they take, does neither.
            let mute = self
                .recent
                .back()
                .is_none_or(|text| text.starts_with("Booting from "));
            let computed = counters.cpu_time_seconds - self.moves.cpu_at_read;
            let certain = mute && real && counters.disk_read_bytes <= ONE_SECTOR && computed >= COMPUTED;
            let grace = match certain {
                true => Some(Duration::from_secs(10)),
                false => self.grace(Cause::BootSectorStuck),
            };
            let mut evidence = vec![format!(
                "{} bytes read from its disks, and no more",
                counters.disk_read_bytes
            )];
            if let Some((mode, halted, _)) = self.registers {
                evidence.push(format!(
                    "CPU in {mode:?} mode{}",
                    if halted { ", halted" } else { "" }
                ));
            }
            Held {
                since,
                ends: grace.map(|grace| since + grace),
                detail: String::new(),
                evidence,
            }
        });
        self.hold(Cause::BootSectorStuck, stuck);

        let patience = match self.boot.phase.patience() {
            u64::MAX => None,
            seconds => Some(self.scaled(seconds)),
        };
        let stage = self.boot.phase <= Phase::FirstBoot && !self.off && self.paused_since.is_none();
        let hung = patience.filter(|_| stage).and_then(|patience| {
            // A CPU that is busy and does nothing else may be working, but not for ever.
            let busy = self.moves.cpu.min(self.moves.last + patience * 2);
            let counting =
                self.boot.job.as_ref().filter(|job| {
                    job.limited && job.last.saturating_sub(job.since) < Duration::from_secs(1200)
                });
            let counted = counting.map_or(Duration::ZERO, |job| job.last);
            let since = self.moves.last.max(busy).max(counted).max(began);
            let quiet = self.now.saturating_sub(since);
            (quiet >= patience / 2).then(|| Held {
                since,
                ends: Some(since + patience),
                detail: format!("nothing for {} s", quiet.as_secs()),
                evidence: Vec::new(),
            })
        });
        self.hold(Cause::Hung, hung);

        let silent = !self.boot.printed && self.boot.phase >= Phase::Kernel;
        let silent = silent.then(|| Held {
            since: self.moves.last,
            ends: None,
            detail: String::new(),
            evidence: Vec::new(),
        });
        self.hold(Cause::SilentButRunning, silent);
    }

    /// Where systemd is kept from saying what it waits for: what it began long ago, when the system has nothing to do and is not up.
    fn still_starting(&self) -> Option<Held> {
        let quiet = self.now.saturating_sub(self.moves.line);
        let waits =
            self.boot.login.is_none() && self.boot.welcomes > 0 && quiet >= WAITED && self.has_rested(WAITED);
        let begun = self.boot.pending.since(self.moves.line.saturating_sub(WAITED));
        let mut begun = begun.filter(|_| waits).peekable();
        let (since, what) = *begun.peek()?;
        let evidence = begun.take(LISTED).map(|(since, what)| {
            let took = self.now.saturating_sub(since).as_secs();
            format!("{what}: begun {took} s ago, and not ended")
        });
        Some(Held {
            since,
            ends: None,
            detail: what.to_owned(),
            evidence: evidence.collect(),
        })
    }

    fn job_absences(&mut self) {
        let job = self.boot.job.clone().filter(|job| {
            self.boot.login.is_none()
                && (self.ended.is_some() || job.last.saturating_sub(job.since) >= Duration::from_secs(20))
        });
        let network = job.as_ref().is_some_and(|job| {
            let what = job.what.to_ascii_lowercase();
            // Not whatever has to do with networks: what waits for one to come up.
            ["online", "network to be", "networking", "raise network", "dhcp"]
                .iter()
                .any(|word| what.contains(word))
        });
        let held = job.map(|job| Held {
            since: job.since,
            ends: None,
            detail: job.what.clone(),
            evidence: vec![format!(
                "waits for {} since {} s{}",
                job.what,
                self.now.saturating_sub(job.since).as_secs(),
                if job.limited { "" } else { ", without a limit" }
            )],
        });
        let held = held.or_else(|| self.still_starting());
        let (waits, other) = if network {
            (Cause::NetworkWaits, Cause::JobWaiting)
        } else {
            (Cause::JobWaiting, Cause::NetworkWaits)
        };
        self.hold(waits, held);
        self.hold(other, None);
    }
}
