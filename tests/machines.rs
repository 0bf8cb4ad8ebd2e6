//! The switches of machines, on libvirt's own test driver: real domains and events, no guests.

#[path = "loopback/mod.rs"]
#[expect(dead_code, reason = "this test needs a part of it")]
mod loopback;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use libvirt_resource::agent::api::types::{NodeState, PowerState, Secret, Switch};
use libvirt_resource::agent::machines::{Machines, NoSwitch};
use libvirt_resource::agent::order::Order;
use libvirt_resource::agent::ssh::Ssh;
use libvirt_resource::agent::view::Held;
use libvirt_resource::agent::wire::ways::Ways;
use libvirt_resource::first_boot::keys::{ClusterKeys, HostKey};
use libvirt_resource::hypervisor::*;
use libvirt_resource::progress::Progress;
use libvirt_resource::topology::model::{Accelerator, AcceleratorChoice, NetworkingChoice, OnFailure};
use loopback::{HERE, name, plan};
use tempfile::TempDir;

struct Bed {
    held: Arc<Held>,
    machines: Arc<Machines>,
    connection: Connection,
    _directory: TempDir,
}

impl Bed {
    /// A cluster of one node, whose machine has been started.
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("node.xml");
        std::fs::write(&file, "<node><cpu><mhz>1000</mhz></cpu></node>").unwrap();
        let connection = Connection::open(&format!("test://{}", file.display())).unwrap();
        let plan = plan(1, &[22]);
        for place in ["consoles", "disks", "evidence", "keys"] {
            std::fs::create_dir(directory.path().join(place)).unwrap();
        }
        let order = Order {
            collect: BTreeMap::new(),
            lifetime: 60,
            on_failure: OnFailure::Destroy,
            accelerator: AcceleratorChoice::Auto,
            networking: NetworkingChoice::Auto,
            token: Secret("0123456789abcdef".to_owned()),
            listen: HERE,
            directory: directory.path().to_owned(),
            images: directory.path().join("images"),
            request: "a request".to_owned(),
            plan: plan.clone(),
        };
        let keys = ClusterKeys::generate(&plan.cluster).unwrap();
        let ssh = Ssh::new(
            &directory.path().join("keys"),
            directory.path(),
            &keys.login_private,
            std::iter::empty(),
        );
        let host_keys = BTreeMap::from([(name("worker-1"), HostKey::generate().unwrap())]);
        let held = Arc::new(Held::new(order, keys, host_keys, "a-password".to_owned()));
        let (progress, _) = Progress::channel();
        let events = Events::subscribe(&connection).unwrap();
        let machines = Arc::new(Machines::new(
            held.clone(),
            progress,
            ssh.unwrap(),
            Ways::new(&plan),
            connection.clone(),
            events,
        ));
        let planned = plan.nodes[0].clone();
        let spec = DomainSpec {
            name: ObjectName::new(&plan.cluster, planned.name()),
            uuid: planned.uuid,
            title: Text::new("a node"),
            accelerator: Accelerator::Tcg,
            nested: false,
            cpus: 1,
            memory: planned.node.memory,
            disks: Vec::new(),
            nics: Vec::new(),
            ignition: None,
            ignition_journal: None,
            console_log: FilePath::try_from(directory.path().join("consoles/worker-1.log").as_path())
                .unwrap(),
        };
        let first = machines.clone();
        // Nothing will ever answer as its guest: it stays a node that boots.
        tokio::spawn(async move { first.boot(&planned, spec).await });
        let bed = Self {
            held,
            machines,
            connection,
            _directory: directory,
        };
        bed.until(PowerState::Running).await;
        bed
    }

    async fn until(&self, power: PowerState) {
        let node = name("worker-1");
        let told = self.held.wait_for(&node, |live| live.power == power);
        tokio::time::timeout(Duration::from_secs(60), told).await.unwrap();
    }

    async fn switch(&self, switch: Switch) -> Result<PowerState, NoSwitch> {
        let node = name("worker-1");
        self.machines.switch(&node, switch).await?;
        Ok(self.held.power(&node))
    }

    fn domain(&self) -> Option<DomainState> {
        let domain = ObjectName::new(&self.held.order.plan.cluster, &name("worker-1"));
        self.connection.domain_state(domain.as_str()).unwrap()
    }
}

use PowerState::{Off, Paused, Running};

#[tokio::test(flavor = "multi_thread")]
async fn every_switch_does_what_it_says_and_says_what_is() {
    let bed = Bed::new().await;
    let node = name("worker-1");
    assert_eq!(bed.switch(Switch::On).await, Ok(Running), "what is so already");
    assert_eq!(bed.switch(Switch::Pause).await, Ok(Paused));
    assert_eq!(bed.domain(), Some(DomainState::Paused));
    assert_eq!(bed.switch(Switch::Pause).await, Ok(Paused));
    assert_eq!(bed.switch(Switch::On).await, Err(NoSwitch::Paused));
    assert_eq!(
        bed.switch(Switch::Off { seconds: 1 }).await,
        Err(NoSwitch::Paused)
    );
    assert_eq!(bed.switch(Switch::Resume).await, Ok(Running));
    assert_eq!(bed.domain(), Some(DomainState::Running));
    assert_eq!(bed.switch(Switch::Cut).await, Ok(Off));
    assert_eq!(bed.domain(), None, "libvirt forgets it");
    assert_eq!(bed.switch(Switch::Cut).await, Ok(Off));
    assert_eq!(bed.switch(Switch::Pause).await, Err(NoSwitch::Off));
    assert_eq!(bed.switch(Switch::Resume).await, Err(NoSwitch::Off));
    assert_eq!(bed.switch(Switch::Off { seconds: 1 }).await, Ok(Off));
    assert_eq!(bed.switch(Switch::On).await, Ok(Running));
    assert_eq!(bed.held.node_state(&node), NodeState::Booting);
    // The test driver's machines have no power button: libvirt's refusal is told.
    let refused = bed.switch(Switch::Off { seconds: 30 }).await;
    assert!(
        matches!(&refused, Err(NoSwitch::Failed(said)) if said.contains("power button")),
        "{refused:?}"
    );
    bed.machines.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_cut_and_switched_on_again_and_again_and_never_said_to_be_off_after_it() {
    let bed = Bed::new().await;
    std::fs::write(bed.held.console(&name("worker-1")), "first\n").unwrap();
    for _ in 0..20 {
        assert_eq!(bed.switch(Switch::Cycle).await, Ok(Running));
        assert_eq!(bed.domain(), Some(DomainState::Running));
    }
    let earlier = std::fs::read_to_string(bed.held.earlier_console(&name("worker-1"))).unwrap();
    assert_eq!(earlier, "first\n");
    // Several hands at one switch.
    let all: Vec<_> = [
        Switch::Cycle,
        Switch::Cut,
        Switch::On,
        Switch::Pause,
        Switch::Resume,
        Switch::Cycle,
    ]
    .into_iter()
    .map(|switch| {
        let machines = bed.machines.clone();
        tokio::spawn(async move { machines.switch(&name("worker-1"), switch).await })
    })
    .collect();
    for one in all {
        let _ = one.await.unwrap();
    }
    let now = bed.switch(Switch::Cycle).await;
    assert_eq!((now, bed.domain()), (Ok(Running), Some(DomainState::Running)));
    assert_eq!(
        bed.machines.switch(&name("other"), Switch::On).await,
        Err(NoSwitch::Node)
    );
    bed.machines.end();
}
