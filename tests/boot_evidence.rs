//! The judge over consoles that real guests printed, broken on purpose (recorded from `ci/guests/broken`).
//! `cargo test --test boot_evidence -- --nocapture` prints the table.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use libvirt_resource::boot::recording::diagnose;
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    codes: Vec<String>,
    #[serde(default)]
    phases: Vec<String>,
}

#[test]
fn what_broken_guests_printed_is_read_right() {
    let folder = Path::new("tests/evidence");
    let expected: BTreeMap<String, Expected> =
        serde_json::from_str(&fs::read_to_string(folder.join("real.json")).unwrap()).unwrap();
    let mut wrong = Vec::new();
    for (file, Expected { codes, phases }) in &expected {
        let text = fs::read(folder.join(file)).unwrap();
        let told = diagnose(file, text.as_slice()).unwrap();
        let verdict = told.verdict.unwrap();
        let right = codes.iter().any(|code| code == verdict.code.code());
        println!(
            "{} {file:48} {:26} sure={:5} {:12} expected {codes:?} {phases:?}",
            if right { "ok   " } else { "WRONG" },
            verdict.code.code(),
            verdict.sure,
            verdict.phase
        );
        // A console alone does not tell everything: what is not seen in it must at least not be claimed.
        if !right && verdict.sure {
            wrong.push(format!("{file}: {} instead of {codes:?}", verdict.code.code()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
