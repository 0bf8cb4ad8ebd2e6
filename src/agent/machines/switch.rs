//! A machine's power button, its plug and its pause key.
//!
//! libvirt forgets a machine that stops: it is started again from what it was made of, on its own disks, with its own MACs, and so
//! with its own addresses and forwards. Every call returns when libvirt's events have told what it did, so that no event of
//! before is taken for one of after.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Machines, lock};
use crate::agent::api::types::{NodeState, PowerState, Switch};
use crate::fault::tell;
use crate::hypervisor::{Connection, HypervisorError, ObjectName};
use crate::progress::Level;
use crate::topology::name::Name;

/// How long libvirt's event may come after its answer.
const EVENT: Duration = Duration::from_secs(10);

/// A guest that boots does not see its power button pressed: it is pressed again after so long.
const PRESS_AGAIN: Duration = Duration::from_secs(15);

/// How long the last boot's end may take to be recorded, once its machine has stopped.
const LAST_BOOT: Duration = Duration::from_secs(30);

/// One hand at a switch at a time; with it, whoever follows the boot that it began.
pub(super) type Lock = tokio::sync::Mutex<Option<Follower>>;

/// Whoever follows a boot.
#[derive(Debug)]
pub(super) struct Follower {
    task: AbortHandle,
    /// Closed when it has ended, however.
    ended: oneshot::Receiver<()>,
}

/// Why a machine was not switched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoSwitch {
    /// There is no such node.
    Node,
    /// The cluster is still being brought up.
    Starting,
    /// Nothing of the cluster runs any more.
    Ended,
    /// Its machine is off.
    Off,
    /// Its CPUs stand still, since somebody paused it.
    Paused,
    /// Its kernel has panicked, and it stands as it was then.
    Crashed,
    /// Its guest has not switched it off in so many seconds.
    Ignored(u64),
    /// libvirt refused; why, for people.
    Failed(String),
}

impl From<HypervisorError> for NoSwitch {
    fn from(error: HypervisorError) -> Self {
        Self::Failed(tell(&error))
    }
}

impl Machines {
    /// Does it. What is so already is no error.
    pub async fn switch(self: &Arc<Self>, name: &Name, switch: Switch) -> Result<(), NoSwitch> {
        let lock = self.switches.get(name).ok_or(NoSwitch::Node)?;
        let mut follower = lock.lock().await;
        match switch {
            Switch::On => self.on(name, &mut follower).await,
            Switch::Off { seconds } => self.off(name, seconds).await,
            Switch::Cut => self.cut(name).await,
            Switch::Cycle => {
                self.cut(name).await?;
                self.on(name, &mut follower).await
            }
            Switch::Pause => self.pause(name).await,
            Switch::Resume => self.resume(name).await,
        }
    }

    async fn on(self: &Arc<Self>, name: &Name, follower: &mut Option<Follower>) -> Result<(), NoSwitch> {
        match self.held.power(name) {
            PowerState::Running => return Ok(()),
            PowerState::Paused => return Err(NoSwitch::Paused),
            PowerState::Crashed if self.exists(name).await? => return Err(NoSwitch::Crashed),
            PowerState::Crashed | PowerState::Off => {}
        }
        let (Some(planned), Some(spec)) = (self.planned(name), lock(&self.specs).get(name).cloned()) else {
            return Err(NoSwitch::Node);
        };
        if let Some(mut last) = follower.take() {
            if timeout(LAST_BOOT, &mut last.ended).await.is_err() {
                last.task.abort();
            }
        }
        self.ssh.forget(planned).await;
        let console = self.held.console(name);
        if let Err(error) = put_aside(&console, &self.held.earlier_console(name)) {
            // What was printed before is lost with the start, which is no reason not to start.
            eprintln!("{}: cannot be put aside: {error}", console.display());
        }
        if let Some(stop) = self.stops.get(name) {
            stop.send_replace(None);
        }
        self.held.set_power(name, PowerState::Off);
        let stopped = self.stopped(name);
        let accelerator = spec.accelerator;
        self.start(planned, spec).await?;
        self.held.set_node(name, NodeState::Booting, None);
        self.until(name, |power| power != PowerState::Off).await;
        let (machines, planned) = (Arc::clone(self), planned.clone());
        let (done, ended) = oneshot::channel::<()>();
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        let task = tasks.spawn(async move {
            let _done = done;
            // Judge and log have told why.
            let _ = machines.follow(&planned, accelerator, stopped).await;
        });
        *follower = Some(Follower { task, ended });
        Ok(())
    }

