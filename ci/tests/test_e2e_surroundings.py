"""What a distribution's test needs around its nodes: the way out, none at all, a server of the task, names, MTU and time."""

import re
import shutil
from pathlib import Path

import yaml
from cluster import SOURCE, disks, given, image, machine, put, start, task, tiny  # noqa: F401
from standin import Type, Worker, network

GUIDE = Path(__file__).parent.parent.parent / "docs/surroundings.md"

# A server in the task's own container: one file, as a registry's or a mirror's would be.
SERVE = r"""
perl -MIO::Socket::INET -e '
  my $server = IO::Socket::INET->new(Listen => 9, LocalPort => 5000, ReuseAddr => 1) or die "cannot listen: $!";
  while (my $client = $server->accept) { while (<$client>) { last if /^\r?$/ } print $client "HTTP/1.0 200 OK\r\n\r\nfrom the task\n"; close $client }
' &
server=$!; trap 'kill $server' EXIT
here=$(ip -4 -o addr show eth0 | sed 's/.*inet \([0-9.]*\).*/\1/')
"""
ASK = """tries=0; until answer=$(nodes/ssh node-1 wget -q -T 20 -O - "http://$here:5000/" </dev/null); do
  tries=$((tries + 1)); [ $tries -lt 5 ] || exit 1; sleep 1
done; echo "node-1 got: $answer"
"""


def test_nodes_reach_a_server_of_the_task_and_tell_the_time(machine, image, disks):
    script = SERVE + ASK + """
node=$(nodes/ssh node-1 date -u +%s </dev/null); task=$(date -u +%s)
echo "clocks differ by $((task - node))"
cat nodes/hosts >> /etc/hosts; getent hosts node-1
timeout 20 bash -c "exec 3<>/dev/tcp/node-1/$(nodes/forward node-1 22 | sed 's/.*://'); head -c 4 <&3"; echo " answers by its name"
nodes/forward node-1 80 || echo "no such forward: $?"
"""
    build = start(machine, image, disks, [put(tiny()), task(script)]).wait()
    print(build.log)
    assert build.status == "succeeded", build.log[-4000:]
    assert "node-1 got: from the task" in build.log
    assert "SSH- answers by its name" in build.log and "no such forward: 1" in build.log
    # Not how fast it all is: whether the node lives in the same hour, time zone included.
    difference = int(re.search(r"clocks differ by (-?\d+)", build.log)[1])
    assert abs(difference) < 600, difference


def test_without_a_way_out_forwards_work_still(machine, image, disks):
    alone = tiny(2, networks={"lab": {"isolated": "auto"}})
    script = SERVE + """
nodes/ssh node-1 'echo "default routes: $(ip route | grep -c ^default)"; ping -c 1 node-2' </dev/null
nodes/ssh node-1 "wget -q -T 5 -O - http://$here:5000/" </dev/null && exit 1
nodes/ssh node-1 "ping -c 1 -W 3 $here" </dev/null && exit 1
echo no way out
"""
    build = start(machine, image, disks, [put(alone), task(script)]).wait()
    print(build.log)
    assert build.status == "succeeded", build.log[-4000:]
    assert "default routes: 0" in build.log and "0% packet loss" in build.log


def test_the_workers_mtu_reaches_the_nodes(image, disks, monkeypatch):
    """A worker behind a tunnel: what nodes send beyond it would vanish where they believed in 1500."""
    mtu = 1400
    monkeypatch.setattr(network, "uplink_mtu", lambda: mtu)
    with Worker() as worker:
        script = "cat /sys/class/net/eth0/mtu; nodes/ssh node-1 'cat /sys/class/net/e*/mtu' | sed 's/^/node: /'; " + SERVE \
            + "nodes/ssh node-1 \"ping -c 1 -s $((%d - 28)) $here\" </dev/null" % mtu
        build = start(worker, image, disks, [put(tiny()), task(script)]).wait()
        print(build.log)
        assert build.status == "succeeded", build.log[-4000:]
        assert f"node: {mtu}" in build.log and "0% packet loss" in build.log


def test_a_proxy_is_handed_to_the_nodes_as_the_guide_does_it(machine, image, rootfs, tmp_path):
    """The guide's own block. The stand-in hands no http_proxy to tasks, so the step's params do."""
    block = next(b for b in re.findall(r"^```yaml\n(.*?)^```", GUIDE.read_text(), re.M | re.S) if "task: proxy" in b)
    steps = yaml.safe_load(block)
    steps[0]["params"] = {"http_proxy": "http://proxy.example.com:3128", "https_proxy": "http://proxy.example.com:3128", "no_proxy": "localhost"}
    shutil.copy(given("GUEST_DEBIAN", "disk image of the Debian guest"), tmp_path / "disk.qcow2")
    look = "nodes/ssh worker-1 'cat /etc/environment; systemctl show-environment; systemd-run -q --pipe sh -c \"echo unit has \\$no_proxy\"'"
    pipeline = {
        "resource_types": [{"name": "libvirt", "type": "registry-image", "privileged": True}],
        "resources": [{"name": "nodes", "type": "libvirt", "source": SOURCE}, {"name": "os-image", "type": "local"}],
        "jobs": [{"name": "job", "plan": [{"get": "os-image"}, *steps, task(look)]}],
    }
    build = machine.build(pipeline, types={"libvirt": Type(image), "busybox": rootfs()}, resources={"os-image": str(tmp_path)})
    print(build.log)
    assert build.status == "succeeded", build.log[-4000:]
    assert "http_proxy=http://proxy.example.com:3128" in build.log and "unit has localhost,10.0.0.0/8,.svc,.cluster.local" in build.log
