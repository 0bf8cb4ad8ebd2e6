//! The judge: a pure state machine from evidence to phases and verdicts.
//!
//! It has no clock and does no I/O: time comes with the evidence ([`Judge::see`]), and where nothing comes, by
//! [`Judge::at`]. So it judges a recording exactly as it judged live.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use super::cause::Cause;
use super::console::Reader;
use super::evidence::{Accelerator, Context, Counters, CpuMode, Evidence, Outcome, Seen, VirtioDevice};
use super::marks::Hint;
use super::phase::Phase;
use super::timeline::{Step, Timeline};
use super::verdict::{Change, Verdict};

mod absence;
mod host;
mod network;
mod pending;
mod text;
mod weigh;

/// Lines of the console that are kept to be shown.
const RECENT: usize = 40;

/// Judges one node.
#[derive(Debug, Default)]
pub struct Judge {
    context: Option<Box<Context>>,
    now: Duration,
    reader: Reader,
    /// The line without an end that was read last, so that a prompt is read once.
    prompt: String,
    recent: VecDeque<String>,
    screen: Vec<String>,
    timeline: Timeline,
    boot: Boot,
    past: Past,
    suspects: BTreeMap<Cause, Suspect>,
    moves: Moves,
    net: Net,
    ssh: SshFacts,
    devices: Vec<VirtioDevice>,
    registers: Option<(CpuMode, bool, Duration)>,
    rest: Rest,
    qemu_log: VecDeque<String>,
    paused_since: Option<Duration>,
    reset_at: Option<Duration>,
    off: bool,
    agent_connected: bool,
    ready_at: Option<Duration>,
    ended: Option<Outcome>,
    told: Option<Cause>,
    changes: Vec<Change>,
}

/// A cause that something speaks for.
#[derive(Clone, Debug)]
struct Suspect {
    detail: String,
    at: Duration,
    phase: Phase,
    /// From when on it ends the wait, unless refuted.
    ends: Option<Duration>,
    evidence: Vec<String>,
}

/// What is known of the boot under way.
#[derive(Debug)]
struct Boot {
    number: u32,
    phase: Phase,
    /// Its console has printed anything.
    printed: bool,
    /// Its kernel puts its time before what it says.
    stamped: bool,
    /// A firmware has spoken.
    firmware: bool,
    /// A bootloader has spoken.
    loader: bool,
    /// The firmware tried the network before any disk: that is what was to be booted.
    network_first: bool,
    kernel: bool,
    /// Some program of an initial RAM disk that is not systemd's has spoken.
    initrd: bool,
    /// The kernel started `/init`.
    init_of_initrd: bool,
    /// An initial RAM disk with systemd in it has spoken.
    systemd_initrd: bool,
    /// An initial RAM disk has spoken, and the system itself not yet.
    in_initrd: bool,
    /// That it has left the initial RAM disk is only a guess from outside.
    guessed: bool,
    welcomes: u32,
    began: Duration,
    login: Option<Duration>,
    /// Up, and since then without anything to do, as its CPU showed.
    rested: Option<Duration>,
    cloud_init: Option<Duration>,
    cloud_done: Option<Duration>,
    panic: Option<Dying>,
    dying_is_over: bool,
    orderly: bool,
    job: Option<Job>,
    pending: pending::Pending,
    emergency: bool,
    /// What it is about, and the line that told it.
    hints: BTreeMap<Hint, (String, String)>,
    failures: Vec<Failure>,
    last_long: String,
}

impl Default for Boot {
    fn default() -> Self {
        Self {
            number: 1,
            phase: Phase::Firmware,
            printed: false,
            stamped: false,
            firmware: false,
            loader: false,
            network_first: false,
            kernel: false,
            initrd: false,
            init_of_initrd: false,
            systemd_initrd: false,
            in_initrd: false,
            guessed: false,
            welcomes: 0,
            began: Duration::ZERO,
            login: None,
            rested: None,
            cloud_init: None,
            cloud_done: None,
            panic: None,
            dying_is_over: false,
            orderly: false,
            job: None,
            pending: pending::Pending::default(),
            emergency: false,
            hints: BTreeMap::new(),
            failures: Vec::new(),
            last_long: String::new(),
        }
    }
}

