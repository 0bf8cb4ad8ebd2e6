//! The words by which the programs of a boot give themselves away, and where they must stand to count.
//!
//! A word alone proves nothing: a greeting may quote a panic, a unit may be called after one. So each mark says where in
//! the line it must begin, which programs may say it, and up to which phase it can be meant; what the judge makes of it
//! depends further on what comes after.

use std::sync::LazyLock;

use aho_corasick::automaton::Automaton as _;
use aho_corasick::dfa::DFA;
use aho_corasick::{Anchored, Input, MatchKind};

use self::table::{JOB_WORDS, MARKS};
use super::cause::Cause;
use super::line::Line;
use super::phase::Phase;

mod sign;
mod table;

/// Where a mark must stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// At the start of what is said, by one of the programs of a boot or by none that names itself.
    Start,
    /// At the start, by the kernel.
    Kernel,
    /// Anywhere in a message of the kernel.
    InKernel,
    /// Anywhere in what is said by one of the programs of a boot.
    Inside,
    /// Anywhere in what this program says (its tag begins so), or at the start where no program names itself.
    Of(&'static str),
    /// At the start, after a line of systemd's or openrc's own status or none.
    Unit,
}

/// What of the line is worth telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tell {
    Nothing,
    After,
    All,
}

/// What a mark means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    Firmware,
    Reach(Phase),
    Initrd,
    RealRoot,
    KernelStart,
    Cause(Cause, Tell),
    Hint(Hint, Tell),
    Panic,
    PanicEnd,
    RebootSoon,
    RebootNow,
    PowerDown,
    Emergency,
    EmergencyPrompt,
    BareShell,
    Welcome,
    Target,
    Frozen,
    Loads,
    Failed,
    DeviceTimeout,
    Job,
    CloudInit,
    ModuleFailed,
    CiInfo,
    Ignition,
    IgnitionDone,
    IgnitionFailed,
    IgnitionAttempt,
    Ipxe,
    Fetched,
    Login,
    RunInit,
    Address,
    NoLease,
    Grub,
    GrubError,
    Talos,
}

/// What explains a failure that is told later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hint {
    /// The root device did not come.
    RootMissing,
    /// A file system is damaged.
    Damaged,
    /// No init.
    NoInit,
    /// The initial RAM disk could not be unpacked.
    BadInitramfs,
    /// The C library refuses the CPU.
    OldCpu,
    /// Ran out of memory.
    NoMemory,
    /// What the bootloader complained about.
    Bootloader,
    /// Ignition.
    Ignition,
    /// The firmware could not use a disk.
    Disk,
}

/// What a line tells the judge.
#[derive(Clone, Debug, PartialEq)]
pub enum Sign {
    /// A firmware's first words: the machine was switched on or reset.
    Firmware,
    /// A firmware loads something; it may do so several times.
    Loads,
    /// The node has come so far.
    Reach(Phase),
    /// What follows happens in the initial RAM disk.
    Initrd,
    /// What follows happens in the installed system.
    RealRoot,
    /// A kernel starts.
    KernelStart,
    /// A cause, and what it is about.
    Cause(Cause, String),
    /// An explanation of a later failure.
    Hint(Hint, String),
    /// The first line of a panic.
    Panic(String),
    /// The last line of a panic.
    PanicEnd(String),
    /// The kernel will reboot after its panic.
    RebootSoon,
    /// The guest reboots in an orderly way.
    RebootNow,
    /// The guest powers off in an orderly way.
    PowerDown,
    /// The init system has begun to shut down.
    Shutdown,
    /// The init system gave up.
    Emergency,
    /// Somebody is to type something in emergency mode.
    EmergencyPrompt,
    /// A shell without a terminal of its own.
    BareShell,
    /// The greeting of systemd.
    Welcome {
        /// It says itself that it greets from the initial RAM disk.
        initrd: bool,
    },
    /// A unit or service failed.
    Failed {
        /// It never ran, because something that it needs failed.
        dependency: bool,
        /// `Failed to mount /data.`
        what: String,
    },
    /// A device did not come in time.
    DeviceTimeout(String),
    /// Something is being waited for.
    Job {
        /// What.
        what: String,
        /// Whether it ends by itself.
        limited: bool,
    },
    /// cloud-init runs.
    CloudInit,
    /// cloud-init has finished, with this data source.
    CloudInitDone(String),
    /// An address that a NIC of the guest has or was given.
    Address {
        /// `10.0.0.5`.
        address: std::net::IpAddr,
        /// `52:54:00:…`, where the line tells it.
        mac: Option<String>,
    },
    /// Ignition runs, or ran.
    Ignition {
        /// A stage has finished.
        done: bool,
    },
    /// Ignition failed.
    IgnitionFailed(String),
    /// Ignition fetches something for the nth time.
    IgnitionAttempt(u32, String),
    /// The network boot got something: that another of its tries failed does not matter.
    Fetched,
    /// A login prompt.
    Login,
    /// No DHCP server answered, as the guest's client says.
    NoLease(String),
}

