//! What a mark that stands where it must makes of its line.

use super::{Hint, Mark, Means, Place, Sign, Tell};
use crate::boot::cause::Cause;
use crate::boot::line::{Line, Status, clock};
use crate::boot::phase::Phase;

pub(super) fn sign(mark: &Mark, line: &Line<'_>, after: &str, place: Place) -> Option<Sign> {
    let tell = |tell: Tell| match tell {
        Tell::Nothing => String::new(),
        Tell::After => neat(after),
        Tell::All => neat(line.body),
    };
    Some(match mark.3 {
        Means::Firmware => Sign::Firmware,
        Means::Loads => Sign::Loads,
        Means::Reach(phase) => Sign::Reach(phase),
        Means::Initrd => Sign::Initrd,
        Means::RealRoot => Sign::RealRoot,
        Means::KernelStart => {
            // The first message of all; and a version begins with a number.
            let first = line.stamp.is_none_or(|stamp| stamp < 5.0);
            return (first && after.starts_with(|c: char| c.is_ascii_digit())).then_some(Sign::KernelStart);
        }
        Means::Cause(Cause::DiskErrors, what) => {
            // Drives without a medium, which every PC of QEMU has: nobody boots from them.
            let empty = ["dev fd0", "dev sr0", "dev sr1"]
                .iter()
                .any(|drive| line.body.contains(drive));
            return (!empty).then(|| Sign::Cause(Cause::DiskErrors, tell(what)));
        }
        Means::Cause(Cause::MountFailed, what) => {
            let failed = line.body.starts_with("Failed to mount ");
            return failed.then(|| Sign::Cause(Cause::MountFailed, tell(what)));
        }
        Means::Cause(cause, what) => Sign::Cause(cause, tell(what)),
        Means::Hint(hint, what) => {
            if hint == Hint::RootMissing
                && mark.0 == "Warning: /dev/"
                && !line.body.contains("does not exist")
            {
                return None;
            }
            if mark.0.starts_with("mount: ") && !misses_device(after) {
                return None;
            }
            Sign::Hint(hint, tell(what))
        }
        Means::Panic => Sign::Panic(neat(after.trim_start_matches(':'))),
        Means::PanicEnd => Sign::PanicEnd(neat(after.trim_start_matches(':').trim_end_matches("]---"))),
        Means::RebootSoon => {
            return (after.contains("second")).then_some(Sign::RebootSoon);
        }
        Means::RebootNow => Sign::RebootNow,
        Means::PowerDown => Sign::PowerDown,
        Means::Emergency => Sign::Emergency,
        Means::EmergencyPrompt => Sign::EmergencyPrompt,
        Means::BareShell => Sign::BareShell,
        Means::Welcome => return welcome(line, after),
        Means::Target => return target(line, after),
        Means::Frozen => {
            let frozen = after.contains("reezing") || after.contains("halting");
            return frozen.then(|| Sign::Cause(Cause::InitFrozen, neat(after)));
        }
        Means::Failed => return failed(line),
        Means::DeviceTimeout => {
            let unit = line.status.is_some() || line.tag.is_some();
            if unit {
                Sign::DeviceTimeout(device(after))
            } else {
                Sign::Hint(Hint::RootMissing, neat(line.body))
            }
        }
        Means::Job => return job(line.body),
        Means::CloudInit => {
            if after.contains(" finished at ") {
                let source = after.split_once("Datasource ").map_or("", |(_, source)| source);
                let source = source.split("  Up ").next().unwrap_or_default();
                Sign::CloudInitDone(neat(source.trim_end_matches('.')))
            } else {
                Sign::CloudInit
            }
        }
        Means::ModuleFailed => {
            let failed = after.contains("failed") || !mark.0.starts_with("Running module");
            return failed.then(|| Sign::Cause(Cause::CloudInitFailed, neat(line.body)));
        }
        Means::CiInfo => return ci_info(after),
        Means::Ignition => Sign::Ignition { done: false },
        Means::IgnitionDone => Sign::Ignition { done: true },
        Means::IgnitionFailed => Sign::IgnitionFailed(neat(after.trim_start_matches('.'))),
        Means::IgnitionAttempt => {
            let count = after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
            let what = line.body.split(": attempt #").next().unwrap_or_default();
            Sign::IgnitionAttempt(count, neat(what))
        }
        Means::Ipxe => return ipxe(line.body, after),
        Means::Fetched => {
            return (place.phase == Phase::Netboot && after.is_empty()).then_some(Sign::Fetched);
        }
        Means::Login => return login(line.text).then_some(Sign::Login),
        Means::RunInit => {
            let program = line.body.strip_prefix("Run ")?.strip_suffix(" as init process")?;
            if program == "/init" {
                Sign::Reach(Phase::Initramfs)
            } else {
                Sign::RealRoot
            }
        }
        Means::Address => return address(after),
        Means::NoLease => Sign::NoLease(neat(line.body)),
        Means::Grub => Sign::Reach(Phase::Bootloader),
        Means::GrubError => return grub(after, place),
        Means::Talos => {
            let after = undated(after);
            let waits = after.starts_with("entering maintenance service");
            if after.starts_with("error running phase ") {
                return Some(Sign::Failed {
                    dependency: false,
                    what: neat(after),
                });
            }
            if waits {
                Sign::Cause(
                    Cause::WaitsForConfig,
                    neat(after.split(" {").next().unwrap_or_default()),
                )
            } else {
                Sign::RealRoot
            }
        }
    })
}