/// A panic under way.
#[derive(Clone, Debug)]
struct Dying {
    at: Duration,
    stamped: bool,
    ended: bool,
}

/// Something that the init system waits for.
#[derive(Clone, Debug)]
struct Job {
    what: String,
    limited: bool,
    since: Duration,
    last: Duration,
}

/// Something that the init system could not start.
#[derive(Clone, Debug)]
struct Failure {
    kind: Kind,
    what: String,
    line: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Device,
    Mount,
    Check,
    Ignition,
    Dependency,
    Other,
}

/// What is known of earlier boots.
#[derive(Debug, Default)]
struct Past {
    /// Boots that ended without having shut down, one after the other.
    abrupt: u32,
    /// Boots that shut down, one after the other.
    orderly: u32,
    furthest: Phase,
    /// Boots that ended by a panic.
    panics: u32,
    /// The first failure of the boot before.
    first: Option<(Cause, Suspect)>,
}

/// When something last moved.
#[derive(Clone, Copy, Debug, Default)]
struct Moves {
    /// Lines of the console.
    line: Duration,
    /// Lines, disk requests, devices, phases.
    last: Duration,
    /// CPU time.
    cpu: Duration,
    counters: Option<Counters>,
    /// CPU time per second, as last measured.
    load: f64,
    counted: Duration,
    reads_since: Duration,
    /// CPU time, in seconds, when it last read from a disk.
    cpu_at_read: f64,
}

/// Whether the first CPU has anything to do: it halts when it has not. Other than by its share of CPU time, one that is
/// kept waiting by a busy host is not taken for idle.
#[derive(Debug, Default)]
struct Rest {
    /// The last looks: when, and whether it had halted.
    looks: VecDeque<(Duration, bool)>,
    since: Option<Duration>,
}

/// What is known of the node's network.
#[derive(Debug, Default)]
struct Net {
    /// First and last DHCP request without an answer since the last answer, and how many.
    asked: Option<(Duration, Duration, u32)>,
    requests: u32,
    offers: u32,
    naks: u32,
    /// It was given an address of those expected, or answers to one.
    expected_at: Option<Duration>,
    answered_at: Option<Duration>,
    /// One of its own NICs answers at the expected address.
    answers_itself: bool,
    /// Another address than those expected, and how that is known.
    elsewhere: Option<(Duration, IpAddr, String)>,
    /// Another machine answers to the expected address.
    clash: Option<(Duration, String)>,
    sent: Option<u64>,
    no_lease: Option<(Duration, String)>,
}

/// What is known of attempts to log in.
#[derive(Debug, Default)]
struct SshFacts {
    /// The kind of the last outcome, since when it has been the same, and how often.
    last: Option<(Contact, Duration, u32)>,
    text: String,
    /// Connections that were closed at once since the last login was refused.
    shut_out: u32,
    /// Denials since cloud-init was done.
    denied_after: u32,
    banner: bool,
    logged_in: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contact {
    Unreachable,
    TimedOut,
    Refused,
    NoBanner,
    Closed,
    Denied,
    HostKey,
    NotAllowed,
    Failed,
}

impl Judge {
    /// A judge that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a piece of evidence. Times must not go back; one that does counts as now.
    pub fn see(&mut self, seen: Seen) -> Vec<Change> {
        if seen.at > self.now {
            // What stood at the end of the console until now was a prompt.
            self.read_prompt();
            self.now = seen.at;
        }
        if !self.timeline.entered(1, Phase::Firmware) {
            self.enter_now(Phase::Firmware);
        }
        self.take(seen.what);
        self.judge();
        std::mem::take(&mut self.changes)
    }

    /// Lets time pass: what has not come by now may be telling. To be called about once a second.
    pub fn at(&mut self, now: Duration) -> Vec<Change> {
        if now > self.now {
            self.read_prompt();
            self.now = now;
        }
        self.judge();
        std::mem::take(&mut self.changes)
    }

    /// Reads the last line as complete: nothing will come any more.
    pub fn finish(&mut self) -> Vec<Change> {
        self.read_prompt();
        self.judge();
        std::mem::take(&mut self.changes)
    }

