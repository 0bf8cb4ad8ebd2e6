//! The hypervisor room against libvirt: its in-process test driver always; a real libvirtd with QEMU where
//! `TEST_LIBVIRT_URI` names one, with a guest from `TEST_GUEST_DISK` (see `ci/`), else that part is skipped.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libvirt_resource::fault::tell;
use libvirt_resource::hypervisor::*;
use libvirt_resource::topology::model::{
    Accelerator, DiskSerial, FirstBoot, ImageSource, NetworkKind, Node, Ready, Timeout, UserName,
};
use libvirt_resource::topology::name::Name;
use libvirt_resource::topology::plan::{MacAddress, Nic, Plan, PlannedNetwork, PlannedNode};
use libvirt_resource::units::ByteSize;
use tempfile::TempDir;
use uuid::Uuid;

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn path(path: impl AsRef<Path>) -> FilePath {
    FilePath::try_from(path.as_ref()).expect("a plain path")
}

/// `count` nodes: all on `default`, the first two also on `storage`.
fn plan(cluster: &str, octet: u8, count: u8) -> Plan {
    let networks = vec![
        network("default", NetworkKind::Nat, octet, 0),
        network("storage", NetworkKind::Isolated, octet, 1),
        network("lonely", NetworkKind::Isolated, octet, 2),
    ];
    let nodes = (1..=count)
        .map(|number| {
            let on = if number <= 2 {
                vec!["default", "storage"]
            } else {
                vec!["default"]
            };
            let on = if number == 3 { vec!["lonely"] } else { on };
            planned(number, octet, &on)
        })
        .collect();
    Plan {
        cluster: name(cluster),
        networks,
        nodes,
    }
}

fn third_octet(network: &str) -> u8 {
    match network {
        "default" => 0,
        "storage" => 1,
        _ => 2,
    }
}

fn network(called: &str, kind: NetworkKind, octet: u8, third: u8) -> PlannedNetwork {
    PlannedNetwork {
        name: name(called),
        kind,
        bridge: format!("t{octet}-{called}"),
        subnet: format!("10.{octet}.{third}.0/24").parse().expect("a subnet"),
        gateway: Ipv4Addr::new(10, octet, third, 1),
        mtu: if called == "storage" { 9000 } else { 1450 },
    }
}

fn planned(number: u8, octet: u8, networks: &[&str]) -> PlannedNode {
    PlannedNode {
        node: Node {
            name: name(&format!("worker-{number}")),
            role: name("worker"),
            cpus: 1,
            memory: ByteSize::mib(256),
            disk: None,
            image: ImageSource::File(PathBuf::from("/disk.img")),
            extra_disks: Vec::new(),
            nested: false,
            networks: networks.iter().map(|on| name(on)).collect(),
            forward: [22].into(),
            ssh_user: UserName::root(),
            first_boot: FirstBoot::Plain,
            ready: Ready {
                command: None,
                timeout: Timeout::Default,
            },
        },
        uuid: Uuid::from_u128((u128::from(octet) << 64) | u128::from(number) | (1 << 100)),
        nics: networks
            .iter()
            .map(|on| {
                let third = third_octet(on);
                Nic {
                    network: name(on),
                    mac: MacAddress([0x52, 0x54, 0, octet, third, number]),
                    address: Ipv4Addr::new(10, octet, third, 10 + number),
                }
            })
            .collect(),
    }
}

fn spec(plan: &Plan, node: &PlannedNode, disks: Vec<Disk>, console: &Path) -> DomainSpec {
    DomainSpec {
        name: ObjectName::new(&plan.cluster, node.name()),
        uuid: node.uuid,
        title: Text::new(format!("{} of {}", node.name(), plan.cluster)),
        accelerator: Accelerator::Tcg,
        cpus: node.node.cpus,
        memory: node.node.memory,
        nested: node.node.nested,
        disks,
        nics: node
            .nics
            .iter()
            .map(|nic| DomainNic {
                cable: Cable::Network(ObjectName::new(&plan.cluster, &nic.network)),
                mac: nic.mac,
                mtu: plan
                    .networks
                    .iter()
                    .find(|one| one.name == nic.network)
                    .map_or(1500, |one| one.mtu),
            })
            .collect(),
        ignition: None,
        ignition_journal: None,
        console_log: path(console),
    }
}

