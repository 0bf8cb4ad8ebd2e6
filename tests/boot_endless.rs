//! A console that prints without end, through all that a node's console passes: the file as virtlogd keeps it, its tail, the
//! judge, the recording. 64 MiB; `ENDLESS_MIB=1024 cargo test --release --test boot_endless` is a gibibyte.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use libvirt_resource::agent::watch::{Rounds, Subject, node};
use libvirt_resource::boot::cause::Cause;
use libvirt_resource::boot::evidence::{Context, Evidence, Outcome};
use libvirt_resource::boot::judge::Judge;
use libvirt_resource::boot::recording::diagnose;
use libvirt_resource::hypervisor::{Connection, ObjectName};
use libvirt_resource::topology::name::Name;
use libvirt_resource::topology::plan::Plan;
use tokio::sync::mpsc;

const MIB: u64 = 1 << 20;

/// What virtlogd is told in src/agent/daemons.rs.
const FILE: u64 = 16 * MIB;
const OLD: usize = 3;

/// How far the reader may be behind: less than a file, so that none is put aside twice before it is read.
const BEHIND: u64 = 4 * MIB;

/// What is printed over and over, and then once.
fn block() -> String {
    let line = format!(
        "[   12.345678] app[9]: {}\n",
        "a request was answered, ".repeat(40)
    );
    line.repeat(1 + 64 * 1024 / line.len())
}
const LAST: &str = "[  100.000000] Kernel panic - not syncing: at last\n";

/// Writes so many blocks to a console's file, as virtlogd does; gives how much was on disk at the most.
fn print(console: &Path, blocks: u64, read: &AtomicU64) -> u64 {
    let block = block();
    let old = |number: usize| PathBuf::from(format!("{}.{number}", console.display()));
    let (mut written, mut in_file, mut most) = (0, 0, 0);
    for _ in 0..blocks {
        if in_file + block.len() as u64 > FILE {
            for number in (1..OLD).rev() {
                let _ = fs::rename(old(number - 1), old(number));
            }
            fs::rename(console, old(0)).unwrap();
            in_file = 0;
        }
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(console)
            .unwrap();
        file.write_all(block.as_bytes()).unwrap();
        written += block.len() as u64;
        in_file += block.len() as u64;
        let folder = fs::read_dir(console.parent().unwrap()).unwrap();
        let on_disk = folder.map(|file| file.unwrap().metadata().map_or(0, |file| file.len()));
        most = most.max(on_disk.sum());
        while written > read.load(Ordering::Relaxed) + BEHIND {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let mut file = OpenOptions::new().append(true).open(console).unwrap();
    file.write_all(LAST.as_bytes()).unwrap();
    most
}

/// The most memory that this process ever had, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_console_takes_bounded_room() {
    let size = std::env::var("ENDLESS_MIB").map_or(64, |text| text.parse().unwrap()) * MIB;
    let blocks = size.div_ceil(block().len() as u64);
    let all = blocks * block().len() as u64 + LAST.len() as u64;
    let dir = tempfile::tempdir().unwrap();
    let consoles = dir.path().join("consoles");
    fs::create_dir(&consoles).unwrap();
    let cluster: Name = "quiet-otter-5555".parse().unwrap();
    let subject = Subject {
        context: Context::default(),
        domain: ObjectName::new(&cluster, &"a".parse().unwrap()),
        console: consoles.join("a.log"),
        ignition_journal: None,
        recording: dir.path().join("a.jsonl"),
    };
    let (console, recording) = (subject.console.clone(), subject.recording.clone());
    let plan = Plan {
        cluster,
        networks: Vec::new(),
        nodes: Vec::new(),
    };
    let connection = Connection::open("test:///default").unwrap();
    let rounds = Rounds::start(connection, &plan, dir.path().into());
    let (sender, mut seen) = mpsc::channel(256);
    let watch = node(&rounds, subject, sender);
    let mut judge = Judge::new();
    let mut take = |seen| judge.see(seen);
    take(seen.recv().await.unwrap());
    let before = peak();
    let read = Arc::new(AtomicU64::new(0));
    let count = read.clone();
    let printer = tokio::task::spawn_blocking(move || print(&console, blocks, &count));
    while read.load(Ordering::Relaxed) < all {
        let seen = seen.recv().await.unwrap();
        if let Evidence::Console { bytes } = &seen.what {
            read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        take(seen);
    }
    let on_disk = printer.await.unwrap();
    watch.close(Outcome::Failed).await;
    while let Some(seen) = seen.recv().await {
        take(seen);
    }
    assert_eq!(read.load(Ordering::Relaxed), all);
    assert!(peak() - before < 48 * MIB, "{} MiB", (peak() - before) / MIB);
    assert!(on_disk <= FILE * (1 + OLD as u64), "{} MiB", on_disk / MIB);
    let verdict = judge.verdict().unwrap();
    assert_eq!(verdict.code, Cause::KernelPanic);
    let recorded = fs::metadata(&recording).unwrap().len();
    assert!(recorded < 24 * MIB, "{} MiB", recorded / MIB);
    // What is left out of the recording changes nothing.
    let again = diagnose("a", std::io::BufReader::new(fs::File::open(recording).unwrap())).unwrap();
    assert_eq!(again.verdict.unwrap().code, Cause::KernelPanic);
}
