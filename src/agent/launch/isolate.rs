//! The steps by which the agent is cut off from the process that started it.
//!
//! Three processes in a row, each of the same program: *launch* leaves the session and enters a new PID namespace for its
//! children, *init* is PID 1 there and reaps, *serve* does the work. When init or serve dies, however it dies, the
//! kernel kills whatever else is in the namespace: libvirtd, dnsmasq, every QEMU.
//!
//! Where the container may make no namespace (no CAP_SYS_ADMIN), a process more stands in for the kernel: *guard* starts init,
//! and the two watch each other. Both are subreapers, so that whatever loses its parent becomes a child of theirs; whichever
//! outlives the other kills all that it finds below itself.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, FdFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, getppid, kill_process, pidfd_open, set_child_subreaper,
    setsid, wait,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::agent::family::descendants;

/// The argument that `nodectl agent` gets for each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Stage {
    /// Leaves the launcher's session, makes the namespaces, starts `init`, ends.
    Launch,
    /// PID 1 of the namespace.
    Init,
    /// Where there is no namespace: kills what init leaves when it dies.
    Guard,
    /// Where there is no namespace: kills what guard and serve leave when they die.
    GuardedInit,
    /// The agent proper.
    Serve,
    /// PID 1 of a session's namespace.
    SessionInit,
    /// A session's supervisor.
    Session,
}

/// Leaves the session and starts `init` in new PID and mount namespaces, or `guard` where the container may make none.
/// Returns at once.
///
/// # Errors
/// What refused the start.
pub fn launch() -> io::Result<()> {
    setsid()?;
    close_inherited()?;
    let stage = match enter_namespaces() {
        Ok(()) => "init",
        Err(Errno::PERM | Errno::ACCESS) => "guard",
        Err(error) => return Err(error.into()),
    };
    next_stage(stage)?.spawn()?;
    Ok(())
}

/// Mounts first: an AppArmor profile may forbid them to those who have the capability, and then a PID namespace, which needs a
/// /proc of its own, is of no use.
fn enter_namespaces() -> Result<(), Errno> {
    // SAFETY: CLONE_NEWPID and CLONE_NEWNS share nothing that Rust's I/O safety rests on (that is CLONE_FILES).
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    // SAFETY: as above.
    unsafe { unshare_unsafe(UnshareFlags::NEWPID) }
}

/// Starts `init` and waits for its end.
///
/// # Errors
/// What refused the start.
pub fn guard() -> io::Result<ExitCode> {
    set_child_subreaper(Some(getpid()))?;
    let mut init = next_stage("guarded-init")?;
    init.args(["--guard", &getpid().as_raw_pid().to_string()]);
    watch_over(init)
}

/// Starts `serve` and waits for its end, or for the guard's.
///
/// # Errors
/// What refused the start.
pub fn guarded_init(guard: i32) -> io::Result<ExitCode> {
    // A session of its own: a signal to the guard's whole group must not reach both.
    setsid()?;
    set_child_subreaper(Some(getpid()))?;
    let watched = Pid::from_raw(guard).ok_or(Errno::INVAL)?;
    let pidfd = pidfd_open(watched, PidfdFlags::empty())?;
    if getppid() != Some(watched) {
        // It died before it could be watched, and its number may be another process's by now.
        return Err(Errno::SRCH.into());
    }
    std::thread::spawn(move || {
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        while poll(&mut fds, None) == Err(Errno::INTR) {}
        eprintln!("the agent's guard was killed: everything goes with it");
        end_descendants();
        std::process::exit(70);
    });
    let mut serve = next_stage("serve")?;
    serve.args(["--guard", &getpid().as_raw_pid().to_string()]);
    watch_over(serve)
}

/// Reaps until `main` ends, and then kills whatever it has left.
fn watch_over(mut main: Command) -> io::Result<ExitCode> {
    let child = main.spawn()?;
    let code = reap_until(child.id())?;
    end_descendants();
    Ok(code)
}

/// SIGKILL to all of them, until there is none: each round may find those that the last one has orphaned.
fn end_descendants() {
    let own = getpid().as_raw_pid();
    while let Ok(left) = descendants(own) {
        if left.is_empty() {
            return;
        }
        for pid in left.into_iter().filter_map(Pid::from_raw) {
            // It may have ended in between.
            let _ = kill_process(pid, Signal::KILL);
        }
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
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
    let child = main.spawn()?;
    reap_until(child.id())
}

/// Reaps whoever becomes a child of this process, until that one ends.
fn reap_until(main: u32) -> io::Result<ExitCode> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_pid() as u32 == main => {
                let status = std::process::ExitStatus::from_raw(status.as_raw());
                return Ok(ExitCode::from(status.code().map_or(70, |code| code as u8)));
            }
            Ok(_) | Err(Errno::INTR) => {}
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
