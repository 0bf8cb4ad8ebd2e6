//! What the console and the screen tell.

use std::time::Duration;

use super::pending::Pending;
use super::{Boot, Dying, Failure, Job, Judge, Kind, RECENT};
use crate::boot::cause::{Cause, Weight};
use crate::boot::line::{Line, second_message};
use crate::boot::marks::{self, Hint, Place, Sign};
use crate::boot::phase::Phase;

/// Failures of units that are kept; the first are the telling ones.
const FAILURES: usize = 24;

/// Characters of a line that are kept to be shown.
const SHOWN: usize = 240;

/// Lines of a screen that are read: what VGA's 32 KiB hold.
const SCREEN: usize = 204;

/// Lines of a guest's journal that are read: more were not asked for.
const JOURNAL_LINES: usize = 200;

/// SeaBIOS breaks lines here, in the middle of a word.
const WRAP: usize = 80;

impl Judge {
    pub(super) fn read_console(&mut self, bytes: &[u8]) {
        let mut reader = std::mem::take(&mut self.reader);
        reader.feed(bytes, |line| self.read_line(line));
        self.reader = reader;
    }

    /// The line that has not ended: read when nothing follows it for a while.
    pub(super) fn read_prompt(&mut self) {
        let partial = self.reader.partial();
        if partial.trim().is_empty() || partial == self.prompt || !marks::worth_reading(&partial) {
            return;
        }
        self.prompt.clone_from(&partial);
        self.remember(&partial);
        self.read_parts(&partial, true);
    }

    /// The VGA screen: only what is new on it, and only where the system itself prints nothing on the serial line.
    pub(super) fn read_screen(&mut self, lines: Vec<String>) {
        let lines = unwrapped(lines);
        if !self.boot.printed {
            let fresh: Vec<String> = lines
                .iter()
                .filter(|line| !line.trim().is_empty() && !self.screen.contains(line))
                .take(SCREEN)
                .map(|line| line.chars().filter(|c| !c.is_control()).collect())
                .collect();
            for line in fresh {
                if !self.recent.iter().any(|seen| *seen == line) {
                    self.remember(&line);
                }
                self.moves.last = self.now;
                if marks::worth_reading(&line) {
                    self.read_from_screen(&line);
                }
            }
        }
        self.screen = lines;
    }

    /// The guest's own log, of a guest that can be logged in to: it complains there of what its console may not show.
    pub(super) fn read_journal(&mut self, text: &str) {
        for text in text.lines().take(JOURNAL_LINES) {
            let line = Line::of(text);
            let text: String = text.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
            match marks::read(&line, self.place()) {
                Some(Sign::Failed {
                    dependency: false,
                    what,
                }) => self.suspect(Cause::UnitFailed, what, vec![text]),
                Some(Sign::Cause(cause, detail)) if cause.weight() == Weight::Complaint => {
                    self.suspect(cause, detail, vec![text]);
                }
                _ => {}
            }
        }
    }

    fn read_from_screen(&mut self, text: &str) {
        let line = Line::of(text);
        let place = self.place();
        match marks::read(&line, place) {
            // A screen keeps what was printed long ago: these begin nothing anew.
            Some(Sign::Firmware | Sign::Loads) | None => {}
            Some(Sign::KernelStart) => self.enter(Phase::Kernel),
            Some(sign) => {
                self.sign(sign, &line);
                // It is the screen that tells, and goes on to.
                self.boot.printed = false;
            }
        }
    }

    fn place(&self) -> Place {
        let phase = self.boot.phase;
        Place {
            // What an initial RAM disk says is read for as long as only a guess has it left.
            phase: if self.boot.guessed {
                phase.min(Phase::Initramfs)
            } else {
                phase
            },
        }
    }

    fn read_line(&mut self, text: &str) {
        if text.trim().is_empty() {
            return;
        }
        self.moves.line = self.now;
        let repeated = self.recent.back().is_some_and(|last| last == text);
        if !repeated {
            self.remember(text);
        }
        let early = self.boot.phase <= Phase::Bootloader;
        if !early {
            self.boot.pending.read(text, self.now);
        }
        let worth = marks::worth_reading(text);
        // The kernel's and systemd's lines: the system itself speaks on this console.
        self.boot.printed |= !early && text.starts_with('[');
        if worth || self.boot.panic.is_some() {
            self.read_parts(text, false);
        } else {
            self.moves.last = self.now;
        }
        if early {
            self.read_wrapped(text, worth);
        }
    }

