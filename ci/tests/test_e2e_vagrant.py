"""Vagrant boxes: booted by Vagrant itself beside `nodectl session`, and as an image without Vagrant."""

import shutil
from pathlib import Path

import pytest
from cluster import SOURCE, TOKEN, disks, given, image, machine, put, start, task  # noqa: F401
from standin import Type

ROOT = Path(__file__).parent.parent.parent

# What may be left of a session, whatever ran in it. grep prints nothing where all is gone.
LEFT = ("echo == left; cat /proc/[0-9]*/comm 2>/dev/null | grep -E '^(qemu-system|libvirtd|virtlogd|dnsmasq|ruby|vagrant)'; "
        "ls /sys/class/net | grep -v -E '^(lo|eth0)$'; iptables -S | grep LIBVIRT; iptables -t nat -S | grep LIBVIRT; echo == end")


@pytest.fixture(scope="module")
def boxes(disks):  # noqa: F811
    """The disks, with the box, the demo's Vagrantfile and the key that Vagrant publishes."""
    shutil.copy(given("GUEST_BOX", "Vagrant box"), disks / "tiny.box")
    shutil.copy(ROOT / "examples/vagrant/Vagrantfile", disks)
    shutil.copy(ROOT / "src/agent/adopt/vagrant_rsa", disks)
    shutil.copy(ROOT / "src/agent/adopt/vagrant_ed25519", disks)
    return disks


def with_vagrant(machine, boxes, script):  # noqa: F811
    """Runs a privileged task on the image's vagrant stage; gives what it said, without the script itself."""
    rootfs = given("VAGRANT_ROOTFS", "root file system of the image's vagrant stage")
    config = {"platform": "linux", "image_resource": {"type": "vagrant", "source": {}}, "inputs": [{"name": "os"}],
              "params": {"VAGRANT_DEFAULT_PROVIDER": "libvirt", "LC_ALL": "C.UTF-8", "HOME": "/root"},
              "run": {"path": "sh", "args": ["-c", f"{script}\n{LEFT}"]}}
    pipeline = {
        "resource_types": [{"name": "vagrant", "type": "registry-image", "privileged": True, "source": {"repository": "x"}}],
        "resources": [{"name": "os", "type": "local", "source": {}}],
        "jobs": [{"name": "job", "plan": [{"get": "os"}, {"task": "vagrant", "privileged": True, "config": config}]}],
    }
    build = machine.start(pipeline, types={"vagrant": Type(rootfs, privileged=True)}, resources={"os": str(boxes)}).wait(3000)
    assert build.status == "succeeded", build.log
    said = build.log.replace("\r", "\n")[build.log.index("echo == end") :]
    assert "== left\n== end" in said, said
    return said


def test_the_demo_of_two_machines(machine, boxes, aloud):  # noqa: F811
    said = with_vagrant(machine, boxes, """
mkdir demo && cd demo && cp ../os/Vagrantfile . && export BOX=$PWD/../os/tiny.box DRIVER=qemu
cat > all <<'X'
began=$(date +%s)
vagrant up >up.log 2>&1 || { tr '\\r' '\\n' <up.log | tail -n 30; exit 1; }
echo "seconds $(($(date +%s) - began))"
for n in 1 2; do vagrant ssh node-$n -c 'echo "$(id -un) on $(cat /sys/class/net/eth0/address)"; grep -c insecure .ssh/authorized_keys'; done
virsh -q list; vagrant destroy -f >/dev/null 2>&1; echo "destroyed $?"
echo "machines $(virsh -q list --all | wc -l), disks $(virsh -q vol-list default | grep -c node-)"
X
nodectl session -- sh all; echo "status $?" """)
    machines = [line for line in said.splitlines() if line.startswith("vagrant on ")]
    assert len(set(machines)) == 2, said
    # Vagrant's own key was replaced by Vagrant.
    assert said.count("\n0\n") == 2, said
    assert "demo_node-1" in said and "demo_node-2" in said, said
    assert "destroyed 0" in said and "machines 0, disks 0" in said and "status 0" in said, said
    aloud(f"\nnodectl session -- vagrant up, two machines: {said.split('seconds ')[1].split()[0]} s")


def test_a_machine_that_vagrant_leaves_is_gone_with_the_session(machine, boxes):  # noqa: F811
    said = with_vagrant(machine, boxes, """
mkdir demo && cd demo && cp ../os/Vagrantfile . && export BOX=$PWD/../os/tiny.box DRIVER=qemu
nodectl session -- sh -c 'vagrant up node-1 >/dev/null 2>&1; echo "up $?"; virsh -q net-list; ps ax | grep -c "[q]emu-system"'""")
    assert "up 0" in said and "vagrant-libvirt" in said, said