/// What the judge knows when it reads a line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// The phase reached.
    pub phase: Phase,
}

/// The words, where they must stand, up to which phase they can be meant, and what they mean. The kernel's phase is
/// [`Phase::Kernel`], since its name is taken by [`At::Kernel`] in the table.
struct Mark(&'static str, At, Phase, Means);

static FINDER: LazyLock<Option<DFA>> = LazyLock::new(|| {
    DFA::builder()
        .match_kind(MatchKind::Standard)
        .prefilter(false)
        .build(MARKS.iter().map(|mark| mark.0))
        .ok()
});

/// Whether a line holds any of the words; most do not, and cost no more than this: it decides how many bytes of console a
/// second are judged.
pub fn worth_reading(text: &str) -> bool {
    let Some(finder) = FINDER.as_ref() else {
        return true;
    };
    let Ok(mut state) = finder.start_state(Anchored::No) else {
        return true;
    };
    // The crate's own search tells where as well, and is slower for it.
    text.bytes().any(|byte| {
        state = finder.next_state(Anchored::No, state, byte);
        finder.is_special(state) && finder.is_match(state)
    })
}

/// What a line tells, if it tells anything. Of several marks, the one that stands first in the table speaks.
pub fn read(line: &Line<'_>, place: Place) -> Option<Sign> {
    let finder = FINDER.as_ref()?;
    let mut best: Option<((bool, usize), Sign)> = None;
    for hit in finder.try_find_overlapping_iter(Input::new(line.body)).ok()? {
        let index = hit.pattern().as_usize();
        let Some(mark) = MARKS.get(index) else {
            continue;
        };
        // How far it has come is said by many words of a line that tells of a failure.
        let order = (matches!(mark.3, Means::Reach(_) | Means::Initrd), index);
        let better = best.as_ref().is_none_or(|(found, _)| order < *found);
        if better && mark.2 >= place.phase && stands(mark, line, hit.start()) {
            let after = line.body.get(hit.end()..).unwrap_or_default().trim();
            if let Some(sign) = sign::sign(mark, line, after, place) {
                best = Some((order, sign));
            }
        }
    }
    best.map(|(_, sign)| sign)
}

/// The programs whose words count where a mark does not name one.
const PROGRAMS: &[&str] = &[
    "kernel",
    "systemd",
    "systemctl",
    "dracut",
    "ignition",
    "coreos",
    "flatcar",
    "cloud-init",
    "sshd",
    "mount",
    "fsck",
    "init",
    "udev",
    "(udev",
    "dhclient",
    "dhcpcd",
    "udhcpc",
    "NetworkManager",
];

/// Whether a program is one of those.
pub fn speaks(tag: &str) -> bool {
    PROGRAMS.iter().any(|program| tag.starts_with(program))
}

fn stands(mark: &Mark, line: &Line<'_>, at: usize) -> bool {
    let known = line.tag.is_none_or(speaks);
    let kernel = line.tag.is_none_or(|tag| tag == "kernel");
    match mark.1 {
        At::Start => at == 0 && known,
        At::Kernel => at == 0 && kernel && line.status.is_none(),
        At::InKernel => kernel && (line.stamp.is_some() || line.tag.is_some()),
        At::Inside => known && !quoted(line.body, at),
        At::Of(program) => match line.tag {
            Some(tag) => tag.starts_with(program),
            None => at == 0 || line.body.starts_with(program),
        },
        At::Unit => match line.status {
            Some(_) => at == 0 || mark.0 == JOB_WORDS,
            None => line.tag == Some("systemd") && (at == 0 || mark.0 == JOB_WORDS),
        },
    }
}

/// Whether something stands in quotation marks, or is an argument of a command that is shown.
fn quoted(body: &str, at: usize) -> bool {
    let before = body.get(..at).unwrap_or_default();
    let odd = |mark: char| before.chars().filter(|c| *c == mark).count() % 2 == 1;
    odd('"') || odd('`') || before.starts_with("+ ") || before.contains("echo ") || before.contains("grep ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_a_mark_is_worth_reading_and_an_ordinary_one_is_not() {
        for mark in MARKS {
            assert!(worth_reading(mark.0), "{}", mark.0);
            assert!(worth_reading(&format!("é {}{}", mark.0, mark.0)), "{}", mark.0);
        }
        for text in [
            "",
            " ",
            "a",
            "nothing at all",
            "[    0.000000] BIOS-e820: [mem 0x0-0x1] usable",
        ] {
            assert!(!worth_reading(text), "{text}");
        }
    }
}