    /// Two lines that are one, broken where the screen ended.
    fn read_wrapped(&mut self, text: &str, worth: bool) {
        let before = std::mem::take(&mut self.boot.last_long);
        if !before.is_empty() && !worth {
            let joined = before + text;
            if marks::worth_reading(&joined) {
                self.read_words(&joined, false);
            }
        }
        if text.len() == WRAP && self.boot.phase <= Phase::Bootloader {
            text.clone_into(&mut self.boot.last_long);
        }
    }

    fn read_parts(&mut self, text: &str, prompt: bool) {
        match second_message(text).and_then(|at| text.split_at_checked(at)) {
            Some((first, second)) => {
                self.read_words(first, prompt);
                self.read_words(second, prompt);
            }
            None => self.read_words(text, prompt),
        }
    }

    fn read_words(&mut self, text: &str, prompt: bool) {
        let line = Line::of(text);
        self.boot.printed |= line.stamp.is_some();
        self.boot.stamped |= line.stamp.is_some();
        let sign = marks::read(&line, self.place());
        if !prompt {
            self.doubt_panic(&line, sign.as_ref());
        }
        let moved = !matches!(sign, Some(Sign::Job { .. }));
        if moved {
            self.moves.last = self.now;
        }
        match sign {
            None => {}
            Some(sign) => {
                let waits = matches!(sign, Sign::Login | Sign::Cause(..) | Sign::EmergencyPrompt);
                if !prompt || waits {
                    self.sign(sign, &line);
                }
            }
        }
    }

    /// After a panic nothing runs any more: a line that a program printed shows that it was a quotation.
    fn doubt_panic(&mut self, line: &Line<'_>, sign: Option<&Sign>) {
        let Some(dying) = &self.boot.panic else { return };
        let program = line.status.is_some() || line.tag.is_some_and(|tag| tag != "kernel");
        // A prompt's sign or an empty line may be the echo of what is typed.
        let says = line.body.contains(|c: char| c.is_alphanumeric());
        let bare = says && dying.ended && dying.stamped && line.stamp.is_none() && !self.boot.dying_is_over;
        let resets = matches!(sign, Some(Sign::Firmware | Sign::Loads | Sign::KernelStart));
        if (program || bare) && !resets {
            let since = dying.at;
            self.boot.panic = None;
            self.suspects
                .retain(|cause, suspect| cause.weight() != Weight::Fatal || suspect.at < since);
        }
    }

    pub(super) fn remember(&mut self, text: &str) {
        // The oldest line's memory is used again: this is done for every line.
        let mut kept = if self.recent.len() >= RECENT {
            self.recent.pop_front().unwrap_or_default()
        } else {
            String::new()
        };
        kept.clear();
        let end = match text.len() > SHOWN {
            true => text.char_indices().nth(SHOWN).map_or(text.len(), |(at, _)| at),
            false => text.len(),
        };
        kept.push_str(text.get(..end).unwrap_or_default().trim_end());
        self.recent.push_back(kept);
    }

    /// A kernel's clock does not go back: a message that is older than those before is quoted.
    fn out_of_time(&self, stamp: Option<f64>) -> bool {
        let Some(stamp) = stamp else { return false };
        let latest = self
            .recent
            .iter()
            .rev()
            .skip(1)
            .take_while(|text| !text.contains("Linux version "))
            .filter_map(|text| Line::of(text).stamp)
            .max_by(f64::total_cmp);
        // While it boots, messages of several CPUs may come in another order; somebody who has logged in shows old ones.
        let slack = if self.boot.login.is_some() { 0.01 } else { 1.0 };
        latest.is_some_and(|latest| stamp + slack < latest)
    }

