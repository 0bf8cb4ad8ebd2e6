//! How fast the judge reads consoles, beside what merely counts their lines: `cargo run --release --example judge_speed [FILE]`.
//!
//! Without a file it makes texts of its own: a boot over and over, a chatty service, noise, and one that is all markers. What
//! is measured is time on the CPU, so that other work of the machine counts less; `JUDGE_SPEED_MIB` is how much of each.

use std::hint::black_box;
use std::time::Duration;

use libvirt_resource::boot::evidence::{Evidence, Seen};
use libvirt_resource::boot::judge::Judge;

const CHUNK: usize = 64 << 10;
const BLOCK: usize = 4 << 20;

fn main() {
    if let Some(path) = std::env::args().nth(1) {
        match std::fs::read(&path) {
            Ok(bytes) => measure(&path, &repeated(&bytes)),
            Err(error) => eprintln!("{path}: {error}"),
        }
        return;
    }
    let boot = b"[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x0000000007fdcfff] usable\r\n[    1.234567] pci 0000:00:1f.2: reg 0x24: [mem 0xfebd4000-0xfebd4fff]\r\n[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mssh.service\x1b[0m - OpenBSD Secure Shell server.\r\n         Starting systemd-logind.service - User Login Management...\r\n[   55.605090] cloud-init[333]: ci-info: |   lo   |  True |  ::1/128  |     .     |  host |         .         |\r\n";
    measure("a boot", &repeated(boot));
    measure(
        "a chatty service",
        &repeated(b"2024-05-01T10:00:00Z app[9]: request 4711 took 12 ms, status 200, user 42\n"),
    );
    let mut seed = 1u64;
    let noise: Vec<u8> = (0..1 << 20)
        .map(|_| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 56) as u8
        })
        .collect();
    measure("noise", &repeated(&noise));
    measure("no line end", &repeated(b"0123456789abcdef"));
    measure("markers alone", &repeated(b"[FAILED] Failed to start foo.service - Foo.\n[   12.345678] app: Kernel panic - not syncing: no\n"));
}

fn size() -> usize {
    let mib = std::env::var("JUDGE_SPEED_MIB").ok();
    mib.and_then(|mib| mib.parse::<usize>().ok()).unwrap_or(256) << 20
}

/// The time that this thread has been on a CPU: the first number of its schedstat, in nanoseconds.
fn on_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text
        .split_whitespace()
        .next()
        .and_then(|first| first.parse().ok());
    Duration::from_nanos(first.unwrap_or(0))
}

fn repeated(bytes: &[u8]) -> Vec<u8> {
    bytes
        .iter()
        .copied()
        .cycle()
        .take(if bytes.is_empty() { 0 } else { size() })
        .collect()
}

fn measure(name: &str, bytes: &[u8]) {
    let start = on_cpu();
    let lines = memchr::memchr_iter(b'\n', bytes).count();
    let counted = on_cpu() - start;
    let mut judge = Judge::new();
    let mut spent = Duration::ZERO;
    // In chunks as they are read; but not so small that looking at the clock is what takes the time.
    for (at, block) in (0u64..).zip(bytes.chunks(BLOCK)) {
        // The copies are the caller's.
        let chunks: Vec<Vec<u8>> = block.chunks(CHUNK).map(<[u8]>::to_vec).collect();
        let start = on_cpu();
        for (nth, bytes) in (0u64..).zip(chunks) {
            let at = Duration::from_millis(at * 1000 + nth);
            black_box(judge.see(Seen::new(at, Evidence::Console { bytes })));
        }
        spent += on_cpu() - start;
    }
    let speed = |time: Duration| bytes.len() as f64 / 1e6 / time.as_secs_f64().max(1e-9);
    println!(
        "{name:<18} {lines:>9} lines  judge {:>7.0} MB/s  counting lines {:>7.0} MB/s  verdict {}",
        speed(spent),
        speed(counted),
        judge
            .verdict()
            .map_or("none".to_owned(), |verdict| verdict.code.to_string())
    );
}
