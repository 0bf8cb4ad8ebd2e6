//! The artifact's files with real clients: OpenSSH, Ansible and the shells that people use, against an OpenSSH server on
//! loopback that plays two nodes. Left out, with a line that says so, where that server or a client is not installed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use libvirt_resource::access::{self, ApiAccess};
use libvirt_resource::agent::api::types::{
    Cluster, ClusterState, NodeAddress, NodeInfo, NodeState, PowerState, Proxy, Secret, Versions,
};
use libvirt_resource::first_boot::keys::{ClusterKeys, HostKey};
use libvirt_resource::topology::model::{Accelerator, Networking};

const NODES: [&str; 2] = ["control-1", "worker-1"];

/// A server that plays a node; gone when dropped.
struct Node {
    server: Child,
    port: u16,
    host_key: HostKey,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A cluster of two such nodes, and its artifact in a directory whose path has a space and a percent sign.
struct Bed {
    scratch: tempfile::TempDir,
    nodes: Vec<Node>,
}

impl Bed {
    fn new() -> Option<Self> {
        let sshd = ["/usr/sbin/sshd", "/usr/bin/sshd"]
            .into_iter()
            .find(|path| Path::new(path).exists());
        let Some(sshd) = sshd else {
            println!("left out: no sshd here (openssh-server)");
            return None;
        };
        if !has("ssh") {
            println!("left out: no ssh here (openssh-client)");
            return None;
        }
        if output("id", &["-u"]) == "0" {
            // Its place for privilege separation, which a package's init script makes.
            let _ = std::fs::create_dir_all("/run/sshd");
        }
        let scratch = tempfile::tempdir().unwrap();
        let keys = ClusterKeys::generate(&"brisk-otter-3f9c".parse().unwrap()).unwrap();
        std::fs::write(
            scratch.path().join("authorized_keys"),
            format!("{}\n", keys.login_public),
        )
        .unwrap();
        let nodes: Vec<Node> = NODES
            .iter()
            .map(|name| serve(sshd, scratch.path(), name))
            .collect();
        let bed = Self { scratch, nodes };
        std::fs::create_dir(bed.dir()).unwrap();
        bed.write(&keys);
        Some(bed)
    }

    fn dir(&self) -> PathBuf {
        self.scratch.path().join("my 100% nodes")
    }

    fn write(&self, keys: &ClusterKeys) {
        let user = output("id", &["-un"]);
        let nodes = self
            .nodes
            .iter()
            .zip(NODES)
            .enumerate()
            .map(|(index, (node, name))| NodeInfo {
                name: name.parse().unwrap(),
                role: name.trim_end_matches("-1").parse().unwrap(),
                state: NodeState::Ready,
                power: PowerState::Running,
                ssh_user: user.clone().try_into().unwrap(),
                host_key: node.host_key.public.clone(),
                addresses: vec![NodeAddress {
                    network: "default".parse().unwrap(),
                    address: [10, 9, 0, 11 + index as u8].into(),
                    prefix: 24,
                    mac: "52:54:00:00:00:11".to_owned(),
                }],
                forwards: BTreeMap::from([(22, node.port)]),
                ready_seconds: None,
            });
        let cluster = Cluster {
            fingerprint: libvirt_resource::topology::model::Sha256([7; 32]),
            cluster: "brisk-otter-3f9c".parse().unwrap(),
            state: ClusterState::Ready,
            endpoint: "127.0.0.1:1".parse().unwrap(),
            accelerator: Accelerator::Tcg,
            networking: Networking::Bridges,
            created_at: 0,
            expires_at: 0,
            ready_seconds: None,
            images: vec!["os-image/disk.qcow2".to_owned()],
            versions: Versions {
                resource: String::new(),
                libvirt: String::new(),
                qemu: String::new(),
            },
            login_key: Secret(keys.login_private.clone()),
            proxy: Proxy {
                address: "127.0.0.1:2".parse().unwrap(),
                username: "nodes".to_owned(),
                password: Secret("p".to_owned()),
            },
            nodes: nodes.collect(),
            collect: BTreeMap::new(),
            collected: BTreeMap::new(),
        };
        let secrets = ApiAccess {
            fingerprint: "ab".repeat(32),
            token: Secret("t".to_owned()),
        };
        access::write(&self.dir(), &cluster, &secrets, &BTreeMap::new(), None).unwrap();
    }