    fn sign(&mut self, sign: Sign, line: &Line<'_>) {
        // Only a running init system has such a word for a line; a quiet kernel may have said nothing before.
        if line.status.is_some() {
            self.enter(Phase::Initramfs);
        }
        match sign {
            Sign::Firmware => self.firmware_speaks(),
            Sign::Loads => {
                let over = self.reset_at.is_some() || self.boot.orderly || self.boot.panic.is_some();
                if self.boot.phase >= Phase::Kernel && over {
                    self.reboot();
                }
            }
            Sign::Reach(phase) => {
                if phase == Phase::Bootloader && !line.body.starts_with("Booting from ") {
                    self.loader_speaks();
                }
                self.boot.init_of_initrd |= phase == Phase::Initramfs;
                self.enter(phase);
            }
            Sign::Initrd => {
                self.boot.printed = true;
                self.boot.initrd = true;
                self.boot.systemd_initrd |= line.tag.is_some();
                self.be_in_initrd();
            }
            Sign::RealRoot => {
                self.boot.printed = true;
                self.leave_initrd();
            }
            Sign::KernelStart => self.kernel_starts(),
            Sign::Welcome { initrd } => {
                self.boot.printed = true;
                self.boot.welcomes += 1;
                let systemd = self.boot.systemd_initrd || (self.boot.init_of_initrd && !self.boot.initrd);
                if initrd || (systemd && self.boot.welcomes == 1) {
                    self.enter(Phase::Initramfs);
                } else {
                    self.leave_initrd();
                }
            }
            Sign::Cause(cause, detail) => self.cause_is_told(cause, detail, line),
            Sign::Hint(hint, detail) => self.hint(hint, detail, line),
            Sign::Panic(reason) => self.panic(&reason, line, false),
            Sign::PanicEnd(reason) => self.panic(&reason, line, true),
            Sign::RebootSoon => {
                // Nothing but a panic says so: what it said before stands above where the console begins.
                if self.boot.panic.is_none() && line.stamp.is_some() {
                    self.panic("", line, true);
                }
                if self.boot.panic.is_some() {
                    self.boot.dying_is_over = true;
                    // A panic that need not come again: the next boot will show.
                    let again = self.past.panics > 0;
                    for cause in [Cause::KernelPanic, Cause::InitDied] {
                        if let Some(suspect) = self.suspects.get_mut(&cause) {
                            if !again {
                                suspect.ends = None;
                            }
                        }
                    }
                }
            }
            Sign::RebootNow | Sign::Shutdown => self.boot.orderly = true,
            Sign::PowerDown => {
                self.boot.orderly = true;
                self.suspect(Cause::PoweredOff, String::new(), vec![line.text.to_owned()]);
                if let Some(suspect) = self.suspects.get_mut(&Cause::PoweredOff) {
                    suspect.ends = Some(self.now + Duration::from_secs(5));
                }
            }
            Sign::Emergency => {
                self.boot.emergency = true;
                self.suspect_emergency(line, 3);
            }
            Sign::EmergencyPrompt => {
                let structured =
                    self.boot.emergency || !self.boot.failures.is_empty() || !self.boot.hints.is_empty();
                self.suspect_emergency(line, if structured { 3 } else { 15 });
            }
            Sign::BareShell => {
                // Many a small system has a shell for its console; one that missed its init has it instead.
                if self.boot.hints.contains_key(&Hint::NoInit) {
                    self.suspect_emergency(line, 3);
                }
            }
            Sign::Failed { dependency, what } => self.unit_failed(dependency, what, line),
            Sign::DeviceTimeout(device) => self.fail(Kind::Device, device, line),
            Sign::Job { what, limited } => self.wait_for(what, limited),
            Sign::CloudInit => {
                self.boot.printed = true;
                self.boot.cloud_init.get_or_insert(self.now);
                self.enter(Phase::FirstBoot);
            }
            Sign::CloudInitDone(source) => {
                if source.contains("DataSourceNone") {
                    self.suspect(Cause::SeedNotFound, source, vec![line.text.to_owned()]);
                }
                self.cloud_init_is_done();
            }
            Sign::Address { address, mac } => self.see_told_address(address, mac.as_deref(), line.text),
            Sign::Ignition { done } => {
                self.begin_phase(Phase::FirstBoot, self.now);
                if done {
                    self.finish_phase(Phase::FirstBoot);
                    self.suspects.remove(&Cause::IgnitionFetching);
                }
            }
            Sign::IgnitionFailed(what) => {
                self.enter(Phase::Initramfs);
                self.boot
                    .hints
                    .entry(Hint::Ignition)
                    .or_insert_with(|| (what.clone(), line.text.to_owned()));
                self.suspect(Cause::IgnitionFailed, what, vec![line.text.to_owned()]);
            }
            Sign::IgnitionAttempt(count, what) => {
                if count >= 5 {
                    self.suspect(Cause::IgnitionFetching, what, vec![line.text.to_owned()]);
                }
            }
            Sign::Fetched => self.suspects.retain(|cause, _| cause.phase() != Phase::Netboot),
            Sign::Login => self.login_is_shown(),
            Sign::NoLease(what) => {
                self.net.no_lease.get_or_insert((self.now, what));
            }
        }
    }

