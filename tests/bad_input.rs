//! Bad requests and topologies, and what the user sees of each. The table is the snapshot beside this file;
//! `cargo test --test bad_input -- --nocapture` prints it.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;

use libvirt_resource::concourse::request;
use libvirt_resource::topology::document::from_yaml;
use libvirt_resource::topology::{Inputs, validate};

/// The inputs of the put that all of these belong to.
fn step() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("os-image/disk.qcow2", "QFI"),
        ("os-image/version", "13"),
        (
            "repo/ci/nodes.yml",
            "image: {file: os-image/disk.qcow2}\nnodes: {worker: {count: 3, memory: 2 GB}}\n",
        ),
        ("repo/ci/tab.yml", "nodes:\n\tworker: {count: 3}\n"),
        ("repo/ci/broken.yml", "nodes:\n  worker: {count: 3\n"),
        ("repo/ci/broken.json", "{\"nodes\": {\"worker\": }}\n"),
        (
            "repo/ci/twice.yml",
            "image: {file: os-image/disk.qcow2}\nnodes: {worker: {cpus: 1, cpus: 2}}\n",
        ),
        (
            "repo/ci/merge.yml",
            "x: &x {cpus: 1}\nnodes:\n  worker:\n    <<: *x\n",
        ),
        ("repo/ci/empty.yml", "# later\n"),
        ("repo/ci/list.yml", "- nodes\n"),
        ("repo/ci/no-head.yml", "packages: [vim]\n"),
        ("repo/ci/bad-cloud.yml", "#cloud-config\npackages: [vim\n"),
        ("repo/ci/empty", ""),
        ("repo/ci/version3.yml", "version: 3\n"),
        ("repo/ci/node.bu", "variant: fcos\nversion: 1.5.0\n"),
        ("repo/ci/old.ign", "{\"ignition\": {\"version\": \"2.2.0\"}}"),
    ] {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    fs::write(
        folder.path().join("repo/ci/long.yml"),
        "#cloud-config\n".repeat(100_000),
    )
    .unwrap();
    fs::write(folder.path().join("repo/ci/bomb.yml"), bomb()).unwrap();
    symlink("/etc/passwd", folder.path().join("repo/passwd")).unwrap();
    folder
}

/// Nine aliases of nine aliases of nine …: 9⁸ values, were they written out.
fn bomb() -> String {
    let line = |n: usize| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "));
    "a0: &a0 [x]\n".to_owned() + &(1..9).map(line).collect::<String>()
}