    /// Why the node is not ready, as far as can be said now. None where it is ready.
    pub fn verdict(&self) -> Option<Verdict> {
        self.ready_at.is_none().then(|| self.weigh())
    }

    /// When it got ready, since power-on.
    pub fn ready(&self) -> Option<Duration> {
        self.ready_at
    }

    /// The phase that it has reached in this boot.
    pub fn phase(&self) -> Phase {
        self.boot.phase
    }

    /// Its boots so far.
    pub fn boots(&self) -> u32 {
        self.boot.number
    }

    /// The phases with their times.
    pub fn timeline(&self) -> Vec<Step> {
        self.timeline.steps(self.ready_at.unwrap_or(self.now))
    }

    /// The phase that took longest.
    pub fn slowest(&self) -> Option<Step> {
        self.timeline.slowest(self.ready_at.unwrap_or(self.now))
    }

    /// What the node is, where it was told.
    pub fn context(&self) -> Option<&Context> {
        self.context.as_deref()
    }

    /// The last lines that it printed.
    pub fn last_lines(&self) -> impl Iterator<Item = &str> {
        self.recent.iter().map(String::as_str)
    }

    /// The time of the last evidence, since power-on.
    pub fn now(&self) -> Duration {
        self.now
    }

    fn take(&mut self, what: Evidence) {
        match what {
            Evidence::Context(context) => self.context = Some(context),
            Evidence::Console { bytes } => self.read_console(&bytes),
            Evidence::Screen { lines } => self.read_screen(lines),
            Evidence::Life(life) => self.live(life),
            Evidence::Counters(counters) => self.count(counters),
            Evidence::Registers { mode, halted } => self.see_registers(mode, halted),
            Evidence::Virtio { devices } => self.see_devices(devices),
            Evidence::Dhcp {
                mac,
                message,
                address,
            } => self.see_dhcp(&mac, message, address),
            Evidence::Lease { mac, address } => self.see_address(&mac, address, "leased to it", false),
            Evidence::Neighbour { mac, address } => self.see_address(&mac, address, "it answers to it", true),
            Evidence::GuestAgent { connected } => {
                self.agent_connected = connected;
                if connected {
                    self.silently_reach(Phase::Userspace);
                }
            }
            Evidence::Ssh(ssh) => self.see_ssh(ssh),
            Evidence::ReadyCommand(command) => self.see_ready_command(&command),
            Evidence::CloudInit { status } => self.see_cloud_init(&status),
            Evidence::Journal { text } => self.read_journal(&text),
            Evidence::IgnitionJournal { text } => self.see_ignition_journal(&text),
            Evidence::QemuLog { text } => self.see_qemu_log(&text),
            Evidence::HostDiskFull { path } => self.suspect(Cause::HostDiskFull, path, Vec::new()),
            Evidence::End { outcome } => {
                self.read_prompt();
                self.ended = Some(outcome);
                if outcome == Outcome::Ready {
                    self.be_ready();
                }
            }
            Evidence::ConsoleCut { .. } | Evidence::Unknown => {}
        }
    }

    /// How much longer everything takes than on a machine with KVM.
    fn scale(&self) -> u32 {
        match self.context.as_ref().map(|context| context.accelerator) {
            Some(Accelerator::Kvm) => 1,
            Some(Accelerator::Tcg | Accelerator::Unknown) | None => 4,
        }
    }

    fn scaled(&self, seconds: u64) -> Duration {
        Duration::from_secs(seconds).saturating_mul(self.scale())
    }

    /// The node has come to a phase, if it has not been further. Refutes what would have kept it from there.
    fn enter(&mut self, phase: Phase) {
        if phase > self.boot.phase {
            self.enter_now(phase);
        }
    }

    fn enter_now(&mut self, phase: Phase) {
        let disk_tried = self.boot.phase >= Phase::Bootloader || self.boot.hints.contains_key(&Hint::Disk);
        self.boot.network_first |= phase == Phase::Netboot && !disk_tried;
        let (at, before) = (self.now, self.boot.phase);
        // What runs beside the others ends by itself.
        if before != phase && before != Phase::FirstBoot {
            self.finish_phase(before);
        }
        self.boot.phase = phase;
        self.moves.last = at;
        self.begin_phase(phase, at);
        self.refute(phase);
    }

