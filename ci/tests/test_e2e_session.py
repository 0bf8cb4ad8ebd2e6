"""`nodectl session`: libvirt for a command of the user's own, in a privileged task, and nothing after it."""

import pytest
from cluster import disks, image, machine, start, task  # noqa: F401

VIRTUAL_MACHINE = """
<domain type='qemu'><name>own</name><memory unit='MiB'>128</memory><os><type arch='x86_64'>hvm</type></os>
<devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/var/lib/libvirt/images/own.qcow2'/><target dev='vda' bus='virtio'/></disk>
<interface type='network'><source network='default'/><model type='virtio'/></interface></devices></domain>
"""

# Behind every session: what may be left of it.
LEFT = "; echo; echo == left; cat /proc/[0-9]*/comm 2>/dev/null | grep -E '^(qemu-system|libvirtd|virtlogd|dnsmasq|sleep)'; ls /sys/class/net | grep -v -E '^(lo|eth0)$'; iptables -S | grep -c LIBVIRT"

SESSIONS = {
    "a machine of its own": (f"""
cat > /tmp/own.xml <<'X'
{VIRTUAL_MACHINE}
X
mkdir -p /var/lib/libvirt/images; echo mine > /var/lib/libvirt/images/mine; cp os/tiny.qcow2 /var/lib/libvirt/images/own.qcow2
nodectl session -- sh -ec 'test "$LIBVIRT_DEFAULT_URI" = qemu:///system; virsh -q create /tmp/own.xml; virsh -q list; virsh -q vol-list default; virsh -q net-list
for n in $(seq 60); do virsh -q net-dhcp-leases default | grep ipv4 && break; sleep 2; done; sleep 1000 & exit 5'
echo status $?; cat /var/lib/libvirt/images/mine""", ["own", "running", "default", "ipv4", "status 5", "mine"]),
    "no such command": ("nodectl session -- no-such; echo status $?", ["error: no-such: cannot be run", "status 127"]),
    "libvirtd killed": ("nodectl session -- sh -c 'kill -9 $(pidof libvirtd); sleep 30'; echo status $?", ["libvirtd died", "status 143"]),
    "told to stop": ("nodectl session -- sleep 60 & sleep 6; kill $!; wait $!; echo status $?", ["status 143"]),
    "killed": ("nodectl session -- sleep 60 & sleep 6; kill -9 $!; sleep 9; nodectl session -- true; ls /scratch/libvirt-resource/sessions | wc -l", ["\n0\n"]),
    "one beside another": ("nodectl session -- sleep 12 & sleep 6; nodectl session -- true; echo status $?; wait", ["already holds", "status 69"]),
}


@pytest.mark.parametrize("what", SESSIONS)
def test_a_session(machine, image, disks, what):
    script, expected = SESSIONS[what]
    build = start(machine, image, disks, [task(f"set +e; {script}{LEFT}; echo over", inputs=("os",), privileged=True)]).wait(300)
    assert build.status == "succeeded", build.log
    log = build.log.replace("\r", "")
    # The log shows the script itself, too.
    said = log[log.index("echo over\n") :]
    for word in expected:
        assert word in said, (word, log)
    assert said.split("\n== left\n")[1].startswith("0\nover\n"), log
    assert "Authorization not available" not in log
