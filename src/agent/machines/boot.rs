//! Starts a node's machine, and follows it until the node is ready.

use std::time::Duration;

use tokio::sync::watch;

use super::{Machines, lock};
use crate::agent::adopt::Adoption;
use crate::agent::api::types::{NodeState, PowerState};
use crate::agent::host::namespaces::{QEMU_OOM_SCORE, set_oom_score};
use crate::agent::judging::Judging;
use crate::agent::wait::{Entrance, Limits, NotReady, check, until_ready};
use crate::agent::watch::Subject;
use crate::boot::evidence::{Evidence, Outcome};
use crate::boot::phase::Phase;
use crate::boot::recording::Diagnosis;
use crate::hypervisor::{Connection, DomainSpec, HypervisorError, ObjectName};
use crate::progress::Level;
use crate::topology::model::{Accelerator, FirstBoot, Timeout};
use crate::topology::name::Name;
use crate::topology::plan::PlannedNode;

/// From power on to ready, where the user has not said. A distribution's cloud image needs well under a minute on KVM; a node
/// that does not get on is given up long before by its judge, one that gets on slowly is not cut short.
const DEFAULT_LIMIT: Duration = Duration::from_secs(20 * 60);

/// For the ready command alone, which no judge knows: from the login on, where the user has not said.
const COMMAND_LIMIT: Duration = Duration::from_secs(5 * 60);

/// How much longer everything may take under translation; boots were seen to take 5 to 20 times as long on a busy host,
/// of limits that are generous to begin with.
const TCG_FACTOR: u32 = 4;

/// Why a node is not up.
#[derive(Debug)]
pub enum NotUp {
    /// Its machine was not started.
    Hypervisor(HypervisorError),
    /// It did not get ready.
    NotReady {
        /// How the wait for it ended.
        why: NotReady,
        /// Why, as its judge has it.
        diagnosis: Box<Diagnosis>,
    },
    /// It boots from a Vagrant box that could not be made the cluster's; what the box said.
    NotAdopted(String),
}

impl Machines {
    /// Starts a machine for the first time, and returns once its node is ready.
    pub async fn boot(&self, planned: &PlannedNode, spec: DomainSpec) -> Result<(), NotUp> {
        lock(&self.specs).insert(planned.name().clone(), spec.clone());
        let stopped = self.stopped(planned.name());
        let accelerator = spec.accelerator;
        self.start(planned, spec).await.map_err(NotUp::Hypervisor)?;
        self.follow(planned, accelerator, stopped).await
    }

    /// Starts a machine; its QEMU runs when this returns.
    pub(super) async fn start(&self, planned: &PlannedNode, spec: DomainSpec) -> Result<(), HypervisorError> {
        let name = planned.name();
        self.connection
            .run(move |connection: &Connection| connection.start_domain(&spec))
            .await?;
        self.prefer_for_oom(name);
        self.progress
            .node(Level::Info, name, format!("powered on, {}", planned.address()));
        Ok(())
    }

    /// Follows a node whose machine has just been started until it is ready. `stopped` is of before the start.
    pub(super) async fn follow(
        &self,
        planned: &PlannedNode,
        accelerator: Accelerator,
        stopped: watch::Receiver<Option<String>>,
    ) -> Result<(), NotUp> {
        let (held, name) = (&self.held, planned.name());
        let subject = Subject::new(held, planned, accelerator);
        let judging = Judging::begin(&self.rounds(), subject, name.clone(), self.progress.clone());
        held.follow(name, &judging);
        let limits = limits(planned, accelerator);
        let keys = held.order.directory.join("keys");
        // A box is the cluster's own once its node was ready.
        let host = held.host_keys.get(name).filter(|_| !held.has_been_ready(name));
        let adoption = host.and_then(|host| Adoption::of(planned, &held.keys, host, &keys));
        let entrance = self.entrance(adoption.as_ref());
        let walked = until_ready(planned, entrance, limits, stopped, &judging, &self.progress).await;
        match walked {
            Ok(took) => {
                let diagnosis = judging.end(Outcome::Ready).await;
                held.set_node(name, NodeState::Ready, Some(took.as_secs_f64()));
                let slowest = diagnosis
                    .slowest
                    .map(|step| format!(", slowest: {}, {:.1} s", step.phase, step.seconds))
                    .unwrap_or_default();
                let text = format!("ready after {:.1} s{slowest}", took.as_secs_f64());
                self.progress.node(Level::Good, name, text);
                Ok(())
            }
            Err(why) => {
                // A machine that stopped is off, and why shows; of one that was never ready, that it failed says more.
                if why != NotReady::Stopped || !held.has_been_ready(name) {
                    held.set_node(name, NodeState::Failed, None);
                }
                self.last_look(planned, why).await;
                let outcome = match why {
                    NotReady::Late => Outcome::TimedOut,
                    NotReady::Stopped | NotReady::Judged | NotReady::NotAdopted => Outcome::Failed,
                };
                if let Some(said) = adoption.as_ref().and_then(Adoption::given_up) {
                    judging.end(outcome).await;
                    return Err(NotUp::NotAdopted(said.to_owned()));
                }
                Err(NotUp::NotReady {
                    why,
                    diagnosis: Box::new(judging.end(outcome).await),
                })
            }
        }
    }