/// What follows `2024/12/15 14:45:57 `, as Go's programs put it before what they say.
fn undated(said: &str) -> &str {
    let rest = said.split_once(' ').and_then(|(date, rest)| {
        let (time, rest) = rest.split_once(' ')?;
        (date.len() == 10 && date.contains('/') && clock(time)).then_some(rest)
    });
    rest.map_or(said, str::trim_start)
}

/// Whether mount says that a device is not there: util-linux's of one by its name, busybox's of its file. Of /proc and /dev
/// below an empty root file system it complains, too.
fn misses_device(said: &str) -> bool {
    let device = |text: &str| {
        ["/dev/", "UUID=", "LABEL=", "PARTUUID="]
            .iter()
            .any(|start| text.starts_with(start))
    };
    match said.split_once(": can't find ") {
        Some((_, what)) => device(what),
        None => device(said) && said.contains(" failed: No such "),
    }
}

/// One line that a person reads: no longer than fits, without trailing dots.
fn neat(text: &str) -> String {
    let text = text.trim().trim_end_matches(['.', ' ']);
    match text.char_indices().nth(200) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn welcome(line: &Line<'_>, after: &str) -> Option<Sign> {
    // An own line with nothing but the name of the system; a person who is welcomed reads on.
    let name = after.strip_suffix('!')?;
    if line.tag.is_some_and(|tag| tag != "systemd") || name.len() > 100 || name.contains("! ") {
        return None;
    }
    let initrd = name.contains("dracut") || name.contains("nitramfs") || name.contains("nitrd");
    Some(Sign::Welcome { initrd })
}

fn target(line: &Line<'_>, after: &str) -> Option<Sign> {
    if line.status.is_some_and(|status| status != Status::Good) {
        return None;
    }
    // `multi-user.target - Multi-User System.`
    let described = after.split_once(" - ").map(|(_, text)| text);
    let any = |names: &[&str]| {
        names
            .iter()
            .any(|name| after.starts_with(name) || described.is_some_and(|text| text.starts_with(name)))
    };
    if any(&["Emergency Mode", "emergency.target"]) {
        Some(Sign::Emergency)
    } else if any(&["Initrd ", "initrd"]) {
        Some(Sign::Initrd)
    } else if any(&[
        "Multi-User",
        "multi-user.target",
        "Login Prompts",
        "getty.target",
        "Graphical Interface",
    ]) {
        Some(Sign::RealRoot)
    } else if any(&["Cloud-init target", "cloud-init.target"]) {
        Some(Sign::CloudInitDone(String::new()))
    } else if any(&[
        "Shutdown",
        "System Shutdown",
        "shutdown.target",
        "System Reboot",
        "System Power Off",
    ]) {
        Some(Sign::Shutdown)
    } else {
        None
    }
}

fn failed(line: &Line<'_>) -> Option<Sign> {
    let what = match (line.body.strip_prefix("* ERROR: "), line.failed_at_its_end()) {
        (Some(what), _) => what.to_owned(),
        (None, true) => line
            .body
            .trim_start_matches("* ")
            .trim_end_matches("[ !! ]")
            .to_owned(),
        (None, false) if line.body.starts_with("* ") => return None,
        (None, false) => {
            // Without one of these words it is a remark of systemd's: nothing that a boot depends on.
            let unit = matches!(
                line.status,
                Some(Status::Failed | Status::Dependency | Status::Timeout)
            ) || (line.tag == Some("systemd")
                && [
                    "Failed to start ",
                    "Failed to mount ",
                    "Failed to activate ",
                    "Failed to listen ",
                    "Dependency failed",
                ]
                .iter()
                .any(|start| line.body.starts_with(start)));
            if !unit {
                return None;
            }
            line.body.to_owned()
        }
    };
    Some(Sign::Failed {
        dependency: line.status == Some(Status::Dependency) || what.starts_with("Dependency failed"),
        what: neat(&what),
    })
}

/// systemd tells a unit as `dev-vdb.device - /dev/vdb`, or by one of the two, shortened by `…`.
fn device(text: &str) -> String {
    let text = text.trim_end_matches('.');
    neat(text.split_once(" - ").map_or(text, |(_, name)| name))
}

fn job(body: &str) -> Option<Sign> {
    // With several at a time, each is shown as the nth of so many.
    let body = match body.strip_prefix('(').and_then(|rest| rest.split_once(") ")) {
        Some((count, rest)) if count.contains(" of ") => rest,
        _ => body,
    };
    let (what, rest) = body.rsplit_once('(')?;
    let (_, limit) = rest.strip_suffix(')')?.split_once(" / ")?;
    let what = what
        .trim()
        .trim_end_matches("/start running")
        .replacen("A start job is running for ", "", 1);
    Some(Sign::Job {
        what: neat(what.trim_start_matches("Job ")),
        limited: limit != "no limit",
    })
}

/// `ci-info: |  ens3  | True | 10.0.0.5 | 255.255.255.0 | global | 52:54:00:00:00:01 |`
fn ci_info(after: &str) -> Option<Sign> {
    let cells: Vec<&str> = after.split('|').map(str::trim).collect();
    let [_, "True", address, _, scope, mac, ..] = cells.as_slice() else {
        return None;
    };
    let address: std::net::Ipv4Addr = address.parse().ok()?;
    let usable = !address.is_loopback() && !address.is_link_local() && *scope != "host";
    usable.then(|| Sign::Address {
        address: address.into(),
        mac: Some(mac.to_ascii_lowercase()),
    })
}

fn address(after: &str) -> Option<Sign> {
    let address: std::net::Ipv4Addr = after
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .next()?
        .trim_end_matches('.')
        .parse()
        .ok()?;
    Some(Sign::Address {
        address: address.into(),
        mac: None,
    })
}

/// iPXE's errors are numbers, whose first byte is the class (src/include/errno.h). The text before them may be wrapped.
fn ipxe(body: &str, after: &str) -> Option<Sign> {
    let code = after.get(..8)?;
    if !code.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let code = code.to_ascii_lowercase();
    let cause = match (code.as_str(), code.get(..2)?) {
        ("040ee119", _) => Cause::NetbootNoDhcp,
        ("2d03e13b", _) => Cause::NetbootNoFileName,
        (_, "2d" | "02") => Cause::NetbootFileNotFound,
        (_, "2e" | "3c" | "7f" | "08") => Cause::NetbootBadImage,
        (_, "0e" | "0f" | "17" | "28" | "4c") => Cause::NetbootUnreachable,
        (_, "26") => Cause::NetbootLinkDown,
        // A name that no server knows (EADDRNOTAVAIL, 3e: its resolver).
        (_, "3e") => Cause::NetbootUnreachable,
        _ => Cause::NetbootFailed,
    };
    Some(Sign::Cause(cause, neat(body)))
}

/// `host login: `: at the end of a line, or with something that was printed over it behind.
fn login(text: &str) -> bool {
    // The BSDs' getty tells the host's name before.
    if text.trim_end() == "login:" {
        return true;
    }
    let Some((before, _)) = text.split_once(" login:") else {
        return false;
    };
    let host = before.rsplit(' ').next().unwrap_or_default();
    let name = !host.is_empty()
        && host.len() <= 64
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._()".contains(&byte));
    // `Last login:`, `Failed login:` are sentences.
    let sentence = matches!(
        host,
        "Last" | "last" | "Failed" | "failed" | "console" | "at" | "the" | "for" | "first" | "user"
    );
    name && !sentence && (before == host || text.trim_end().ends_with(" login:"))
}

fn grub(after: &str, place: Place) -> Option<Sign> {
    // Newer ones tell where in their source: `../../grub-core/kern/fs.c:123:unknown filesystem.`
    let after = match after.split_once(".c:") {
        Some((_, rest)) => rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':'),
        None => after,
    };
    let told = neat(after);
    let has = |words: &[&str]| words.iter().any(|word| after.contains(word));
    if has(&[
        "bad shim signature",
        "invalid signature",
        "secure boot policy",
        "verification requested but nobody cares",
    ]) {
        Some(Sign::Cause(Cause::SecureBootRefused, told))
    } else if has(&["out of memory"]) {
        Some(Sign::Cause(Cause::BootloaderOutOfMemory, told))
    } else if has(&[
        "load the kernel first",
        "invalid magic number",
        "premature end of file",
    ]) || (has(&["not found", "no such"]) && has(&["vmlinu", "initr", "Image", "kernel", "linux"]))
    {
        Some(Sign::Cause(Cause::BootloaderKernelMissing, told))
    } else if place.phase <= Phase::Bootloader {
        Some(Sign::Hint(Hint::Bootloader, told))
    } else {
        None
    }
}
