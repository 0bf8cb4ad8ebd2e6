"""Boots a disk with plain QEMU, as the product's machine is made, and keeps what it says."""

import base64
import json
import re
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from .disk import run

# After the sign, for what follows it.
GRACE = 4
COLUMNS, LINES = 80, 25
# What is longer loses ordinary kernel messages in its middle: a recording is read by people too.
LONGEST = 18_000


def qemu(disk, seed, memory, cpus, console, monitor):
    return ["qemu-system-x86_64", "-accel", "tcg", "-machine", "q35,vmport=off,graphics=off", "-cpu", "max,la57=off", "-smp", str(cpus), "-m", str(memory),
            "-display", "none", "-vga", "std", "-nodefaults", "-no-user-config", "-serial", f"file:{console}",
            "-qmp", f"unix:{monitor},server=on,wait=off",
            "-drive", f"if=none,id=root,file={disk},format=qcow2,snapshot=on,cache=unsafe", "-device", "virtio-blk-pci,drive=root,bootindex=1,serial=root",
            "-drive", f"if=none,id=seed,file={seed},format=raw,readonly=on", "-device", "virtio-blk-pci,drive=seed",
            "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,mac=52:54:00:00:00:11,romfile=",
            "-device", "virtio-rng-pci", "-device", "pvpanic", "-device", "virtio-balloon-pci", "-device", "virtio-serial-pci"]


