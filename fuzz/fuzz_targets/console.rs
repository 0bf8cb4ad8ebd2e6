//! Any bytes as a console, or as a recording: no panic, bounded memory, and no difference by where the bytes are cut.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use libvirt_resource::boot::evidence::{Evidence, Outcome, Seen};
use libvirt_resource::boot::judge::Judge;
use libvirt_resource::boot::recording::diagnose;
use libvirt_resource::boot::show;

fn judged(pieces: &[&[u8]]) -> Judge {
    let mut judge = Judge::new();
    let at = Duration::from_secs(1);
    for piece in pieces {
        let bytes = piece.to_vec();
        judge.see(Seen::new(at, Evidence::Console { bytes }));
    }
    let outcome = Outcome::Unknown;
    judge.see(Seen::new(at * 9, Evidence::End { outcome }));
    judge
}

fuzz_target!(|bytes: &[u8]| {
    let whole = judged(&[bytes]);
    let (one, other) = bytes.split_at(bytes.first().map_or(0, |at| usize::from(*at).min(bytes.len())));
    let cut = judged(&[one, other]);
    assert_eq!(whole.verdict(), cut.verdict());
    assert_eq!(whole.timeline(), cut.timeline());
    assert!(whole.timeline().len() <= 121);
    if let Ok(told) = diagnose("fuzz", bytes) {
        assert!(!show::diagnosis(&told, false).contains('\x1b'));
    }
});