/// A test driver of its own: `test:///default` is shared by all tests of this process.
fn test_driver(dir: &TempDir) -> String {
    let file = dir.path().join("node.xml");
    std::fs::write(&file, "<node><cpu><mhz>1000</mhz></cpu></node>").expect("written");
    format!("test://{}", file.display())
}

async fn next(events: &mut Events) -> DomainEvent {
    tokio::time::timeout(Duration::from_secs(120), events.next())
        .await
        .expect("an event")
        .expect("a stream")
}

/// The events of one domain until one that `last` accepts.
async fn until(
    events: &mut Events,
    domain: &ObjectName,
    last: impl Fn(&EventKind) -> bool,
) -> Vec<EventKind> {
    let mut seen = Vec::new();
    loop {
        let event = next(events).await;
        if event.name == domain.as_str() {
            seen.push(event.kind);
            if seen.last().is_some_and(&last) {
                return seen;
            }
        }
    }
}

#[test]
fn a_connection_that_fails_names_the_uri() {
    let error = Connection::open("qemu:///system?socket=/nonexistent/sock").expect_err("nobody there");
    let told = tell(&error);
    assert!(told.contains("/nonexistent/sock"), "{told}");
    assert!(told.contains("help: "), "{told}");
    assert!(!told.contains("code="), "{told}");
    Connection::open("test:///de\0fault").expect_err("a NUL byte is refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_lives_and_is_told_of() {
    let dir = TempDir::new().expect("a directory");
    let connection = Connection::open(&test_driver(&dir)).expect("open");
    let mut events = Events::subscribe(&connection).expect("subscribe");
    let mut plan = plan("quiet-otter-1111", 77, 1);
    plan.nodes[0].nics.clear();
    let spec = spec(&plan, &plan.nodes[0], Vec::new(), &dir.path().join("console.log"));
    let domain = spec.name.clone();
    connection
        .run(move |c| {
            // The test driver runs no other type.
            let xml = domain_xml(&spec)?.replace("type=\"qemu\"", "type=\"test\"");
            c.start_domain_xml(&spec.name, &xml)?;
            assert_eq!(c.domain_state(spec.name.as_str())?, Some(DomainState::Running));
            assert_eq!(c.domains()?.len(), 1);
            assert_eq!(c.domains()?[0].uuid, spec.uuid);
            c.destroy_domain(spec.name.as_str())?;
            // Twice is no error.
            c.destroy_domain(spec.name.as_str())?;
            c.destroy_domain("never\0was")?;
            assert_eq!(c.domain_state(spec.name.as_str())?, None);
            Ok(())
        })
        .await
        .map_err(|error| tell(&error))
        .expect("a life");
    let seen = until(&mut events, &domain, |kind| matches!(kind, EventKind::Stopped(_))).await;
    assert_eq!(
        seen,
        [EventKind::Started, EventKind::Stopped(StopReason::Destroyed)]
    );
}

#[test]
fn versions_are_told_as_people_write_them() {
    let connection = Connection::open("test:///default").expect("open");
    let versions = connection.versions().expect("versions");
    assert_eq!(versions.libvirt.split('.').count(), 3, "{versions:?}");
    assert!(connection.free_memory().expect("memory").bytes() > 0);
}

#[test]
fn a_network_comes_and_goes() {
    let dir = TempDir::new().expect("a directory");
    let connection = Connection::open(&test_driver(&dir)).expect("open");
    let plan = plan("quiet-otter-2222", 78, 2);
    for network in &plan.networks {
        connection
            .create_network(&plan, network)
            .map_err(|error| tell(&error))
            .expect("created");
    }
    let mut names = connection.networks().expect("listed");
    names.sort();
    assert_eq!(
        names,
        [
            "quiet-otter-2222-default",
            "quiet-otter-2222-lonely",
            "quiet-otter-2222-storage"
        ]
    );
    let error = connection
        .create_network(&plan, &plan.networks[0])
        .expect_err("it is there already");
    assert!(
        tell(&error).starts_with("cannot create network quiet-otter-2222-default: "),
        "{}",
        tell(&error)
    );
    for name in names.iter().chain(&names) {
        connection
            .destroy_network(name)
            .expect("destroyed, or gone already");
    }
    assert!(connection.networks().expect("listed").is_empty());
    let error = connection
        .leases(&plan.cluster, &plan.networks[0].name)
        .expect_err("it is gone");
    assert!(error.is_gone(), "{error:?}");
}

/// Tests with a real libvirtd have it to themselves.
static LIBVIRTD: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Any disk that boots will do.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_guest_shows_itself() {
    let (Ok(uri), Ok(image)) = (
        std::env::var("TEST_LIBVIRT_URI"),
        std::env::var("TEST_GUEST_DISK"),
    ) else {
        eprintln!("skipped: TEST_LIBVIRT_URI and TEST_GUEST_DISK name no libvirtd and no guest");
        return;
    };
    let _alone = LIBVIRTD.lock().await;
    let dir = TempDir::new().expect("a directory");
    let connection = Connection::open(&uri)
        .map_err(|error| tell(&error))
        .expect("open");
    let plan = plan("brisk-otter-4a1d", 80, 1);
    for network in &plan.networks {
        connection
            .create_network(&plan, network)
            .map_err(|error| tell(&error))
            .expect("a network");
    }
    let disk = Disk {
        path: path(dir.path().join("root.img")),
        format: DiskFormat::Raw,
        serial: None,
        role: DiskRole::Root,
    };
    std::fs::copy(&image, disk.path.as_path()).expect("copied");
    let mut spec = spec(&plan, &plan.nodes[0], vec![disk], &dir.path().join("console.log"));
    spec.ignition_journal = Some(path(dir.path().join("journal")));
    connection
        .start_domain(&spec)
        .map_err(|error| tell(&error))
        .expect("started");
    let printed = || std::fs::metadata(spec.console_log.as_path()).map_or(0, |log| log.len());
    while printed() == 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    shows_itself(&connection, &plan, &spec);
    assert_eq!(std::fs::read(dir.path().join("journal")).expect("a journal"), b"");
    let log = std::fs::read_to_string(qemu_log(&spec.name));
    eprintln!("{:?}", log.as_deref().map(qemu_said));
    connection
        .destroy_domain(spec.name.as_str())
        .map_err(|error| tell(&error))
        .expect("destroyed");
    for network in connection.networks().expect("listed") {
        connection
            .destroy_network(&network)
            .map_err(|error| tell(&error))
            .expect("destroyed");
    }
}

/// A running guest can be asked for all that a judge of its boot wants to know.
fn shows_itself(connection: &Connection, plan: &Plan, spec: &DomainSpec) {
    let domain = spec.name.as_str();
    let told = |error: HypervisorError| tell(&error);
    let counters = connection.counters().map_err(told).expect("counters");
    let of_it = counters.get(domain).expect("its counters");
    eprintln!("{of_it:?}");
    assert!(of_it.cpu_time > Duration::ZERO);
    assert!(of_it.disks.is_some_and(|disks| disks.read_requests > 0));
    let can = connection.questions(domain).map_err(told).expect("questions");
    assert!(can.human && can.virtio, "{can:?}");
    assert_eq!(
        connection.run_state(domain).map_err(told).expect("a state"),
        "running"
    );
    let virtio = connection.virtio(domain).map_err(told).expect("virtio devices");
    eprintln!("{virtio:?}");
    let count = |name: &str| virtio.iter().filter(|device| device.name == name).count();
    assert_eq!(
        (count("virtio-blk"), count("virtio-net")),
        (spec.disks.len(), spec.nics.len())
    );
    eprintln!(
        "{:?}",
        connection.registers(domain).map_err(told).expect("registers")
    );
    let memory = connection.text_memory(domain).map_err(told).expect("a memory");
    eprintln!("{:?}", connection.text_screen(domain, &memory));
    let png = connection.screenshot(domain).map_err(told).expect("a picture");
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"), "{} bytes", png.len());
    let nics = connection.nics(domain).map_err(told).expect("NICs");
    eprintln!("{nics:?}");
    let macs: Vec<_> = nics.iter().map(|nic| nic.mac).collect();
    assert_eq!(macs, spec.nics.iter().map(|nic| nic.mac).collect::<Vec<_>>());
    for nic in &nics {
        TapEar::open(&nic.tap).expect("a tap to listen on");
    }
    let gone = ObjectName::new(&plan.cluster, &name("nobody"));
    for error in [
        connection.questions(gone.as_str()).expect_err("nobody there"),
        connection.screenshot(gone.as_str()).expect_err("nobody there"),
        connection.nics(gone.as_str()).expect_err("nobody there"),
    ] {
        assert!(error.is_gone(), "{}", tell(&error));
    }
}

/// What becomes of the guests is in their console logs, what libvirt tells of them in the events.
#[tokio::test(flavor = "multi_thread")]
async fn real_guests_boot_and_end() {
    let (Ok(uri), Ok(image)) = (
        std::env::var("TEST_LIBVIRT_URI"),
        std::env::var("TEST_GUEST_DISK"),
    ) else {
        eprintln!("skipped: TEST_LIBVIRT_URI and TEST_GUEST_DISK name no libvirtd and no guest");
        return;
    };
    let _alone = LIBVIRTD.lock().await;
    let dir = TempDir::new().expect("a directory");
    let connection = Connection::open(&uri)
        .map_err(|error| tell(&error))
        .expect("open");
    eprintln!("{:?}", connection.versions().expect("versions"));
    let mut events = Events::subscribe(&connection).expect("subscribe");
    let plan = plan("brisk-otter-3f9c", 79, 4);
    let started = std::time::Instant::now();
    for network in &plan.networks {
        connection
            .create_network(&plan, network)
            .map_err(|error| tell(&error))
            .expect("a network");
    }
    eprintln!("networks: {:?}", started.elapsed());
    let ask = "for n in worker-1 worker-2 worker-2.storage worker-4 worker-3 worker-1.brisk-otter-3f9c.internal nobody; do \
               echo DNS $n $(nslookup $n 2>/dev/null | grep -A9 ^Name | grep ^Address | cut -d' ' -f2); done; \
               ping -c 1 -W 5 worker-2 >/dev/null && echo PING worker-2; \
               ping -c 1 -W 5 -s 1422 -M do worker-2 >/dev/null && echo MTU worker-2; ip route; cat /etc/resolv.conf;";
    // An address beyond the NAT, for the guests to ping.
    let outside = std::env::var("TEST_OUTSIDE").ok();
    let ask = match &outside {
        Some(address) => format!("{ask} ping -c 1 -W 5 {address} >/dev/null && echo PING outside;"),
        None => ask.to_owned(),
    };
    let reboot = "if [ \"$(head -c1 /dev/vdb)\" = x ]; then echo SECOND-BOOT; poweroff -f; \
                  else printf x > /dev/vdb; sync; reboot -f; fi";
    let scripts = [
        format!("{ask} {reboot}"),
        ask.clone(),
        "ip route; echo c > /proc/sysrq-trigger".to_owned(),
        String::new(),
    ];
    let mut specs = Vec::new();
    for (node, script) in plan.nodes.iter().zip(&scripts) {
        let file = |suffix: &str| dir.path().join(format!("{}.{suffix}", node.name()));
        std::fs::copy(&image, file("img")).expect("copied");
        std::fs::write(file("data"), [0; 1 << 20]).expect("written");
        let mut seed = format!("{script}\n").into_bytes();
        seed.resize(1 << 16, 0);
        std::fs::write(file("seed"), seed).expect("written");
        let disk = |suffix: &str, role, serial: &str| Disk {
            path: path(file(suffix)),
            format: DiskFormat::Raw,
            serial: Some(DiskSerial::try_from(serial.to_owned()).expect("a serial")),
            role,
        };
        let disks = vec![
            disk("img", DiskRole::Root, "root"),
            disk("data", DiskRole::Extra, "data0"),
            disk("seed", DiskRole::Seed, "seed"),
        ];
        specs.push(spec(&plan, node, disks, &file("log")));
    }
    let started = std::time::Instant::now();
    let calls: Vec<_> = specs
        .iter()
        .cloned()
        .map(|spec| {
            let connection = connection.clone();
            tokio::spawn(async move { connection.run(move |c| c.start_domain(&spec)).await })
        })
        .collect();
    for call in calls {
        call.await
            .expect("joined")
            .map_err(|error| tell(&error))
            .expect("started");
    }
    eprintln!("{} domains started in {:?}", specs.len(), started.elapsed());
    assert_eq!(connection.domains().expect("listed").len(), specs.len());
    let console = |number: usize| {
        let said = std::fs::read(dir.path().join(format!("worker-{number}.log"))).unwrap_or_default();
        String::from_utf8_lossy(&said).replace('\r', "")
    };
    let seen = until(&mut events, &specs[0].name, |kind| {
        matches!(kind, EventKind::Stopped(_))
    })
    .await;
    eprintln!("worker-1: {seen:?}");
    assert!(seen.contains(&EventKind::Rebooted), "{seen:?}");
    assert_eq!(
        seen.last(),
        Some(&EventKind::Stopped(StopReason::Shutdown)),
        "{seen:?}"
    );
    let deadline = std::time::Instant::now() + Duration::from_secs(120);
    while connection.domain_state(specs[2].name.as_str()).expect("a state") != Some(DomainState::Panicked)
        || !(console(2).contains("GUEST-IDLE") && console(4).contains("GUEST-IDLE"))
    {
        assert!(
            std::time::Instant::now() < deadline,
            "{}\n{}\n{}",
            console(2),
            console(3),
            console(4)
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for number in 1..=4 {
        eprintln!("--- worker-{number}");
        for line in console(number).lines().filter(|line| !line.starts_with('[')) {
            eprintln!("{line}");
        }
    }
    let first = console(1);
    assert!(
        first.contains("SeaBIOS") && first.contains("SECOND-BOOT"),
        "{first}"
    );
    for answer in [
        "DNS worker-1 10.79.0.11\n",
        "DNS worker-2 10.79.0.12\n",
        "DNS worker-2.storage 10.79.1.12\n",
        "DNS worker-3 10.79.2.13\n",
        "DNS worker-4 10.79.0.14\n",
        "DNS worker-1.brisk-otter-3f9c.internal 10.79.0.11\n",
        "DNS nobody\n",
        "PING worker-2\n",
    ] {
        assert!(first.contains(answer), "{answer}");
    }
    assert_eq!(first.contains("PING outside\n"), outside.is_some());
    assert!(console(3).contains("Kernel panic"), "{}", console(3));
    let leases = connection
        .leases(&plan.cluster, &name("storage"))
        .expect("leases");
    eprintln!("{leases:?}");
    assert!(leases.iter().any(|lease| lease.mac == plan.nodes[1].nics[1].mac
        && lease.address == std::net::IpAddr::V4(plan.nodes[1].nics[1].address)));
    let started = std::time::Instant::now();
    connection
        .destroy_domain(specs[2].name.as_str())
        .map_err(|error| tell(&error))
        .expect("destroyed");
    eprintln!("destroyed in {:?}", started.elapsed());
    if let Ok(pid) = std::env::var("TEST_LIBVIRTD_PID") {
        let pid = pid
            .parse()
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
        let reason = tokio::time::timeout(Duration::from_secs(60), connection.closed())
            .await
            .expect("told");
        assert_eq!(reason, CloseReason::Eof);
        while let Some(event) = events.next().await {
            eprintln!("before the end: {event:?}");
        }
        let error = connection.domains().expect_err("nobody there");
        eprintln!("{}", tell(&error));
        return;
    }
    for spec in &specs {
        connection
            .destroy_domain(spec.name.as_str())
            .map_err(|error| tell(&error))
            .expect("destroyed");
    }
    for network in connection.networks().expect("listed") {
        connection
            .destroy_network(&network)
            .map_err(|error| tell(&error))
            .expect("destroyed");
    }
}
