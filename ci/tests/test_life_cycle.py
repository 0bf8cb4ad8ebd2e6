"""How long processes live, how they are ended, and in which order hooks run."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import leftovers, task
from standin import Refused, Worker
from standin.network import _uplink
from standin.worker import gc

VERSION = "echo '{\"version\":{\"n\":\"2\"}}'"
ADDRESS = "$(ip -4 -o addr show eth0 | sed 's/.*inet \\([0-9.]*\\).*/\\1/')"
# A daemon in its own session and nested PID namespace that serves its address's port 7000.
DAEMON = f"""setsid unshare -p -f sh -c 'exec nc -ll -p 7000 -e echo served' < /dev/null > /dev/null 2>&1 &
echo "{{\\"version\\":{{\\"address\\":\\"{ADDRESS}\\"}}}}" """


def test_daemon_of_a_put_is_reached_by_a_later_unprivileged_task_and_ends_with_the_build(run, worker):
    get = """sed 's/.*"address": "\\([0-9.]*\\)".*/\\1/' > /tmp/build/get/address; """ + VERSION
    build = run([{"put": "r"}, task("sleep 0.3; nc $(cat r/address) 7000; ip addr add 10.9.9.9/8 dev eth0 || echo un''privileged; sleep 2",
                                    inputs=[{"name": "r"}])], start=True, out=DAEMON, **{"in": get})
    assert build.wait_for_log("unprivileged"), build.log
    assert "served" in build.log
    put = build.steps["put r"].container
    assert "nc" in [p["comm"] for p in worker.ps(put)], "a nested PID namespace is counted too"
    assert worker.exec(put, ["sh", "-c", "echo out; echo err >&2; cat; exit 3"], stdin=b"in") == (3, "out\nin", "err\n")
    assert build.wait().status == "succeeded", build.log
    assert worker.ps(put) == [] and not Path(f"/proc/{put.pid}").exists()


def test_kept_containers_live_until_released(run, worker):
    build = run([{"put": "r", "no_get": True}], out=DAEMON, extra={"keep": True})
    put = build.steps["put r"].container
    assert worker.ps(put), build.log
    build.release()
    assert not worker.ps(put)


def test_daemon_that_holds_stdout_delays_the_step_but_does_not_hang_it(run, monkeypatch):
    monkeypatch.setattr("standin.container.GRACE", 0.5)
    assert run([{"put": "r", "no_get": True}], out="sleep 1000 & " + VERSION).status == "succeeded"


@pytest.mark.parametrize("trap, ending", [("trap 'echo got TERM >&2; exit 0' TERM", "got TERM"), ("trap 'echo deaf >&2' TERM", "deaf")])
def test_abort_is_sigterm_then_sigkill_to_the_script_alone(run, worker, monkeypatch, trap, ending):
    monkeypatch.setattr("standin.container.GRACE", 1)
    build = run([{"put": "r", "on_abort": task("echo hook aborted"), "on_failure": task("echo wrong hook"),
                  "ensure": task("echo hook ensure", name="e")}],
                start=True, extra={"keep": True, "abort_after": "started"},
                out=f"setsid sleep 77 > /dev/null 2>&1 & {trap}; echo started >&2; while :; do sleep 0.1; done")
    assert build.wait().status == "aborted", build.log
    assert ending in build.log and "interrupted" in build.log
    assert build.log.index("hook aborted\n") < build.log.index("hook ensure\n") and "wrong hook" not in build.log.replace("echo wrong hook", "")
    left = [p["argv"] for p in worker.ps(build.steps["put r"].container)]
    assert ["sleep", "77"] in left, "daemons are not signalled"
    assert not any("while" in " ".join(a) or "/opt/resource/out" in a for a in left)


def test_timeout_is_a_failure(run):
    build = run([{"put": "r", "timeout": "500ms", "on_failure": task("echo hook failed"), "on_abort": task("echo wrong hook")}],
                out="sleep 100 & wait")
    assert build.status == "failed" and "timeout exceeded" in build.log and list(build.steps) == ["put r", "task t"]
    assert run([{"timeout": "500ms", "do": [task("sleep 100")]}], out="").status == "failed"


def test_order_of_hooks(run):
    hooks = {key: task(f"echo ran-{key}", name=key) for key in ("ensure", "on_failure", "on_success", "on_error")}
    failed = run([{**task("exit 3"), **hooks}, task("true", name="never")])
    assert failed.status == "failed" and list(failed.steps) == ["task t", "task on_failure", "task ensure"]
    assert failed.steps["task t"].exit_status == 3
    done = run([{**task("true"), **hooks}], job={"ensure": task("true", name="of-job")})
    assert done.status == "succeeded" and list(done.steps) == ["task t", "task on_success", "task ensure", "task of-job"]
    errored = run([{"put": "r", **hooks}], out="true")
    assert errored.status == "errored" and list(errored.steps) == ["put r", "task on_error", "task ensure"]
    tried = run([{"try": task("false")}, {"try": {"put": "r"}}, task("true", name="after")], out="true")
    assert tried.status == "succeeded" and "task after" in tried.steps


def test_every_attempt_has_a_container_of_its_own(run):
    again = run([{**task("test ! -e /seen && touch /seen && exit 1"), "attempts": 3}], extra={"keep": True})
    assert again.status == "failed" and list(again.steps) == ["task t", "task t (2)", "task t (3)"]
    assert len({s.container.pid for s in again.steps.values()}) == 3 and all(s.exit_status == 1 for s in again.steps.values())


def test_in_parallel(run):
    met = "for i in $(seq 50); do sleep 0.1; done"
    side = [task("sleep 1; echo did-$N", name=str(n), params={"N": n}) for n in range(3)]
    start = time.monotonic()
    assert run([{"in_parallel": side}]).status == "succeeded"
    fail_fast = run([{"in_parallel": {"fail_fast": True, "steps": [task("exit 1"), task(met, name="long")]}}])
    assert fail_fast.status == "failed" and fail_fast.steps["task long"].status == "aborted"
    assert time.monotonic() - start < 60
    limited = run([{"in_parallel": {"limit": 1, "steps": [task("sleep 0.2", name="a"), task("false", name="b"), task("true", name="c")]}}])
    steps = limited.steps
    assert limited.status == "failed" and steps["task a"].ended <= steps["task b"].started <= steps["task c"].started


def test_across_runs_each_combination_with_artifacts_of_its_own(run):
    echo = task("echo got-((.:os))-((.:n.x)); echo ((.:os)) > o/os", name="make-((.:os))", outputs=[{"name": "out", "path": "o"}])
    read = task("test $(cat out/os) = ((.:os)); test ((.:os)) != bad", name="read", inputs=[{"name": "out"}])
    axes = [{"var": "os", "values": ["a", "bad", "b"]}, {"var": "n", "values": [{"x": 1}, {"x": 2}], "max_in_flight": "all"}]
    done = run([{"do": [echo, read], "across": axes[:1] + [{**axes[1], "values": [{"x": 1}]}],
                 "on_failure": task("echo hook once", name="hook")}])
    assert done.status == "failed" and done.log.count("\nhook once") == 1, done.log
    assert [n for n in ("got-a-1", "got-bad-1", "got-b-1") if f"\n{n}" in done.log] == ["got-a-1", "got-bad-1", "got-b-1"], "all are tried"
    steps = done.steps
    assert steps["task read"].ended <= steps["task make-bad"].started, "one at a time unless max_in_flight says more"
    quick = run([{"do": [echo, read], "across": [{"var": "os", "values": ["bad", "b"]}, axes[1]], "fail_fast": True}])
    assert quick.status == "failed" and "task make-b" not in quick.steps, "fail_fast"
    many = run([{"do": [echo, read], "across": [{"var": "os", "values": ["a", "b"], "max_in_flight": 2}, axes[1]]},
                task("", name="after", inputs=[{"name": "out"}])])
    assert many.status == "errored" and "missing inputs: out" in many.log, "artifacts do not leave it"
    assert len([s for s in many.steps.values() if s.name.startswith("make") and s.status == "succeeded"]) == 4
    for wrong in ([{"var": "os"}], [{"var": "os", "values": ["a"], "max_in_flight": 0}], [{"var": "other", "values": ["a"]}]):
        with pytest.raises(Refused):
            run([{**task("((.:os))"), "across": wrong}])


def test_outputs_caches_paths_and_privilege_change_hands(run):
    build = run([task("mkdir o/d; echo shifted > o/d/f; chmod 600 o/d/f; echo 1 >> cache/n", outputs=[{"name": "out", "path": "o"}],
                      caches=[{"path": "cache"}]),
                 task("cat deep/in/d/f; stat -c %u deep/in/d/f; echo more > deep/in/new; test ! -e absent", name="root", privileged=True,
                      inputs=[{"name": "in", "path": "deep/in"}, {"name": "absent", "optional": True}],
                      outputs=[{"name": "out2", "path": "deep/in"}], input_mapping={"in": "out"}),
                 task("cat out2/d/f out2/new; stat -c %u out2/new; pwd; cat n; id -un; echo $USER $HOME", name="again", inputs=[{"name": "out2"}],
                      caches=[{"path": "cache"}], run={"path": "sh", "dir": "out2", "args": ["-c", "cat d/f new; stat -c %u new; pwd"]}),
                 task("", name="user", run={"path": "id", "user": "nobody"}), task("false", name="missing", inputs=[{"name": "nowhere"}])])
    assert build.status == "errored" and "missing inputs: nowhere" in build.log
    assert build.log.count("shifted\n") == 2 and "more\n0\n/tmp/build/" in build.log and "uid=65534(nobody)" in build.log


def test_seccomp_and_capabilities_are_the_recorded_ones(run):
    script = "grep -E 'CapBnd|Seccomp:' /proc/self/status; ls /dev; mount | grep -E ' /sys | /scratch '"
    build = run([task(script), task(script, name="p", privileged=True)])
    unprivileged, privileged = build.log.split("task: p")
    assert "CapBnd:\t00000000a80425fb" in unprivileged and "Seccomp:\t2" in unprivileged and "sysfs (ro" in unprivileged
    assert "Seccomp:\t0" in privileged and "sysfs (rw" in privileged and "fuse" in privileged and "kvm" not in privileged


def test_two_builds_side_by_side_in_one_worker(run, worker):
    builds = [run([{"put": "r", "no_get": True}], start=True, extra={"keep": True}, out=DAEMON) for _ in range(2)]
    assert [b.wait().status for b in builds] == ["succeeded"] * 2
    one, two = (b.steps["put r"].container for b in builds)
    assert one.address != two.address
    assert worker.exec(one, ["nc", two.address, "7000"])[1] == "served\n"
    builds[0].release()
    assert not worker.ps(one) and worker.ps(two)


def test_two_harnesses_join_one_worker_and_others_do_not_meet(state):
    with Worker("shared", state=state) as one:
        with Worker("shared", state=state) as two, Worker(state=state) as other:
            assert two.claim_address("x") != one.claim_address("y") and other.claim_address("z") == "10.80.0.2"
        assert Path("/run/netns/ciw-shared").exists()
    assert not Path("/run/netns/ciw-shared").exists() and not leftovers(one)


def test_refusals_before_anything_runs(run):
    for step in ({"set_pipeline": "x"}, {"load_var": "x", "file": "y"}, {**task("x"), "across": []}, {"put": "nothing"}, {"get": "r", "tpyo": 1},
                 {"task": "t", "config": {"run": {"path": "x"}}}, {**task("x"), "timeout": "soon"}, {"in_parallel": {"step": []}},
                 task("x", container_limits={"cpu": 1}), {"put": "r", "on_failure": {"nope": 1}}, task("((undefined))")):
        with pytest.raises(Refused):
            run([step])


HARNESS = """
import sys; sys.path[:0] = {path!r}
from standin import *
with Worker("killed", state={state!r}) as w:
    w.build({{"resources": [{{"name": "r", "type": "t"}}], "jobs": [{{"name": "j", "plan": [{{"put": "r"}}]}}]}},
            types={{"t": Type({rootfs!r}, True)}}, out=sys.stdout)
