//! What the judge costs: megabytes of console text a second, by the path that a live console takes.
//!
//! `cargo bench --bench judge [-- MB]` feeds it so many megabytes (256) of each kind of text, in the chunks of a live
//! reader, and prints a verdict on each. Beside it stands what reading the same chunks as UTF-8 takes, in turns with it:
//! their ratio means the same on any machine. A goal that is missed is printed and is no failure.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use libvirt_resource::boot::evidence::{Evidence, Seen};
use libvirt_resource::boot::judge::Judge;
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};

/// Megabytes a second.
const GOAL: f64 = 200.0;

/// Judge and reference take turns so often.
const ROUNDS: usize = 9;

/// Bytes that a live reader reads at once (`src/agent/watch/watcher.rs`).
const CHUNK: usize = 16 << 10;

/// How much of each generated console there is; it is fed again and again.
const SAMPLE: usize = 4 << 20;

/// A kind of text: of each of its consoles, all chunks. Every console is another node's.
struct Kind {
    name: &'static str,
    consoles: Vec<Vec<u8>>,
    /// Whether a console is as long as it is, or goes on without end.
    endless: bool,
}

fn main() {
    // `cargo test --benches` starts it too, and a test is never timed.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let megabytes: usize = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(256);
    let kinds = [
        Kind {
            name: "boots of tests/evidence",
            consoles: boots(),
            endless: false,
        },
        Kind {
            name: "an application's log",
            consoles: vec![application()],
            endless: true,
        },
        Kind {
            name: "arbitrary bytes",
            consoles: vec![noise()],
            endless: true,
        },
        Kind {
            name: "a mark in every line",
            consoles: vec![marks()],
            endless: true,
        },
    ];
    println!(
        "{megabytes} MB each, {ROUNDS} rounds: median (worst to best), by {}",
        clock().1
    );
    println!(
        "{:<24} {:>22} {:>8} {:>7} {:>22} {:>8}",
        "judge", "MB/s", "goal", "", "UTF-8 alone, MB/s", "ratio"
    );
    for kind in &kinds {
        kind.measure(megabytes * 1_000_000);
    }
}

impl Kind {
    fn measure(&self, bytes: usize) {
        let (mut judged, mut read) = (Vec::new(), Vec::new());
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            let judge = self.timed(bytes / ROUNDS, judge);
            let utf8 = self.timed(bytes / ROUNDS, reference);
            ratios.push(judge / utf8);
            judged.push(judge);
            read.push(utf8);
        }
        let speed = middle(&mut judged);
        println!(
            "{:<24} {:>22} {GOAL:>8} {:>7} {:>22} {:>8.3}",
            self.name,
            spread(&mut judged),
            if speed >= GOAL { "met" } else { "MISSED" },
            spread(&mut read),
            middle(&mut ratios),
        );
    }

    /// Feeds at least so many bytes, in whole consoles, or in as many turns of an endless one; gives MB/s. Goes on for a
    /// time that the clock can tell: the kernel counts what a thread uses in ticks of up to 10 ms.
    fn timed(&self, bytes: usize, feed: impl Fn(&[&[u8]])) -> f64 {
        const LEAST: Duration = Duration::from_millis(200);
        let mut fed = 0;
        let begun = now();
        while fed < bytes || now() - begun < LEAST {
            for console in &self.consoles {
                let times = if self.endless {
                    bytes.div_ceil(console.len())
                } else {
                    1
                };
                feed(&vec![console.as_slice(); times]);
                fed += times * console.len();
            }
        }
        fed as f64 / 1e6 / (now() - begun).as_secs_f64()
    }
}

/// One node's console, from power on. Each chunk is later than the one before, so that what stands at its end is read as a
/// prompt, as live.
fn judge(console: &[&[u8]]) {
    let mut judge = Judge::new();
    let mut at = Duration::ZERO;
    for chunk in console.iter().flat_map(|part| part.chunks(CHUNK)) {
        at += Duration::from_millis(1);
        let bytes = chunk.to_vec();
        black_box(judge.see(Seen::new(at, Evidence::Console { bytes })));
    }
    black_box(judge.verdict());
}

fn reference(console: &[&[u8]]) {
    for chunk in console.iter().flat_map(|part| part.chunks(CHUNK)) {
        black_box(String::from_utf8_lossy(black_box(chunk)));
    }
}

/// What this thread has used of a processor, which a busy machine does not change much; without a kernel that tells, the
/// time that passed.
fn now() -> Duration {
    clock().0
}