def record(breakage, bases):
    """(console, screen, seconds from power on to the sign or None): screen where the serial port is silent, else None."""
    with tempfile.TemporaryDirectory(dir=bases.work) as made:
        made = Path(made)
        breakage.make(bases, made / "disk.qcow2")
        seed(made / "seed", made, breakage)
        defaults = breakage.params["defaults"]
        console, monitor = made / "console", made / "monitor"
        console.touch()
        machine = subprocess.Popen(qemu(made / "disk.qcow2", made / "seed", defaults["memory"].removesuffix("iB"), defaults["cpus"], console, monitor)
                                   + firmware_config(made, breakage),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        begun, sign, text, seen = time.monotonic(), None, None, ""
        try:
            while machine.poll() is None and time.monotonic() - begun < breakage.record:
                time.sleep(0.3)
                if not breakage.serial:
                    seen = screen(monitor) or seen
                text = seen if not breakage.serial else console.read_text(errors="replace")
                if breakage.sign and re.search(breakage.sign, plain(text)):
                    sign = time.monotonic() - begun
                    break
            time.sleep(GRACE if machine.poll() is None else 0)
            if not breakage.serial and machine.poll() is None:
                seen = screen(monitor) or seen
        finally:
            if machine.poll() is None:
                machine.kill()
            error = machine.communicate()[1].decode(errors="replace")
        if machine.returncode and machine.returncode > 0:
            raise OSError(error)
        return console.read_bytes(), (None if breakage.serial else seen), sign


def plain(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1bc|\r", "", text)


def screen(monitor):
    """The text that VGA shows. Linux scrolls by moving the screen's start within the text memory, so that the CRT controller is
    asked for it; meanwhile the machine stands still, and the controller's index is put back, since the guest may be using it."""
    with socket.socket(socket.AF_UNIX) as peer, tempfile.NamedTemporaryFile() as file:
        try:
            peer.settimeout(20)
            peer.connect(str(monitor))
            answers = peer.makefile("r")

            def ask(command, **arguments):
                peer.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
                while True:
                    answer = json.loads(answers.readline())
                    if "return" in answer or "error" in answer:
                        return answer.get("return")

            def port(number, write=None):
                text = f"i /1bx {number:#x}" if write is None else f"o /1bx {number:#x} {write:#x}"
                said = ask("human-monitor-command", **{"command-line": text}) or ""
                return int(said.split("=")[1], 16) if "=" in said else 0

            ask("qmp_capabilities")
            ask("stop")
            index, start = port(0x3D4), 0
            for register in 0x0C, 0x0D:
                port(0x3D4, register)
                start = start << 8 | port(0x3D5)
            port(0x3D4, index)
            ask("pmemsave", val=0xB8000 + 2 * start, size=COLUMNS * LINES * 2, filename=file.name)
            ask("cont")
        except (OSError, ValueError):
            return ""
        cells = Path(file.name).read_bytes()[::2].decode("cp437")
    lines = (cells[at:at + COLUMNS].replace("\0", " ").rstrip() for at in range(0, len(cells), COLUMNS))
    return "\n".join(lines).rstrip() + "\n"


def seed(out, work, breakage):
    """A NoCloud disk with the same content as the product's."""
    key = work / "key"
    for name in ("key", "host"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "recording", "-f", work / name)
    login = Path(f"{key}.pub").read_text().strip()
    private = "".join(f"    {line}\n" for line in (work / "host").read_text().splitlines())
    ours = (f"#cloud-config\ndisable_root: false\nssh_authorized_keys:\n  - {login}\nssh_deletekeys: true\nssh_keys:\n  ed25519_private: |\n{private}"
            f"  ed25519_public: {(work / 'host.pub').read_text().strip()}\nmanage_etc_hosts: false\npreserve_hostname: false\n")
    user = params_user(breakage)
    if user:
        ours += f"users:\n  - default\n  - name: \"{user}\"\n    sudo: ALL=(ALL) NOPASSWD:ALL\n    ssh_authorized_keys:\n      - {login}\n"
    if breakage.user_data:
        kind = "text/jinja2" if breakage.user_data.startswith("## template: jinja") else "text/cloud-config"
        part = "--next\nContent-Type: {}; charset=\"utf-8\"\nMIME-Version: 1.0\n\n{}\n"
        ours = ("Content-Type: multipart/mixed; boundary=\"next\"\nMIME-Version: 1.0\n\n" + part.format(kind, breakage.user_data)
                + part.format("text/cloud-config", ours) + "--next--\n")
    network = breakage.network_config or 'version: 2\nethernets:\n  nic0:\n    match:\n      macaddress: "52:54:00:00:00:11"\n    dhcp4: true\n'
    meta = f"instance-id: brisk-otter-3f9c-node-1\nlocal-hostname: node-1\npublic-keys:\n  - {login}\n"
    with open(out, "wb") as disk:
        disk.truncate(4 << 20)
    run("mkfs.vfat", "-n", "CIDATA", out)
    for name, text in ("meta-data", meta), ("user-data", ours), ("network-config", network):
        (work / name).write_text(text)
        run("mcopy", "-i", out, work / name, f"::{name}")


def firmware_config(work, breakage):
    """Options that hand over an Ignition configuration as the product does: the row's, merged into one with our key and host key."""
    if breakage.ignition is None:
        return []

    def data(content):
        return "data:;base64," + base64.b64encode(content).decode()

    def file(path, mode, content):
        return {"path": path, "mode": mode, "overwrite": True, "contents": {"source": data(content)}}

    whole = {"ignition": {"version": json.loads(breakage.ignition)["ignition"]["version"],
                          "config": {"merge": [{"source": data(breakage.ignition.encode())}]}},
             "passwd": {"users": [{"name": "root", "sshAuthorizedKeys": [(work / "key.pub").read_text().strip()]}]},
             "storage": {"files": [file("/etc/hostname", 0o644, b"node-1\n"),
                                   file("/etc/ssh/ssh_host_ed25519_key", 0o600, (work / "host").read_bytes()),
                                   file("/etc/ssh/ssh_host_ed25519_key.pub", 0o644, (work / "host.pub").read_bytes())]}}
    (work / "config.ign").write_text(json.dumps(whole))
    return ["-fw_cfg", f"name=opt/com.coreos/config,file={work / 'config.ign'}"]


def params_user(breakage):
    user = breakage.params.get("ssh_user")
    return None if user in (None, "root") else user


def shortened(console):
    """A recording without what every boot says in its middle, and without the configuration that Ignition prints when it fails."""
    console = re.sub(rb"(base64,[A-Za-z0-9+/]{16})[A-Za-z0-9+/=]{40,}", rb"\1...", console)
    if len(console) <= LONGEST:
        return console
    lines = console.splitlines(keepends=True)
    kernel = [n for n, line in enumerate(lines) if re.match(rb"\[ *\d+\.\d+\] ", line)]
    # The first of each boot tell what boots; of the rest those go that name a device or a table, from the first on.
    telling = rb"(?i)error|fail|panic|oom|out of memory|kill|reboot|vd[a-z]\b|ext4|Linux version|Command line|Run /"
    spare = [n for n in kernel[30:-40] if not re.search(telling, lines[n])]
    size, gone = len(console), set()
    for n in spare:
        if size <= LONGEST:
            break
        size -= len(lines[n])
        gone.add(n)
    return b"".join(line for n, line in enumerate(lines) if n not in gone)