    fn firmware_speaks(&mut self) {
        let again = self.boot.firmware && self.now.saturating_sub(self.boot.began) > Duration::from_secs(2);
        if self.boot.phase > Phase::Firmware || again {
            self.reboot();
        }
        self.boot.firmware = true;
    }

    fn kernel_starts(&mut self) {
        if self.boot.kernel {
            // Its log may be shown later (`dmesg`): that is no new boot where a firmware would have spoken before it.
            let over = self.reset_at.is_some() || self.boot.orderly || self.boot.panic.is_some();
            if !over && self.boot.phase >= Phase::Userspace && self.boot.firmware {
                return;
            }
            self.reboot();
        }
        self.boot.kernel = true;
        self.boot.printed = true;
        self.enter(Phase::Kernel);
    }

    fn leave_initrd(&mut self) {
        if self.boot.phase < Phase::Userspace {
            // What the initial RAM disk complained about, it got over.
            self.boot.failures.clear();
            self.boot
                .hints
                .retain(|hint, _| matches!(hint, Hint::OldCpu | Hint::NoMemory));
            self.boot.emergency = false;
            self.boot.pending = Pending::default();
        }
        self.boot.in_initrd = false;
        self.boot.guessed = false;
        self.enter(Phase::Userspace);
    }

    fn login_is_shown(&mut self) {
        self.boot.printed = true;
        self.leave_initrd();
        if self.boot.login.is_none() {
            self.boot.login = Some(self.now);
            self.boot.job = None;
            // Whoever can log in is in no emergency.
            self.refute(Phase::SshLogin);
        }
        self.after_userspace();
    }

    /// Userspace is up: what is awaited now is the network.
    pub(super) fn after_userspace(&mut self) {
        if self.net.expected_at.is_some() {
            self.enter(Phase::SshPort);
        } else {
            self.enter(Phase::Address);
        }
    }

    pub(super) fn cloud_init_is_done(&mut self) {
        if self.boot.cloud_done.is_none() {
            self.boot.cloud_done = Some(self.now);
            self.moves.last = self.now;
            self.finish_phase(Phase::FirstBoot);
            if self.boot.phase == Phase::FirstBoot {
                self.after_userspace();
            }
        }
    }

    fn cause_is_told(&mut self, cause: Cause, detail: String, line: &Line<'_>) {
        // SeaBIOS ends with a floppy drive that nobody has; the last word on the disk was spoken before.
        let tried = self
            .recent
            .iter()
            .rev()
            .find(|text| text.starts_with("Booting from "));
        if cause == Cause::BootDiskUnreadable && tried.is_some_and(|text| !text.contains("Hard Disk")) {
            return;
        }
        match cause {
            // Only cloud-init itself may say so.
            Cause::UserDataInvalid | Cause::SeedNotFound | Cause::CloudInitFailed => {
                let told =
                    line.tag.is_some_and(|tag| tag.starts_with("cloud-init")) || line.body.contains(".py[");
                if !told {
                    return;
                }
            }
            Cause::OomKilled => {
                self.boot
                    .hints
                    .entry(Hint::NoMemory)
                    .or_insert_with(|| (line.body.to_owned(), line.text.to_owned()));
            }
            Cause::BootloaderWaits => self.loader_speaks(),
            Cause::InitramfsShell => self.be_in_initrd(),
            Cause::PassphraseWanted => self.enter(Phase::Initramfs),
            _ => {}
        }
        if matches!(cause.phase(), Phase::Netboot | Phase::Bootloader) {
            if cause.phase() == Phase::Bootloader {
                self.loader_speaks();
            }
            self.enter(cause.phase());
        }
        let detail = if detail.is_empty() && cause == Cause::BootloaderPrompt {
            line.body.chars().take(40).collect()
        } else {
            detail
        };
        self.suspect(cause, detail, vec![line.text.to_owned()]);
    }

