//! `nodectl diagnose` as it is called: what it prints, and its exit status.

use std::path::PathBuf;

use assert_cmd::Command;

fn diagnose(file: &str) -> Command {
    let mut command = Command::cargo_bin("nodectl").unwrap();
    command.env_remove("CLICOLOR_FORCE").arg("diagnose").arg(file);
    command
}

fn kept(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    (directory, path)
}

#[test]
fn a_node_that_got_ready_is_status_0() {
    let (_kept, path) = kept(
        "node.jsonl",
        concat!(
            "{\"at\":0,\"kind\":\"context\",\"node\":\"worker-1\",\"ssh_user\":\"root\"}\n",
            "{\"at\":2,\"kind\":\"console\",\"text\":\"[    0.000000] Linux version 6.1 x\\r\\n\"}\n",
            "{\"at\":9.5,\"kind\":\"ssh\",\"outcome\":\"logged-in\"}\n"
        ),
    );
    let output = diagnose(&path).assert().code(0).get_output().stdout.clone();
    let text = String::from_utf8(output).unwrap();
    assert!(
        text.starts_with("worker-1: ready after 9.5 s\nSlowest: kernel, 7.5 s\n"),
        "{text}"
    );
}

#[test]
fn a_failure_is_status_1_and_json_tells_it_to_programs() {
    let (_kept, path) = kept("console.log", "SeaBIOS (version 1)\nNo bootable device.\n");
    diagnose(&path).assert().code(1);
    let output = diagnose(&path)
        .arg("--json")
        .assert()
        .code(1)
        .get_output()
        .stdout
        .clone();
    let told: serde_json::Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(told["verdict"]["code"], "no-bootable-device");
    assert_eq!(told["verdict"]["sure"], true);
}

#[test]
fn a_file_that_cannot_be_read_is_status_2() {
    let output = diagnose("/nonexistent/file")
        .assert()
        .code(2)
        .get_output()
        .stderr
        .clone();
    let text = String::from_utf8(output).unwrap();
    assert!(
        text.contains("/nonexistent/file cannot be read") && text.contains("help: "),
        "{text}"
    );
    assert!(!text.contains('\x1b'), "{text}");
    diagnose("/").assert().code(2);
}

#[test]
fn colour_is_for_those_who_ask() {
    let (_kept, path) = kept("console.log", "SeaBIOS (version 1)\nNo bootable device.\n");
    let plain = diagnose(&path).output().unwrap().stdout;
    assert!(!plain.contains(&0x1b));
    let coloured = diagnose(&path)
        .env("CLICOLOR_FORCE", "1")
        .env_remove("NO_COLOR")
        .output()
        .unwrap()
        .stdout;
    assert!(coloured.contains(&0x1b));
}

/// A real console of Debian 13 with cloud-init, up to its login prompt: nothing in it is a failure.
#[test]
fn a_console_of_a_healthy_system_shows_no_failure() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/evidence/debian-13-up.console.txt");
    let output = diagnose(&path.display().to_string())
        .arg("--json")
        .output()
        .unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["verdict"]["code"], "unknown", "{:#}", told["verdict"]);
    assert_eq!(told["verdict"]["sure"], false);
    assert_eq!(told["boots"], 1);
    let phases: Vec<&str> = told["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["phase"].as_str().unwrap())
        .collect();
    assert_eq!(
        phases,
        [
            "firmware",
            "bootloader",
            "kernel",
            "initramfs",
            "userspace",
            "first-boot",
            "address"
        ]
    );
}