    async fn off(&self, name: &Name, seconds: u64) -> Result<(), NoSwitch> {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            match self.held.power(name) {
                PowerState::Off => return Ok(()),
                PowerState::Paused => return Err(NoSwitch::Paused),
                PowerState::Crashed if self.exists(name).await? => return Err(NoSwitch::Crashed),
                PowerState::Crashed => return Ok(()),
                PowerState::Running => {}
            }
            self.progress
                .node(Level::Info, name, "its power button is pressed");
            if let Err(error) = self.call(name, Connection::press_power_button).await {
                // It has stopped in between; else it is libvirt's own refusal.
                if !error.is_gone() {
                    return Err(error.into());
                }
            }
            let again = deadline.min(Instant::now() + PRESS_AGAIN);
            let changed = self.held.wait_for(name, |live| live.power != PowerState::Running);
            if timeout_at(again, changed).await.is_err() && Instant::now() >= deadline {
                return Err(NoSwitch::Ignored(seconds));
            }
        }
    }

    async fn cut(&self, name: &Name) -> Result<(), NoSwitch> {
        let there = self.exists(name).await?;
        self.call(name, Connection::destroy_domain).await?;
        if there {
            self.until(name, |power| power == PowerState::Off).await;
        }
        self.held.set_power(name, PowerState::Off);
        Ok(())
    }

    async fn pause(&self, name: &Name) -> Result<(), NoSwitch> {
        match self.held.power(name) {
            PowerState::Paused => return Ok(()),
            PowerState::Off => return Err(NoSwitch::Off),
            PowerState::Crashed => return Err(NoSwitch::Crashed),
            PowerState::Running => {}
        }
        self.call(name, Connection::pause).await?;
        self.until(name, |power| power != PowerState::Running).await;
        Ok(())
    }

    async fn resume(&self, name: &Name) -> Result<(), NoSwitch> {
        match self.held.power(name) {
            PowerState::Running => return Ok(()),
            PowerState::Off => return Err(NoSwitch::Off),
            PowerState::Crashed => return Err(NoSwitch::Crashed),
            PowerState::Paused => {}
        }
        self.call(name, Connection::resume).await?;
        self.until(name, |power| power != PowerState::Paused).await;
        Ok(())
    }

    /// Waits until libvirt's events have told so.
    async fn until(&self, name: &Name, is: impl Fn(PowerState) -> bool) {
        // Should the event be lost, libvirt's answer was no lie: what was asked for is done.
        let told = self.held.wait_for(name, |live| is(live.power));
        if timeout(EVENT, told).await.is_err() {
            eprintln!("{name}: libvirt has sent no event of what it did");
        }
    }

    /// Whether libvirt has a machine of the node.
    async fn exists(&self, name: &Name) -> Result<bool, NoSwitch> {
        let state = self.call(name, Connection::domain_state).await?;
        Ok(state.is_some())
    }

    async fn call<T: Send + 'static>(
        &self,
        name: &Name,
        call: fn(&Connection, &str) -> Result<T, HypervisorError>,
    ) -> Result<T, HypervisorError> {
        let domain = ObjectName::new(&self.held.order.plan.cluster, name);
        self.connection
            .run(move |connection| call(connection, domain.as_str()))
            .await
    }
}

/// Adds a console to what was printed in earlier boots, and leaves none in its place: the next boot is judged by what it prints itself.
fn put_aside(console: &Path, earlier: &Path) -> io::Result<()> {
    let mut from = match std::fs::File::open(console) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if !earlier.exists() {
        return std::fs::rename(console, earlier);
    }
    let mut to = OpenOptions::new().append(true).open(earlier)?;
    io::copy(&mut from, &mut to)?;
    std::fs::remove_file(console)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_earlier_boots_have_printed_is_kept_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let (console, earlier) = (dir.path().join("a.log"), dir.path().join("a.earlier.log"));
        put_aside(&console, &earlier).unwrap();
        assert!(!earlier.exists());
        for boot in ["one\n", "two\n", "three"] {
            std::fs::write(&console, boot).unwrap();
            put_aside(&console, &earlier).unwrap();
            assert!(!console.exists());
        }
        assert_eq!(std::fs::read_to_string(earlier).unwrap(), "one\ntwo\nthree");
    }
}