    /// Runs a script of sh in the scratch directory; `$DIR` is the artifact's. Gives what it printed.
    fn sh(&self, script: &str) -> String {
        self.shell("sh", script)
    }

    fn shell(&self, shell: &str, script: &str) -> String {
        let mut words = shell.split(' ');
        let result = Command::new(words.next().unwrap())
            .args(words)
            .args(["-c", script])
            .current_dir(self.scratch.path())
            .env("DIR", self.dir())
            .env("HOME", self.scratch.path())
            .env("ANSIBLE_LOCAL_TEMP", self.scratch.path().join("ansible"))
            // No connection is to outlive the test.
            .env("ANSIBLE_SSH_ARGS", "-o ControlMaster=no")
            .env_remove("NODES_DIR")
            .env_remove("SSH_AUTH_SOCK")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let mut said = String::from_utf8_lossy(&result.stdout).into_owned();
        if !result.status.success() {
            let _ = write!(
                said,
                "FAILED {}: {}",
                result.status,
                String::from_utf8_lossy(&result.stderr)
            );
        }
        said.trim_end().to_owned()
    }
}

fn serve(sshd: &str, scratch: &Path, name: &str) -> Node {
    use std::os::unix::fs::PermissionsExt as _;
    let host_key = HostKey::generate().unwrap();
    let key_file = scratch.join(format!("{name}.key"));
    std::fs::write(&key_file, &host_key.private).unwrap();
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    // A port that is free now may be taken a moment later by somebody else.
    for _ in 0..20 {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config = scratch.join(format!("{name}.conf"));
        let text = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {key}\nAuthorizedKeysFile {scratch}/authorized_keys\n\
             PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n\
             Subsystem sftp internal-sftp\nSetEnv NODE={name}\n",
            key = key_file.display(),
            scratch = scratch.display(),
        );
        std::fs::write(&config, text).unwrap();
        let mut server = Command::new(sshd)
            .args(["-D", "-e", "-f"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while server.try_wait().unwrap().is_none() {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Node {
                    server,
                    port,
                    host_key,
                };
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    panic!("sshd does not start");
}

fn has(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .stdout(Stdio::null())
        .status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        println!("left out: no {program} here");
    }
    found
}

fn output(program: &str, args: &[&str]) -> String {
    String::from_utf8(Command::new(program).args(args).output().unwrap().stdout)
        .unwrap()
        .trim()
        .to_owned()
}

#[test]
fn ssh_works_however_it_is_called_and_wherever_the_folder_lies() {
    let Some(bed) = Bed::new() else { return };
    let prints = r#"'printf "%s" "$NODE"'"#;
    let calls = |bed: &Bed| {
        for (call, before) in [
            ("\"$DIR/ssh\"", ""),
            ("\"./my 100% nodes/ssh\"", ""),
            ("./ssh", "cd \"$DIR\" &&"),
            ("\"../my 100% nodes/ssh\"", "cd \"$DIR\" &&"),
            ("sh \"$DIR/ssh\"", ""),
            ("./link", "ln -sf \"my 100% nodes/ssh\" link &&"),
            (
                "./chain",
                "ln -sf \"$PWD/link\" chain && cd / && cd - >/dev/null &&",
            ),
            ("./folder/ssh", "rm -f folder && ln -s \"$DIR\" folder &&"),
            ("ssh", "PATH=\"$DIR:$PATH\" &&"),
            ("ssh", "cd \"$DIR\" && PATH=.:$PATH:. &&"),
            ("\"$DIR/ssh\"", "export CDPATH=/tmp NODES_DIR=/nowhere && cd / &&"),
        ] {
            assert_eq!(
                bed.sh(&format!("{before} {call} worker-1 {prints}")),
                "worker-1",
                "{before} {call}"
            );
        }
        for shell in ["dash", "busybox sh", "bash"]
            .into_iter()
            .filter(|shell| has(shell.split(' ').next().unwrap()))
        {
            assert_eq!(
                bed.sh(&format!("{shell} \"$DIR/ssh\" worker-1 {prints}")),
                "worker-1",
                "{shell}"
            );
        }
    };
    calls(&bed);
    // The next step of a build has it elsewhere.
    let elsewhere = bed.scratch.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::rename(bed.dir(), elsewhere.join("n")).unwrap();
    assert_eq!(bed.sh(&format!("elsewhere/n/ssh worker-1 {prints}")), "worker-1");
    assert_eq!(
        bed.sh(&format!("cd elsewhere/n && ./ssh control-1 {prints}")),
        "control-1"
    );
}

#[test]
fn ssh_passes_arguments_standard_input_and_exit_status() {
    let Some(bed) = Bed::new() else { return };
    assert_eq!(bed.sh("\"$DIR/ssh\" worker-1 echo 'a  b' '\"c  d\"'"), "a b c  d");
    assert_eq!(bed.sh("printf hello | \"$DIR/ssh\" -T worker-1 cat"), "hello");
    assert_eq!(bed.sh("\"$DIR/ssh\" worker-1 exit 7; echo $?"), "7");
    assert_eq!(bed.sh("\"$DIR/ssh\" 10.9.0.12 'echo $NODE'"), "worker-1");
    assert!(bed.sh("\"$DIR/ssh\" nobody-1 true 2>&1").contains("FAILED"));
}

#[test]
fn files_are_copied_by_scp_sftp_and_rsync() {
    let Some(bed) = Bed::new() else { return };
    let to = bed.scratch.path().join("far side");
    std::fs::create_dir(&to).unwrap();
    let far = to.display();
    assert_eq!(
        bed.sh(&format!(
            "echo one >a.txt && \"$DIR/scp\" -q a.txt 'worker-1:{far}/' && cat '{far}/a.txt'"
        )),
        "one"
    );
    assert_eq!(
        bed.sh(&format!(
            "cd '{far}' && \"$DIR/scp\" -q 'worker-1:{far}/a.txt' b.txt && cat b.txt"
        )),
        "one"
    );
    assert_eq!(
        bed.sh(&format!(
            "echo 'get \"{far}/a.txt\" c.txt' | \"$DIR/sftp\" -q -b - worker-1 >/dev/null && cat c.txt"
        )),
        "one"
    );
    if has("rsync") {
        // rsync splits its command at spaces and takes no quotes in old versions: by variable and PATH-free link.
        let script = format!(
            "ln -sfn \"$DIR\" n && rsync -s -e n/ssh a.txt 'worker-1:{far}/d.txt' && cat '{far}/d.txt'"
        );
        assert_eq!(bed.sh(&script), "one");
    }
}

#[test]
fn the_env_is_found_by_every_shell_and_serves_plain_ssh() {
    let Some(bed) = Bed::new() else { return };
    let used = r#"ssh -F "$NODES_DIR/ssh_config" worker-1 'printf "%s" "$NODE"'"#;
    for shell in ["sh", "dash", "busybox sh", "bash", "bash --posix", "zsh"] {
        if !has(shell.split(' ').next().unwrap()) {
            continue;
        }
        for (source, before) in [
            (". \"$DIR/env\"", ""),
            (". \"./my 100% nodes/env\"", ""),
            (". ./folder/env", "rm -f folder && ln -s \"$DIR\" folder &&"),
            (
                ". \"$DIR/env\"",
                "set -eu; export NODES_DIR=/nowhere CDPATH=/tmp;",
            ),
        ] {
            let plain = format!("{before} {source} && {used}");
            assert_eq!(bed.shell(shell, &plain), "worker-1", "{shell}: {plain}");
        }
        let nested = format!("(. \"$DIR/env\" && {used}); true");
        assert_eq!(bed.shell(shell, &nested), "worker-1", "{shell}: {nested}");
        let leaves = bed.shell(
            shell,
            ". \"$DIR/env\" && set | grep -i '^_nodes' | grep -v '^_=' ; echo \"$ANSIBLE_INVENTORY\"",
        );
        assert_eq!(
            leaves,
            format!("{}/inventory.yml", bed.dir().canonicalize().unwrap().display()),
            "{shell}"
        );
    }
}

#[test]
fn a_key_whose_mode_was_changed_on_the_way_works() {
    let Some(bed) = Bed::new() else { return };
    let call = "\"$DIR/ssh\" worker-1 'echo $NODE'";
    assert_eq!(
        bed.sh(&format!("chmod 644 \"$DIR/id_ed25519\" && {call} 2>&1")),
        "worker-1"
    );
    assert_eq!(
        bed.sh("chmod 660 \"$DIR/id_ed25519\" && . \"$DIR/env\" && ls -l \"$DIR/id_ed25519\" | cut -c1-10"),
        "-rw-------"
    );
    // As on a read-only mount: the mode cannot be mended.
    let fake = "mkdir -p fake && printf '#!/bin/sh\\nexit 1\\n' >fake/chmod && /bin/chmod 755 fake/chmod && PATH=$PWD/fake:$PATH";
    let temporary = "mkdir -p tmp && export TMPDIR=$PWD/tmp";
    let script = format!(
        "chmod 644 \"$DIR/id_ed25519\" && {fake} && {temporary} && {call} 2>&1; \"$DIR/ssh\" worker-1 exit 7; echo $?; ls tmp"
    );
    assert_eq!(bed.sh(&script), "worker-1\n7");
    assert_eq!(
        bed.sh(&format!(
            "{fake} && echo two >a.txt && \"$DIR/scp\" -q a.txt \"worker-1:$PWD/b.txt\" && cat b.txt"
        )),
        "two"
    );
}

#[test]
fn an_old_openssh_gets_its_files_by_argument() {
    let Some(bed) = Bed::new() else { return };
    let fake = "mkdir -p old && printf '#!/bin/sh\\n[ \"$1\" != -V ] || { echo OpenSSH_8.0p1 >&2; exit; }\\nprintf \"%%s\\\\n\" \"$@\"\\n' >old/ssh && chmod 755 old/ssh";
    let said = bed.sh(&format!(
        "{fake} && PATH=$PWD/old:$PATH && \"$DIR/ssh\" worker-1 uptime"
    ));
    let dir = bed.dir().canonicalize().unwrap().display().to_string();
    let expected = format!(
        "-F\n{dir}/ssh_config\n-o\nIdentityFile=\"{dir}/id_ed25519\"\n-o\nUserKnownHostsFile=\"{dir}/known_hosts\"\nworker-1\nuptime"
    );
    assert_eq!(said, expected);
    assert!(
        bed.sh("PATH=/nowhere; /bin/sh \"$DIR/ssh\" worker-1 2>&1")
            .contains("FAILED")
    );
}

#[test]
fn another_host_key_is_refused() {
    let Some(bed) = Bed::new() else { return };
    let hosts = bed.dir().join("known_hosts");
    let text = std::fs::read_to_string(&hosts).unwrap();
    // Each node's key under the other's name.
    let keys: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(_, key)| key)
        .collect();
    let swapped = text
        .replace(keys[0], "OTHER")
        .replace(keys[1], keys[0])
        .replace("OTHER", keys[1]);
    std::fs::write(&hosts, swapped).unwrap();
    let said = bed.sh("\"$DIR/ssh\" worker-1 true 2>&1");
    assert!(said.contains("Host key verification failed"), "{said}");
}

#[test]
fn ansible_reaches_the_nodes_by_the_inventory() {
    let Some(bed) = Bed::new() else { return };
    if !has("ansible") {
        return;
    }
    // Ansible hands paths to ssh, which takes a percent sign in them for a token.
    let script = "mv \"$DIR\" 'my nodes' && ansible -i 'my nodes/inventory.yml' all -m raw -a 'echo I am $NODE' 2>&1 | grep '^I am' | tr -d '\\r' | sort";
    assert_eq!(bed.sh(script), "I am control-1\nI am worker-1");
    let script = ". './my nodes/env' && cd / && ansible worker -m raw -a 'echo I am $NODE' 2>&1 | grep '^I am' | tr -d '\\r'";
    assert_eq!(bed.sh(script), "I am worker-1");
}
