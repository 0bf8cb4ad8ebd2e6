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

const FOLDER: &str = "tests/evidence";

/// What a list says of each recording.
fn expected(list: &str) -> BTreeMap<String, Expected> {
    serde_json::from_str(&fs::read_to_string(Path::new(FOLDER).join(list)).unwrap()).unwrap()
}

/// Judges every recording that a list names; gives those for which `right` does not hold. No verdict: the node got ready.
fn judged(list: &str, right: impl Fn(Option<&Verdict>, &Expected) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for (file, expected) in &expected(list) {
        let text = fs::read(Path::new(FOLDER).join(file)).unwrap();
        let told = diagnose(file, text.as_slice()).unwrap();
        let verdict = told.verdict.as_ref();
        let right = right(verdict, expected);
        let Expected { codes, phases } = expected;
        let code = verdict.map_or("ready", |verdict| verdict.code.code());
        println!(
            "{} {file:56} {code:26} sure={:5} {:12} expected {codes:?} {phases:?}",
            if right { "ok   " } else { "WRONG" },
            verdict.is_some_and(|verdict| verdict.sure),
            told.phase
        );
        if !right {
            wrong.push(format!("{file}: {code} instead of {codes:?}"));
        }
    }
    wrong
}

fn is_named(verdict: Option<&Verdict>, expected: &Expected) -> bool {
    match verdict {
        Some(verdict) => expected.codes.iter().any(|code| code == verdict.code.code()),
        None => expected.codes.is_empty(),
    }
}

/// Guests that are broken on purpose, recorded from `ci/guests/broken`.
#[test]
fn what_broken_guests_printed_is_read_right() {
    // A console alone does not tell everything: what is not seen in it must at least not be claimed.
    let wrong = judged("real.json", |verdict, expected| {
        is_named(verdict, expected) || verdict.is_some_and(|verdict| !verdict.sure)
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
            verdict.is_some_and(|verdict| !verdict.sure && verdict.code.weight() < Weight::Fatal)
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

/// A wait that is ended too early is worse than one that is ended late.
#[test]
fn of_a_node_that_gets_ready_nothing_is_sure_on_the_way() {
    let mut ready = expected("whole.json");
    ready.retain(|_, expected| expected.codes.is_empty());
    assert!(!ready.is_empty());
    for name in ready.keys() {
        let text = fs::read_to_string(Path::new(FOLDER).join(name)).unwrap();
        let records: Vec<&str> = text.split_inclusive('\n').collect();
        for seen in (1..records.len()).step_by(3) {
            let told = diagnose(name, records[..seen].concat().as_bytes()).unwrap();
            let verdict = told.verdict.filter(|verdict| verdict.sure);
            assert!(
                verdict.is_none(),
                "{name}, the first {seen} records: {verdict:#?}"
            );
        }
    }
}