fn clock() -> (Duration, &'static str) {
    static BEGUN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let used = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let used = used.and_then(|text| text.split(' ').next()?.parse().ok());
    match used {
        Some(nanoseconds) => (
            Duration::from_nanos(nanoseconds),
            "the thread's own processor time",
        ),
        None => (BEGUN.get_or_init(Instant::now).elapsed(), "the clock on the wall"),
    }
}

fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn spread(values: &mut [f64]) -> String {
    let middle = middle(values);
    format!(
        "{middle:.0} ({:.0} to {:.0})",
        values[0],
        values[values.len() - 1]
    )
}

/// Whole boots. What is shorter is an excerpt, of which the judge's own making and its verdict are the greater part.
fn boots() -> Vec<Vec<u8>> {
    const WHOLE: usize = 4 << 10;
    let evidence = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/evidence");
    let mut paths: Vec<_> = std::fs::read_dir(evidence)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".console.txt"))
        .collect();
    paths.sort();
    let consoles = paths.iter().map(|path| std::fs::read(path).unwrap());
    consoles.filter(|console| console.len() >= WHOLE).collect()
}

/// A node that has booted, and whose application tells of all that it does.
fn application() -> Vec<u8> {
    let mut rng = StdRng::seed_from_u64(1);
    let mut text = String::from("[    0.000000] Linux version 6.1.0\r\nnode login: \r\n");
    let mut seconds = 100.0;
    while text.len() < SAMPLE {
        let number: u32 = rng.random_range(1..100_000);
        seconds += f64::from(number) / 1e6;
        text += &match number % 5 {
            0 => format!(
                "[{seconds:>12.6}] app[812]: request {number} of 10.0.{}.{} was answered in {} ms\r\n",
                number % 256,
                number / 400,
                number % 977,
            ),
            1 => format!(
                "2026-05-01T10:{:02}:{:02}.{:03}Z INFO  http: GET /api/v1/items/{number}?sort=asc 200 {} bytes\r\n",
                number % 60,
                number % 59,
                number % 1000,
                number * 7,
            ),
            2 => format!(
                "{{\"level\":\"debug\",\"ts\":{seconds:.3},\"caller\":\"cache/store.go:{}\",\"msg\":\"evicted\",\"keys\":{number}}}\r\n",
                number % 900,
            ),
            3 => format!(
                "I0501 10:00:{:02}.{number:06} 1 reconciler.go:{}] \"operationExecutor.MountVolume started for volume\" pod=\"default/web-{number:x}\"\r\n",
                number % 60,
                number % 400,
            ),
            _ => format!(
                "worker {} took job {number} from the queue, {} are left\r\n",
                number % 16,
                number % 5000
            ),
        };
    }
    text.into_bytes()
}

fn noise() -> Vec<u8> {
    let mut bytes = vec![0; SAMPLE];
    StdRng::seed_from_u64(2).fill_bytes(&mut bytes);
    bytes
}

/// Lines of which each must be read closely. What a kernel's death or a firmware says is not among them: the text is one
/// node's.
fn marks() -> Vec<u8> {
    const LINES: [&str; 12] = [
        "[  OK  ] Reached target Network is Online.",
        "[FAILED] Failed to start web.service - The web server.",
        "[DEPEND] Dependency failed for backup.service - Backup of the day.",
        "[   61.123456] systemd[1]: Reached target multi-user.target - Multi-User System.",
        "[   62.123456] cloud-init[700]: Cloud-init v. 23.4 running 'modules:final' at Fri, 01 May 2026. Up 62.01 seconds.",
        "[   63.123456] cloud-init[700]: ci-info: |  ens3  | True | 10.0.0.5 | 255.255.255.0 | global | 52:54:00:00:00:01 |",
        "[ ***  ] A start job is running for Wait for the network (12s / no limit)",
        "[   64.123456] EXT4-fs error (device vda1): ext4_lookup:1785: inode #2: comm app: deleted inode referenced: 12",
        "[   65.123456] I/O error, dev vdb, sector 2048 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2",
        "app[812]: write failed: No space left on device",
        "echo \"a login prompt reads: node login:\" | grep \"Kernel panic - not syncing\"",
        "node login: ",
    ];
    let mut text = String::from("[    0.000000] Linux version 6.1.0\r\n");
    while text.len() < SAMPLE {
        for line in LINES {
            text += line;
            text += "\r\n";
        }
    }
    text.into_bytes()
}