    /// Whether a node that runs can be logged in to and is ready, now or within `limit`; if not, why.
    pub async fn check(&self, planned: &PlannedNode, limit: Duration) -> Result<(), String> {
        let (held, name) = (&self.held, planned.name());
        let stops = held.wait_for(name, |live| live.power != PowerState::Running);
        let checked = tokio::select! {
            checked = check(planned, self.entrance(None), &self.progress, limit) => checked.map(drop),
            live = stops => Err(format!("its machine is {} by now", live.power)),
        };
        if checked.is_ok() && held.node_state(name) == NodeState::Failed {
            held.set_node(name, NodeState::Ready, None);
        }
        checked
    }

    fn entrance<'a>(&'a self, adoption: Option<&'a Adoption>) -> Entrance<'a> {
        Entrance {
            ssh: &self.ssh,
            ways: &self.ways,
            adoption,
        }
    }

    /// Tells when a node's machine stops, and why.
    pub(super) fn stopped(&self, name: &Name) -> watch::Receiver<Option<String>> {
        // A node that is not in the plan never runs, and so never stops.
        self.stops
            .get(name)
            .map_or_else(|| watch::channel(None).1, watch::Sender::subscribe)
    }

    /// What can be asked of a node once more before it is given up: its screen, and where a login works cloud-init
    /// and the journal.
    async fn last_look(&self, planned: &PlannedNode, why: NotReady) {
        let held = &self.held;
        if why == NotReady::Stopped {
            return;
        }
        let domain = ObjectName::new(&held.order.plan.cluster, planned.name());
        let screenshot = async {
            let taken = self
                .connection
                .run(move |connection| connection.screenshot(domain.as_str()));
            // A QEMU that hangs is not waited for.
            let png = tokio::time::timeout(LAST_LOOK, taken).await.ok()?.ok()?;
            held.keep_screenshot(planned.name(), png);
            Some(())
        };
        let logged_in = held
            .diagnosis(planned.name())
            .is_some_and(|diagnosis| diagnosis.phase >= Phase::ReadyCommand);
        let cloud_init = async {
            if !logged_in || matches!(planned.node.first_boot, FirstBoot::Ignition { .. }) {
                return None;
            }
            let command = "cloud-init status --format json";
            let output = self.ssh.run(planned, command, LAST_LOOK).await.ok()?;
            let status = serde_json::from_slice(&output.stdout).ok()?;
            held.seen(planned.name(), Evidence::CloudInit { status });
            Some(())
        };
        let journal = async {
            if !logged_in {
                return None;
            }
            // The first complaints explain the later ones.
            let command = "journalctl -b -q -p warning -o short --no-pager | head -n 200";
            let output = self.ssh.run(planned, command, LAST_LOOK).await.ok()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if !text.is_empty() {
                held.seen(planned.name(), Evidence::Journal { text });
            }
            Some(())
        };
        tokio::join!(screenshot, cloud_init, journal);
    }

    /// Where memory runs out, a machine is to be killed rather than the agent: one lost node is told, a lost agent is not.
    fn prefer_for_oom(&self, name: &Name) {
        let object = ObjectName::new(&self.held.order.plan.cluster, name);
        let pid = std::fs::read_to_string(format!("/run/libvirt/qemu/{object}.pid"));
        let pid = pid.ok().and_then(|pid| pid.trim().parse().ok());
        // A machine that has gone already needs no score; one that keeps its old score runs all the same.
        if let Some(Err(error)) = pid.map(|pid| set_oom_score(Some(pid), QEMU_OOM_SCORE)) {
            eprintln!("{name}: {}", crate::fault::tell(&error));
        }
    }
}

fn limits(planned: &PlannedNode, accelerator: Accelerator) -> Limits {
    let factor = match accelerator {
        Accelerator::Tcg => TCG_FACTOR,
        Accelerator::Kvm => 1,
    };
    match planned.node.ready.timeout {
        Timeout::Given(limit) => Limits {
            all: limit,
            command: limit,
        },
        Timeout::Default => Limits {
            all: DEFAULT_LIMIT * factor,
            command: COMMAND_LIMIT * factor,
        },
    }
}

/// How long a last look may take.
const LAST_LOOK: Duration = Duration::from_secs(15);
