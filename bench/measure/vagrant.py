"""`nodectl run` against `vagrant up` of the same box, until every machine takes SSH."""

import os
import re
import shutil
import statistics

from .place import Failed, moment, spread
from .table import Row

COUNTS = (1, 3)
LIMIT = 0.5
HOME = "/tmp/build/put"
TOPOLOGY = """image: {{box: os/tiny.box}}
defaults: {{cpus: 1, memory: 256MiB}}
ssh_user: vagrant
nodes: {{node: {{count: {count}}}}}
"""


def measure(place, rounds, tell):
    """The clock is kind to Vagrant: libvirt is up and its network made before it starts, the box added, its base volume in the pool.
    nodectl's starts libvirt itself. Both have their box unpacked already, and end with a login by a key that is not the published one."""
    rootfs, box = os.environ.get("VAGRANT_ROOTFS"), os.environ.get("GUEST_BOX")
    if not rootfs or not box:
        yield Row("nodectl run / vagrant up", f"≤ {LIMIT}", "VAGRANT_ROOTFS and GUEST_BOX are not given")
        return
    with place.container("put", "vagrant", rootfs=rootfs) as container:
        driver = prepare(place, container, box)
        for count in COUNTS:
            ratios, ours, theirs, boots = [], [], [], []
            for number in range(rounds):
                # Whoever goes first has whatever the machine does at that moment: they take turns.
                if number % 2:
                    vagrant = up(place, container, count, driver)
                    run, boot = nodectl(place, container, count)
                else:
                    run, boot = nodectl(place, container, count)
                    vagrant = up(place, container, count, driver)
                tell(f"{count} of a box: nodectl run {run:.1f} s, of which the slowest guest's boot {boot:.1f} s; vagrant up {vagrant:.1f} s")
                ratios.append(run / vagrant)
                ours.append(run)
                theirs.append(vagrant)
                boots.append(boot)
            ratio, share = statistics.median(ratios), statistics.median(b / r for b, r in zip(boots, ours))
            machines = "1 machine" if count == 1 else f"{count} machines"
            note = (f"ratios {spread(ratios)}; nodectl run {spread(ours)} s, the slowest guest's own boot {spread(boots)} s, {share:.0%} of it; "
                    f"vagrant up {spread(theirs)} s; {rounds} rounds")
            yield Row(f"nodectl run / vagrant up, {machines}", f"≤ {LIMIT}", f"{ratio:.2f}", ratio, LIMIT, note=note)


def prepare(place, container, box):
    """Box and Vagrantfile in their places, and both ways gone once; gives the driver that the machine has."""
    shutil.copy(box, place.disks / "tiny.box")
    example = os.path.join(os.path.dirname(__file__), "../../examples/vagrant/Vagrantfile")
    shutil.copy(example, place.disks / "Vagrantfile")
    # A pool that was there before a session keeps its volumes beyond it.
    place.run(container, ["sh", "-ec", f"mkdir -p /var/lib/libvirt/images {HOME}/demo; cp {HOME}/os/Vagrantfile {HOME}/demo/"])
    for count in COUNTS:
        place.run(container, ["sh", "-ec", f"cat > {HOME}/nodes-{count}.yml"], stdin=TOPOLOGY.format(count=count).encode())
    _, _, log = place.run(container, ["sh", "-ec", f"cd {HOME}; nodectl run -f nodes-{COUNTS[0]}.yml -- true"])
    found = re.search(r"accelerator (kvm|tcg)", log)
    if not found:
        raise Failed(f"nodectl run does not say its accelerator:\n{log}")
    driver = {"kvm": "kvm", "tcg": "qemu"}[found.group(1)]
    up(place, container, COUNTS[0], driver)
    return driver


def nodectl(place, container, count):
    """Seconds from exec until its command is run, which is when every node has taken a login; and the slowest guest's own share."""
    script = f"cd {HOME}; date +%s.%N > /began; exec nodectl run -f nodes-{count}.yml -- sh -c 'date +%s.%N > /ended'"
    _, _, log = place.run(container, ["sh", "-ec", script])
    boots = [float(seconds) for seconds in re.findall(r"ready after ([0-9.]+) s", log)]
    if not boots:
        raise Failed(f"nodectl run does not say when nodes were ready:\n{log}")
    return moment(container, "ended") - moment(container, "began"), max(boots)


def up(place, container, count, driver):
    """Seconds of `vagrant up`, in a session that is up already."""
    inner = ("date +%s.%N > /began; vagrant up > /up.log 2>&1 || { tr '\\r' '\\n' < /up.log | tail -n 30 >&2; exit 1; }; date +%s.%N > /ended; "
             "vagrant destroy -f > /dev/null 2>&1")
    environment = f"BOX={HOME}/os/tiny.box NODES={count} DRIVER={driver} VAGRANT_DEFAULT_PROVIDER=libvirt LC_ALL=C.UTF-8 HOME=/root"
    place.run(container, ["sh", "-ec", f"cd {HOME}/demo; {environment} nodectl session -- sh -ec '{inner}'".replace("'\\r' '\\n'", '"\\r" "\\n"')])
    return moment(container, "ended") - moment(container, "began")