    /// Writes down when a phase of this boot began, the first time.
    fn begin_phase(&mut self, phase: Phase, at: Duration) {
        let boot = self.boot.number;
        if !self.timeline.entered(boot, phase) {
            self.timeline.enter(boot, phase, at);
            self.changes.push(Change::PhaseEntered { boot, phase, at });
        }
    }

    fn finish_phase(&mut self, phase: Phase) {
        let boot = self.boot.number;
        if let Some(took) = self.timeline.done(boot, phase, self.now) {
            self.changes.push(Change::PhaseDone { boot, phase, took });
        }
    }

    /// The node has come to a phase, as seen from outside: counts where the console does not tell better.
    fn silently_reach(&mut self, phase: Phase) {
        // An initial RAM disk that speaks, if only on the screen, tells better: it may drive every device and ask for addresses, too. A
        // kernel that has panicked leaves its devices as they are.
        let told = (self.boot.in_initrd && phase > Phase::Initramfs) || self.boot.panic.is_some();
        if (!self.boot.printed && !told) || phase <= Phase::Kernel {
            self.boot.guessed |= self.boot.phase <= Phase::Initramfs && phase > Phase::Initramfs;
            self.enter(phase);
        }
    }

    /// An initial RAM disk speaks: a guess that it was left before is taken back.
    fn be_in_initrd(&mut self) {
        self.boot.in_initrd = true;
        if !self.boot.guessed || self.boot.phase > Phase::SshPort || self.boot.login.is_some() {
            return self.enter(Phase::Initramfs);
        }
        self.boot.guessed = false;
        let boot = self.boot.number;
        let at = self
            .timeline
            .take_back(boot, Phase::Userspace..=Phase::SshPort)
            .unwrap_or(self.now);
        self.boot.phase = Phase::Initramfs;
        for suspect in self.suspects.values_mut() {
            suspect.phase = suspect.phase.min(Phase::Initramfs);
        }
        if let Some(suspect) = self.suspects.remove(&Cause::EmergencyMode) {
            self.suspects.entry(Cause::InitramfsShell).or_insert(suspect);
        }
        self.begin_phase(Phase::Initramfs, at);
    }

    fn be_ready(&mut self) {
        if self.ready_at.is_none() {
            self.ready_at = Some(self.now);
            for phase in [self.boot.phase, Phase::FirstBoot] {
                self.finish_phase(phase);
            }
            self.boot.phase = Phase::Ready;
            self.changes.push(Change::Ready { at: self.now });
        }
    }

    /// A new boot has begun.
    fn reboot(&mut self) {
        let at = self.now;
        let last = self.boot.phase;
        for phase in [last, Phase::FirstBoot] {
            self.finish_phase(phase);
        }
        if self.boot.orderly {
            self.past.orderly += 1;
        } else {
            self.past.abrupt += 1;
        }
        if last > self.past.furthest.max(Phase::Firmware) && self.boot.number > 1 {
            // It gets further each time: no loop.
            self.past.abrupt = self.past.abrupt.min(1);
            self.past.orderly = self.past.orderly.min(1);
        }
        self.past.furthest = self.past.furthest.max(last);
        if self.boot.panic.is_some() {
            self.past.panics += 1;
        }
        let first = self.first_fatal();
        if first.is_some() {
            self.past.first = first;
        }
        self.suspects.clear();
        let number = self.boot.number.saturating_add(1);
        self.boot = Boot {
            number,
            began: at,
            ..Boot::default()
        };
        self.reset_at = None;
        self.moves.last = at;
        self.rest = Rest::default();
        self.net = Net {
            clash: self.net.clash.take(),
            ..Net::default()
        };
        self.ssh = SshFacts::default();
        self.changes.push(Change::Rebooted { boot: number, at });
        self.timeline.enter(number, Phase::Firmware, at);
        self.suspect_loop();
    }
}

#[cfg(test)]
mod tests;