    /// Something was booted: that another place had nothing to boot does not matter.
    fn loader_speaks(&mut self) {
        self.boot.loader = true;
        self.suspects.retain(|cause, _| cause.phase() != Phase::Netboot);
    }

    fn hint(&mut self, hint: Hint, detail: String, line: &Line<'_>) {
        if hint == Hint::Bootloader {
            self.loader_speaks();
            self.enter(Phase::Bootloader);
        }
        let detail = if detail.is_empty() {
            line.body.to_owned()
        } else {
            detail
        };
        let better = |old: &str| match hint {
            Hint::Disk => tells_of_disk(&detail) > tells_of_disk(old),
            // A named device tells more than the general complaint before it.
            _ => !old.contains('/') && !old.contains("UUID") && detail.contains('/'),
        };
        match self.boot.hints.get_mut(&hint) {
            Some((old, told)) if better(old) => {
                *old = detail;
                line.text.clone_into(told);
            }
            Some(_) => {}
            None => {
                self.boot.hints.insert(hint, (detail, line.text.to_owned()));
            }
        }
    }

    fn panic(&mut self, reason: &str, line: &Line<'_>, end: bool) {
        // Where somebody has logged in, what the kernel would have put its time before is shown by a program.
        let shown = self.boot.login.is_some() && self.boot.stamped;
        let bare = line.stamp.is_none() && line.tag.is_none();
        if self.out_of_time(line.stamp) || (shown && bare) {
            return;
        }
        let dying = self.boot.panic.get_or_insert(Dying {
            at: self.now,
            stamped: line.stamp.is_some(),
            ended: end,
        });
        dying.ended |= end;
        self.boot.printed = true;
        let has = |words: &[&str]| words.iter().any(|word| reason.contains(word));
        let hints = &self.boot.hints;
        let cause = if has(&["Unable to mount root fs"]) {
            // What could not be written had no room: it is unpacked into memory.
            if hints
                .get(&Hint::BadInitramfs)
                .is_some_and(|(told, _)| told.contains("write error"))
            {
                Cause::OutOfMemory
            } else if hints.contains_key(&Hint::BadInitramfs) {
                Cause::InitramfsBroken
            } else {
                Cause::RootNotFound
            }
        } else if has(&["No working init found", "Requested init", "No init found"]) {
            Cause::NoInit
        } else if has(&["deadlocked on memory", "ut of memory"]) {
            Cause::OutOfMemory
        } else if has(&["Attempted to kill init"]) {
            Cause::InitDied
        } else {
            Cause::KernelPanic
        };
        // Before the kernel has started a program, its init cannot have died.
        self.enter(Phase::Kernel);
        self.suspect(cause, reason.to_owned(), vec![line.text.to_owned()]);
    }

    fn suspect_emergency(&mut self, line: &Line<'_>, grace: u64) {
        if self.boot.login.is_some() {
            return;
        }
        self.enter(Phase::Initramfs);
        // A console that begins in the middle, or a quiet one, does not tell which of the two gave up.
        let seen = self.boot.kernel || self.boot.init_of_initrd || self.boot.initrd || self.boot.in_initrd;
        let cause = if self.boot.phase <= Phase::Initramfs && seen {
            Cause::InitramfsShell
        } else {
            Cause::EmergencyMode
        };
        self.suspect(cause, String::new(), vec![line.text.to_owned()]);
        let ends = self.now + Duration::from_secs(grace);
        if let Some(suspect) = self.suspects.get_mut(&cause) {
            suspect.ends = Some(suspect.ends.map_or(ends, |before| before.min(ends)));
        }
    }

    fn unit_failed(&mut self, dependency: bool, what: String, line: &Line<'_>) {
        if what.contains("gnition") && self.boot.phase <= Phase::Initramfs && !dependency {
            self.fail(Kind::Ignition, what, line);
            return;
        }
        // An initial RAM disk mounts the root file system and no others: this is the system's own init, though a quiet one
        // has not greeted, or the console was cut short before.
        if dependency && is_local_fs_of_the_system(&what) && !self.boot.initrd {
            self.enter(Phase::Userspace);
        }
        let kind = if dependency {
            Kind::Dependency
        } else if what.contains("File System Check") || what.contains("fsck") {
            Kind::Check
        } else if what.starts_with("Failed to mount ") || what.starts_with("Failed to activate swap") {
            Kind::Mount
        } else {
            Kind::Other
        };
        if kind == Kind::Other {
            self.suspect(Cause::UnitFailed, what.clone(), vec![line.text.to_owned()]);
        }
        self.fail(kind, what, line);
    }