"""


def test_gc_after_a_killed_harness(state, rootfs):
    code = HARNESS.format(path=[str(Path(__file__).parent.parent)], state=str(state),
                          rootfs=rootfs(out="setsid sleep 99 & echo started >&2; sleep 100"))
    harness = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    while "started" not in harness.stdout.readline():
        pass
    gc(state)
    assert Path("/run/netns/ciw-killed").exists(), "what lives is left alone"
    pidns = int(next((state / "workers/killed/h").glob("*/c/*/pidns")).read_text())
    harness.send_signal(signal.SIGKILL)
    harness.wait()
    assert gc(state) == []
    assert not leftovers(Worker("killed", state=state))
    from standin.host import processes_within
    assert processes_within(pidns) == []


def test_nat_rules_go_with_the_worker(state):
    if Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() != "1" or not shutil.which("iptables"):
        pytest.skip("needs iptables and forwarding")
    rules = lambda: subprocess.run(["iptables-save"], capture_output=True, text=True).stdout  # noqa: E731
    with Worker(state=state, nat=True) as worker:
        device = _uplink(worker.name)[0]
        assert rules().count(device) == 4
        with pytest.raises(Refused):
            with Worker(state=state) as plain, Worker(plain.name, state=state, nat=True):
                pass
    assert device not in rules() and not Path(f"/sys/class/net/{device}").exists() and not leftovers(worker)


def test_state_closed_to_others_is_refused(tmp_path):
    with pytest.raises(Refused, match="chmod o\\+x"):
        Worker(state=tmp_path).__enter__()
    assert not list(tmp_path.glob("workers/*"))


def test_outer_timeout_ends_what_is_inside(run):
    build = run([{"timeout": "1s", "do": [{**task("sleep 100"), "on_failure": task("true", name="late")}, task("true", name="next")],
                  "on_failure": task("true", name="hook")}])
    assert build.status == "failed" and list(build.steps) == ["task t", "task hook"], build.log
