//! The steps by which the agent is cut off from the process that started it.
//!
//! Three processes in a row, each of the same program: *launch* leaves the session and enters a new PID namespace for its
//! children, *init* is PID 1 there and reaps, *serve* does the work. When init or serve dies, however it dies, the
//! kernel kills whatever else is in the namespace: libvirtd, dnsmasq, every QEMU.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::io::FdFlags;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{WaitOptions, setsid, wait};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// The argument that `nodectl agent` gets for each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Stage {
    /// Leaves the launcher's session, makes the namespaces, starts `init`, ends.
    Launch,
    /// PID 1 of the namespace.
    Init,
    /// The agent proper.
    Serve,
    /// PID 1 of a session's namespace.
    SessionInit,
    /// A session's supervisor.
    Session,
}

/// Leaves the session and starts `init` in new PID and mount namespaces. Returns at once.
///
/// # Errors
/// EPERM where the container lacks CAP_SYS_ADMIN.
pub fn launch() -> io::Result<()> {
    setsid()?;
    close_inherited()?;
    // SAFETY: CLONE_NEWPID and CLONE_NEWNS share nothing that Rust's I/O safety rests on (that is CLONE_FILES).
    unsafe { unshare_unsafe(UnshareFlags::NEWPID | UnshareFlags::NEWNS) }?;
    next_stage("init")?.spawn()?;
    Ok(())
}

/// Enters a session's namespaces, and gives what is to be started as PID 1 there. No thread can be made in this process
/// from here on: its next child, alone, is in the PID namespace. Unlike a cluster's it stays in the terminal's session, and with its caller's
/// standard streams: they are the command's.
///
/// # Errors
/// EPERM where the container lacks CAP_SYS_ADMIN.
pub fn session(directory: &Path, command: &[String]) -> io::Result<Command> {
    // SAFETY: as in `launch`.
    unsafe { unshare_unsafe(UnshareFlags::NEWPID) }?;
    let mut init = next_stage("session-init")?;
    init.arg("--directory").arg(directory).arg("--").args(command);
    Ok(init)
}

/// PID 1 of a session.
///
/// # Errors
/// As for [`init`].
pub fn session_init(directory: &Path, command: &[String]) -> io::Result<ExitCode> {
    // Here and not in `session`, so that the mounts are gone with this namespace and its caller can remove their places.
    // SAFETY: as in `launch`.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    let mut supervisor = next_stage("session")?;
    supervisor
        .arg("--directory")
        .arg(directory)
        .arg("--")
        .args(command);
    reap(supervisor)
}

/// PID 1: mounts the namespace's own /proc, starts `serve`, and reaps until it ends.
///
/// # Errors
/// What refused the mounts or the start.
pub fn init() -> io::Result<ExitCode> {
    reap(next_stage("serve")?)
}

fn reap(mut main: Command) -> io::Result<ExitCode> {
    // Nothing that is mounted for the cluster may be seen outside.
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    mount(
        "proc",
        "/proc",
        "proc",
        MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        None,
    )?;
    let serve = main.spawn()?;
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() as u32 == serve.id() => {
                let status = std::process::ExitStatus::from_raw(status.as_raw());
                return Ok(ExitCode::from(status.code().map_or(70, |code| code as u8)));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn next_stage(stage: &str) -> io::Result<Command> {
    // /proc/self/exe rather than argv[0]: the program may have been replaced or started by a relative path.
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["agent", stage]);
    Ok(command)
}

/// Marks every descriptor above stderr close-on-exec. Concourse's runtime, or a shell, may have handed down one whose
/// other end somebody waits on: held open by an agent it would delay the end of the step.
fn close_inherited() -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(number) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<RawFd>().ok())
        else {
            continue;
        };
        if number > 2 {
            // SAFETY: the descriptor was listed a moment ago, this process has one thread, and the borrow ends here;
            // the directory's own descriptor is the only one that is closed later, by its owner.
            let fd = unsafe { BorrowedFd::borrow_raw(number) };
            let _ = rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC);
        }
    }
    Ok(())
}