    fn fail(&mut self, kind: Kind, what: String, line: &Line<'_>) {
        if self.boot.failures.len() < FAILURES {
            self.boot.failures.push(Failure {
                kind,
                what,
                line: line.text.chars().take(SHOWN).collect(),
            });
        }
    }

    fn wait_for(&mut self, what: String, limited: bool) {
        let now = self.now;
        // systemd shows its jobs by turns.
        match &mut self.boot.job {
            Some(job) if job.what == what => job.last = now,
            Some(job) if !job.limited && limited => {}
            _ => {
                self.boot.job = Some(Job {
                    what,
                    limited,
                    since: now,
                    last: now,
                });
                self.moves.last = now;
            }
        }
    }
}

impl Boot {
    /// Ignition's unit for which the initial RAM disk gave up. Its units mount as well, and fail where there is nothing sound to
    /// mount: that is no failure of Ignition's.
    pub(super) fn ignition_failure(&self) -> Option<&Failure> {
        let damaged = self.hints.contains_key(&Hint::Damaged);
        self.reason()
            .filter(|reason| reason.kind == Kind::Ignition && !damaged)
    }

    /// Which of the failures gave up the file systems without which it does not go on.
    pub(super) fn given_up_at(&self) -> Option<usize> {
        let mut failures = self.failures.iter();
        failures.position(|failure| failure.kind == Kind::Dependency && is_local_fs(&failure.what))
    }

    /// The failure for which an init system gave up: the last one of a disk before the local file systems were given up,
    /// or else the first of all.
    pub(super) fn reason(&self) -> Option<&Failure> {
        let given_up = self.given_up_at().unwrap_or(self.failures.len());
        let disk = |failure: &&Failure| matches!(failure.kind, Kind::Device | Kind::Mount | Kind::Check);
        let before = self.failures.iter().take(given_up).rev().find(disk);
        before
            .or_else(|| self.failures.iter().find(disk))
            .or_else(|| {
                self.failures
                    .iter()
                    .find(|failure| failure.kind == Kind::Ignition)
            })
            .or_else(|| {
                self.failures
                    .iter()
                    .find(|failure| failure.kind != Kind::Dependency)
            })
            .or_else(|| self.failures.first())
    }
}

/// The lines of a screen as they were printed: what is as long as the screen is wide goes on in the next line.
fn unwrapped(lines: Vec<String>) -> Vec<String> {
    let mut whole: Vec<String> = Vec::new();
    let mut full = false;
    for line in lines.into_iter().take(SCREEN) {
        let is_full = line.chars().count() == WRAP;
        match whole.last_mut().filter(|_| full && !line.starts_with('[')) {
            Some(begun) => begun.push_str(&line),
            None => whole.push(line),
        }
        full = is_full;
    }
    whole
}

/// How much a firmware's complaint of a boot option says: that something was there and was refused, more than that nothing
/// was there; of a disk, more than of a drive without a medium, or of the shell that is tried last.
fn tells_of_disk(detail: &str) -> u8 {
    let other = ["DVD", "CD-ROM", "CDROM", "Floppy", "EFI Internal Shell"];
    match (other.iter().any(|name| detail.contains(name)), is_refused(detail)) {
        (true, _) => 0,
        (false, false) => 1,
        (false, true) => 2,
    }
}

/// Whether a firmware's complaint is that of Secure Boot.
pub(super) fn is_refused(detail: &str) -> bool {
    (detail.contains("Access Denied") || detail.contains("Security Violation"))
        && !detail.contains("EFI Internal Shell")
}

fn is_local_fs(what: &str) -> bool {
    let initrd = [
        "Initrd Root",
        "initrd-root",
        "Initrd File Systems",
        "initrd-fs.target",
    ];
    is_local_fs_of_the_system(what) || initrd.iter().any(|name| what.contains(name))
}

fn is_local_fs_of_the_system(what: &str) -> bool {
    what.contains("Local File Systems") || what.contains("local-fs.target")
}