/// Topologies, as they would stand in a file; `…` stands for `image: {file: os-image/disk.qcow2}`.
const TOPOLOGIES: &[&str] = &[
    "nodes: {worker: }",
    "…",
    "…\nnodes: {}",
    "nodes: {worker: }\ndefaults: 2GiB",
    "…\nnodes: [worker]",
    "…\nnodes: {worker: 3}",
    "…\nnodes: {Worker: }",
    "…\nnodes: {22: }",
    "…\nnodes: {localhost: }",
    "…\nnodes: {worker: {count: 2}, worker-2: }",
    "…\nnodes: {worker: {count: 65}}",
    "…\nnodes: {worker: {count: 40}, control: {count: 40}}",
    "…\nnodes: {worker: {count: \"3\"}}",
    "…\nnodes: {worker: {count: 1.5, cpus: 0, memory: 16MiB, disk: 100TiB}}",
    "…\nnodes: {worker: {memory: 2 GB}}",
    "…\nnodes: {worker: {memory: 2048}}",
    "…\nnodes: {worker: {memory: 100000KiB, disk: [20GiB]}}",
    "…\nnodes: {worker: {memroy: 2GiB, ram: 2GiB, lifetime: 1h}}",
    "…\nmemory: 2GiB\nnodes: {worker: }",
    "…\nnode: {worker: }",
    "…\ndefaults: {count: 3}\nnodes: {worker: }",
    "…\nnodes: {worker: {extra_disks: [{size: 1GiB, serial: a}, {size: 1GiB, serial: a}, {serial: 7}, {size: 0B, serial: a/b}]}}",
    "…\nnodes: {worker: {networks: [storage]}}",
    "…\nnodes: {worker: {networks: []}}",
    "…\nnodes: {worker: {networks: [default, default]}}",
    "…\nnetworks: {a: {nat: auto}, b: {isolated: auto}}\nnodes: {worker: }",
    "…\nnetworks: {default: {nat: auto, isolated: auto}, b: {mtu: 9000}, c: auto}\nnodes: {worker: }",
    "…\nnetworks: {default: {nat: 10.9.0.5/24}}\nnodes: {worker: }",
    "…\nnetworks: {default: {nat: 10.9.0.0}}\nnodes: {worker: }",
    "…\nnetworks: {default: {nat: 8.8.8.0/24}}\nnodes: {worker: }",
    "…\nnetworks: {default: {nat: 10.9.0.0/30}}\nnodes: {worker: }",
    "…\nnetworks: {default: {nat: \"fd00::/64\"}}\nnodes: {worker: }",
    "…\nnetworks: {default: {nat: 10.9.0.0/29}}\nnodes: {worker: {count: 6}}",
    "…\nnetworks: {default: {nat: 10.9.0.0/24}, b: {isolated: 10.9.0.128/25}}\navoid: [10.9.0.0/16]\nnodes: {worker: }",
    "…\nnetworks: {default: {nat: auto, mtu: 100}}\nnodes: {worker: }",
    "…\navoid: [ten, 10.0.0.0/40]\nnodes: {worker: }",
    "…\nforward: [0, 70000, ssh]\nnodes: {worker: }",
    "…\nssh_user: \"root; reboot\"\nnodes: {worker: }",
    "…\nready: {command: \"\", timeout: 5 min}\nnodes: {worker: }",
    "…\nready: {timeout: 300}\nnodes: {worker: }",
    "…\ncollect: {kubeconfig: {node: worker, path: admin.conf}, ssh: {node: worker-1, path: /x}, k: {nod: worker-1}}\nnodes: {worker: }",
    "…\nlifetime: 121h\nnodes: {worker: }",
    "…\nlifetime: forever\nnodes: {worker: }",
    "…\non_failure: kepe\naccelerator: KVM\nnodes: {worker: }",
    "image: os-image/disk.qcow2\nnodes: {worker: }",
    "image: {file: os-image/disk.qcow}\nnodes: {worker: }",
    "image: {file: os-imag/disk.qcow2}\nnodes: {worker: }",
    "image: {file: os-image}\nnodes: {worker: }",
    "image: {file: /var/lib/disk.qcow2}\nnodes: {worker: }",
    "image: {file: repo/../os-image/disk.qcow2}\nnodes: {worker: }",
    "image: {file: repo/passwd}\nnodes: {worker: }",
    "image: {file: \"os-image/\\e[31mdisk\"}\nnodes: {worker: }",
    "image: {file: os-image/disk.qcow2, box: os-image/x.box}\nnodes: {worker: }",
    "image: {url: \"https://example.com/disk.qcow2\"}\nnodes: {worker: }",
    "image: {url: \"ftp://example.com/disk.qcow2\", sha256: abc}\nnodes: {worker: }",
    "image: {url: \"https://me:hunter2@example.com/disk.qcow2\", sha256: 12}\nnodes: {worker: }",
    "…\nfirst_boot: {user_data: repo/ci/no-head.yml}\nnodes: {worker: }",
    "…\nfirst_boot: {user_data: repo/ci/bad-cloud.yml}\nnodes: {worker: }",
    "…\nfirst_boot: {user_data: repo/ci/empty, network_config: repo/ci/version3.yml}\nnodes: {worker: }",
    "…\nfirst_boot: {user_data: repo/ci/long.yml}\nnodes: {worker: }",
    "…\nfirst_boot: {ignition: repo/ci/node.bu}\nnodes: {worker: }",
    "…\nfirst_boot: {ignition: repo/ci/old.ign}\nnodes: {worker: }",
    "…\nfirst_boot: {ignition: repo/ci/old.ign, user_data: repo/ci/no-head.yml}\nnodes: {worker: }",
    "…\nnodes: {worker: {count: ((count))}}",
];