def test_what_libvirts_programs_expect_is_there(machine, boxes):  # noqa: F811
    said = with_vagrant(machine, boxes, """
cat > all <<'X'
echo "uri $LIBVIRT_DEFAULT_URI = $(virsh uri)"
for socket in /var/run/libvirt/libvirt-sock /run/libvirt/libvirt-sock; do test -S $socket && echo "socket $socket"; done
for node in /dev/kvm /dev/net/tun /dev/vhost-net; do
  # A node that does not open would mislead libvirt: it is not there then.
  [ ! -e $node ] || { echo "node $node $(stat -c '%F %t:%T' $node)"; dd if=$node of=/dev/null count=0 2>/dev/null && echo "opens $node"; }
done
echo "group $(getent group kvm | cut -d: -f1)"
echo "pool $(virsh -q pool-info default | grep State | tr -s ' ')"
echo "network $(virsh -q net-info default | grep Active | tr -s ' ')"
qemu-img create -q -f qcow2 /var/lib/libvirt/images/blank.qcow2 1G
tar -xzOf os/tiny.box box.img > /var/lib/libvirt/images/own.qcow2
virt-install --name own --memory 256 --vcpus 1 --virt-type qemu --import --osinfo detect=on,require=off --graphics none --noautoconsole \\
  --disk /var/lib/libvirt/images/own.qcow2,bus=virtio --disk vol=default/blank.qcow2,bus=virtio --disk size=1 --network network=default,model=virtio
echo "virt-install $?"
virsh -q list; virsh -q domblklist own
for n in $(seq 120); do virsh -q net-dhcp-leases default | grep -q ipv4 && break; sleep 1; done
virsh -q net-dhcp-leases default
virsh -q destroy own; virsh -q undefine --remove-all-storage own; echo "undefined $?, volumes $(virsh -q vol-list default | grep -c .)"
X
nodectl session -- sh all; echo "status $?" """)
    assert "uri qemu:///system = qemu:///system" in said, said
    assert "socket /var/run/libvirt/libvirt-sock" in said and "socket /run/libvirt/libvirt-sock" in said, said
    nodes = [line.split()[1] for line in said.splitlines() if line.startswith("node ")]
    assert "node /dev/net/tun character special file a:c8" in said, said
    assert all(f"opens {node}" in said for node in nodes), said
    assert "group kvm" in said and "pool State: running" in said and "network Active: yes" in said, said
    assert "virt-install 0" in said and "running" in said and "ipv4" in said and "undefined 0, volumes 0" in said and "status 0" in said, said


# Of the node by its own word, and what Vagrant's published keys are worth now, as whoever can reach the forward would try them.
OWN = r"""
port=$(nodes/ssh -G node-1 2>/dev/null | sed -n 's/^port //p'); host=$(nodes/ssh -G node-1 2>/dev/null | sed -n 's/^hostname //p')
echo "forward $host $port"
nodes/ssh node-1 'echo "user $(id -un) name $(hostname) $(cat /etc/hostname)"'
nodes/ssh node-1 'cat /home/vagrant/.ssh/authorized_keys /root/.ssh/authorized_keys 2>/dev/null' | grep -v '^$' | sed 's/^/key /'
for key in vagrant_rsa vagrant_ed25519; do
  cp os/$key /tmp/$key && chmod 600 /tmp/$key
  for user in vagrant root; do
    ssh -F /dev/null -i /tmp/$key -o IdentitiesOnly=yes -o BatchMode=yes -o LogLevel=ERROR -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -p "$port" "$user@$host" true 2>&1 | sed "s/^/$key $user: /"
  done
done
"""


@pytest.mark.parametrize("user", ["root", "vagrant"])
def test_a_box_without_cloud_init_becomes_the_clusters_own(machine, image, boxes, user):  # noqa: F811
    params = {"image": {"box": "os/tiny.box"}, "defaults": {"cpus": 1, "memory": "256MiB"}, "nodes": {"node": {"count": 1}}, "ssh_user": user}
    plan = [put(params), task(f"set +e{OWN}echo over", inputs=("nodes", "os"))]
    build = start(machine, image, boxes, plan).wait(900)
    assert build.status == "succeeded", build.log
    log = build.log.replace("\r", "")
    assert "its published key is replaced" in log, log
    said = log[log.rindex("\nforward ") :]
    assert f"user {user} name node-1 node-1" in said, said
    # The cluster's own, by its name, and no other.
    keys = [line for line in said.splitlines() if line.startswith("key ")]
    assert len(keys) == 1 and keys[0].startswith("key ssh-ed25519 ") and "insecure" not in keys[0], said
    for key in ("vagrant_rsa", "vagrant_ed25519"):
        for who in ("vagrant", "root"):
            refused = [line for line in said.splitlines() if line.startswith(f"{key} {who}: {who}@")]
            assert len(refused) == 1 and refused[0].endswith("Permission denied (publickey)."), said


def test_a_box_that_cannot_be_handed_over_says_why(machine, image, boxes):  # noqa: F811
    params = {"image": {"box": "os/tiny.box"}, "defaults": {"cpus": 1, "memory": "256MiB"}, "nodes": {"node": {"count": 1}}, "ssh_user": "core"}
    build = start(machine, image, boxes, [put(params)]).wait(900)
    assert build.status == "failed", build.log
    assert "node node-1: the Vagrant box cannot be made the cluster's own: the box has no user core" in " ".join(build.log.split()), build.log
