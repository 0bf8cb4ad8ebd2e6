//! The judge over recorded consoles. `cargo test --test boot_evidence -- --nocapture` prints the table.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use libvirt_resource::boot::cause::Weight;
use libvirt_resource::boot::recording::diagnose;
use libvirt_resource::boot::verdict::Verdict;
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    codes: Vec<String>,
    #[serde(default)]
    phases: Vec<String>,
}

/// Judges every console that a list names; gives those for which `right` does not hold.
fn judged(list: &str, right: impl Fn(&Verdict, &Expected) -> bool) -> Vec<String> {
    let folder = Path::new("tests/evidence");
    let expected: BTreeMap<String, Expected> =
        serde_json::from_str(&fs::read_to_string(folder.join(list)).unwrap()).unwrap();
    let mut wrong = Vec::new();
    for (file, expected) in &expected {
        let text = fs::read(folder.join(file)).unwrap();
        let told = diagnose(file, text.as_slice()).unwrap();
        let verdict = told.verdict.unwrap();
        let right = right(&verdict, expected);
        let Expected { codes, phases } = expected;
        println!(
            "{} {file:56} {:26} sure={:5} {:12} expected {codes:?} {phases:?}",
            if right { "ok   " } else { "WRONG" },
            verdict.code.code(),
            verdict.sure,
            verdict.phase
        );
        if !right {
            wrong.push(format!("{file}: {} instead of {codes:?}", verdict.code.code()));
        }
    }
    wrong
}

fn is_named(verdict: &Verdict, expected: &Expected) -> bool {
    expected.codes.iter().any(|code| code == verdict.code.code())
}

/// Guests that are broken on purpose, recorded from `ci/guests/broken`.
#[test]
fn what_broken_guests_printed_is_read_right() {
    // A console alone does not tell everything: what is not seen in it must at least not be claimed.
    let wrong = judged("real.json", |verdict, expected| {
        is_named(verdict, expected) || !verdict.sure
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Other firmware and other distributions.
#[test]
fn what_other_systems_print_is_read_right() {
    let wrong = judged("other.json", |verdict, expected| {
        let named = is_named(verdict, expected);
        // Of a healthy system nothing may be claimed, whatever its console quotes and complains of.
        let healthy = expected.codes.is_empty();
        if healthy {
            !verdict.sure && verdict.code.weight() < Weight::Fatal
        } else {
            named
        }
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// All that was seen of real boots, not the console alone: devices, screen, addresses, logins, as a cluster records it.
#[test]
fn what_was_seen_of_whole_boots_is_judged_right() {
    let wrong = judged("whole.json", is_named);
    assert!(wrong.is_empty(), "{wrong:#?}");
}