/// Requests to `out`; `T` stands for a good token.
const PUTS: &[&str] = &[
    "",
    "nodes",
    "{\"source\": {\"token\": T},}",
    "[]",
    "{\"source\": {}, \"params\": {\"topology\": \"repo/ci/nodes.yml\"}}",
    "{\"source\": {\"token\": \"hunter2\"}}",
    "{\"source\": \"hunter2\"}",
    "{\"source\": {\"token\": 1234567890123456}}",
    "{\"source\": {\"token\": \"((nodes.token))\"}}",
    "{\"source\": {\"token\": \"two words of a secret\"}}",
    "{\"source\": {\"token\": T, \"tokn\": 1, \"uri\": 2}}",
    "{\"source\": {\"token\": T}, \"params\": {}}",
    "{\"source\": {\"token\": T}, \"params\": \"repo/ci/nodes.yml\"}",
    "{\"source\": {\"token\": T}, \"params\": {\"topology\": \"repo/ci/nodes.yml\", \"lifetime\": \"1x\"}}",
    "{\"source\": {\"token\": T}, \"params\": {\"topology\": \"repo/ci/node.yml\"}}",
    "{\"source\": {\"token\": T}, \"params\": {\"topology\": \"ci/nodes.yml\"}}",
    "{\"source\": {\"token\": T}, \"params\": {\"topology\": {\"nodes\": {}}}}",
    "{\"source\": {\"token\": T}, \"params\": {\"topology\": \"repo/ci/tab.yml\"}}",
    "{\"source\": {\"token\": T}, \"params\": {\"topology\": \"repo/ci/broken.yml\"}}",
    "{\"source\": {\"token\": T}, \"params\": {\"topology\": \"repo/ci/broken.json\"}}",
    "{\"source\": {\"token\": T}, \"params\": {\"topology\": \"repo/ci/twice.yml\"}}",
    "{\"source\": {\"token\": T}, \"params\": {\"topology\": \"repo/ci/merge.yml\"}}",
    "{\"source\": {\"token\": T}, \"params\": {\"topology\": \"repo/ci/bomb.yml\"}}",
    "{\"source\": {\"token\": T}, \"params\": {\"topology\": \"repo/ci/empty.yml\"}}",
    "{\"source\": {\"token\": T}, \"params\": {\"topology\": \"repo/ci/list.yml\"}}",
    "{\"source\": {\"token\": T}, \"params\": {\"topology\": \"repo/ci/long.yml\"}}",
    "{\"source\": {\"token\": T}, \"params\": {\"topology\": \"repo/ci/nodes.yml\", \"nodes\": {\"a\": null}, \"nodes\": {}}}",
    "{\"source\": {\"token\": T}, \"params\": {\"action\": \"destory\"}}",
    "{\"source\": {\"token\": T}, \"params\": {\"action\": \"destroy\"}}",
    "{\"source\": {\"token\": T}, \"params\": {\"action\": \"destroy\", \"cluster\": \"nodes\"}}",
    "{\"source\": {\"token\": T}, \"params\": {\"action\": \"destroy\", \"cluster\": \"repo\", \"nodes\": {}}}",
    "{\"source\": {\"token\": T}, \"params\": {\"topology\": \"repo/ci/nodes.yml\", \"cluster\": \"repo\", \"nodes\": {\"a\": null}}}",
];

/// Requests to `in`.
const GETS: &[&str] = &[
    "{\"source\": {\"token\": T}}",
    "{\"source\": {\"token\": T}, \"version\": {\"cluster\": \"x\", \"endpoint\": \"localhost:1\", \"fingerprint\": \"ab\", \"state\": \"reday\"}}",
    "{\"source\": {\"token\": T}, \"version\": {\"ref\": \"abc\"}, \"params\": {\"depth\": 1}}",
];

/// Requests to `check`.
const CHECKS: &[&str] = &[
    "{\"source\": {\"url\": \"x\"}}",
    "{\"source\": {}, \"version\": {\"cluster\": 1}}",
    "{\"source\": []}",
];

fn table() -> String {
    let folder = step();
    let inputs = Inputs::of_step(folder.path());
    let mut table = String::new();
    let mut row = |who: &str, case: &str, seen: Option<String>| {
        let seen = seen.unwrap_or_else(|| panic!("this was taken for good: {case}"));
        let _ = writeln!(table, "{who} | {}", case.replace('\n', "\n    | "));
        seen.lines()
            .for_each(|line| table.push_str(&format!("      → {line}\n")));
    };
    for case in TOPOLOGIES {
        let text = case.replace('…', "image: {file: os-image/disk.qcow2}");
        let seen = from_yaml(&text).and_then(|raw| validate(&raw, &inputs)).err();
        row("yml", case, seen.map(|problems| problems.to_string()));
    }
    let filled = |case: &str| {
        case.replace("T}", "\"0123456789abcdef\"}")
            .replace("T,", "\"0123456789abcdef\",")
    };
    for case in PUTS {
        let seen = request::read_out(filled(case).as_bytes(), &inputs).err();
        row("out", case, seen.map(|problems| problems.to_string()));
    }
    for case in GETS {
        row(
            "in ",
            case,
            request::read_in(filled(case).as_bytes())
                .err()
                .map(|problems| problems.to_string()),
        );
    }
    for case in CHECKS {
        row(
            "chk",
            case,
            request::read_check(filled(case).as_bytes())
                .err()
                .map(|problems| problems.to_string()),
        );
    }
    table
}

#[test]
fn what_the_user_sees() {
    let table = table();
    println!("{table}");
    assert!(
        !table.contains("hunter2@") || !table.contains("→ hunter2"),
        "a secret is shown"
    );
    for line in table.lines().filter(|line| line.trim_start().starts_with('→')) {
        assert!(
            !line.contains("hunter2") && !line.contains("0123456789abcdef"),
            "a secret is shown: {line}"
        );
        assert!(!line.contains('\u{1b}'), "a terminal code is shown: {line}");
    }
    insta::assert_snapshot!(table);
}
