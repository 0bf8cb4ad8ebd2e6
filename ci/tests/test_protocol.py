"""What a resource script is given, and what becomes of its answer."""

import json

from conftest import task

VERSION = "echo '{\"version\":{\"n\":\"2\"},\"metadata\":[{\"name\":\"k\",\"value\":\"v\"}]}'"


def test_put_then_implicit_get_then_task(run):
    build = run([{"put": "r", "params": {"x": "y"}, "get_params": {"g": "h"}},
                 task("cat r/request.json r/greeting; id -u; echo env=$P; tty; stty size; cat /proc/self/uid_map; env", inputs=[{"name": "r"}],
                      params={"P": {"a": 1}})],
                out='cat >&2; echo " $0 $1 $PWD $(id -u) $(env | sort | tr "\\n" " ")" >&2; ' + VERSION)
    assert build.status == "succeeded", build.log
    assert '{"source": {"a": 1}, "params": {"x": "y"}} /opt/resource/out /tmp/build/put / 0' in build.log
    assert '{"source": {"a": 1}, "params": {"g": "h"}, "version": {"n": "2"}}' in build.log
    assert "hello\n0\n" in build.log and 'env={"a": 1}' in build.log and "500 500" in build.log
    assert "4294967294" in build.log and "/dev/pts/" in build.log and "USER=root" in build.log
    put, get = build.steps["put r"], build.steps["get r"]
    assert put.version == get.version == {"n": "2"}
    assert put.metadata == [{"name": "k", "value": "v"}]
    assert "BUILD_JOB_NAME=j" in build.log and "BUILD_PIPELINE_NAME=pipeline" in build.log
    assert "  k: v" in build.log


def test_no_get_and_plain_get_by_check(run):
    build = run([{"put": "r", "no_get": True}, {"get": "again", "resource": "r"}], out=VERSION)
    assert build.status == "succeeded", build.log
    assert list(build.steps) == ["put r", "get again"] and build.steps["get again"].version == {"n": "2"}


def test_answers_that_are_errors(run):
    for answer, said in {"echo noise; " + VERSION: "not JSON", "true": "null or empty version", "echo '{\"version\":{}}'": "null or empty",
                         "echo '{\"version\":{\"n\":1}}'": "no map of strings",
                         "echo '{\"version\":{\"n\":\"1\"},\"metadata\":[{\"name\":\"a\",\"value\":2}]}'": "both strings"}.items():
        build = run([{"put": "r"}], out=answer)
        assert build.status == "errored" and said in build.log, (answer, build.log)


def test_text_after_the_json_is_ignored_and_failure_ignores_stdout(run):
    assert run([{"put": "r"}], out=VERSION + "; echo bye").status == "succeeded"
    failed = run([{"put": "r"}], out=VERSION + "; exit 7")
    assert failed.status == "failed" and failed.steps["put r"].exit_status == 7 and failed.steps["put r"].version is None


def test_missing_script_errors(run, worker, rootfs):
    build = run([{"put": "r"}], out="#")
    assert build.status == "errored"
    gone = run([task("true", run={"path": "nothing-of-that-name"})], out="#")
    assert gone.status == "errored" and "nothing-of-that-name" in gone.log


def test_inputs_are_detected(run, tmp_path):
    (tmp_path / "repo/ci").mkdir(parents=True)
    (tmp_path / "repo/ci/file").write_text("content")
    listing = 'find /tmp/build/put -type f >&2; cat "/tmp/build/put/repo/ci/file" >&2; echo x > /tmp/build/put/repo/new; ' + VERSION
    local = {"resources": {"repo": str(tmp_path / "repo")}}
    plan = lambda **put: [{"get": "repo"}, {"put": "r", **put}, task("ls repo", inputs=[{"name": "repo"}])]  # noqa: E731
    for put in ({"params": {"topology": "repo/ci/file"}}, {"inputs": "all"}, {"inputs": ["repo"]}):
        build = run(plan(**put), extra=local, out=listing)
        assert build.status == "succeeded" and "content" in build.log, build.log
        assert "new" not in build.log.split("running")[1], "each container writes to a layer of its own"
    assert run(plan(inputs=[]), extra=local, out=listing).log.count("content") == 0
    assert run(plan(inputs=["none"]), extra=local, out=listing).status == "errored"
    assert not (tmp_path / "repo/new").exists()


def test_events(run, tmp_path):
    run([{"put": "r", "no_get": True}], extra={"events": tmp_path / "events"}, out=VERSION)
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert [e["event"] for e in events] == ["build", "start", "container", "end", "build"]
    assert events[3]["version"] == {"n": "2"} and events[3]["pid"] == events[2]["pid"] and events[-1]["status"] == "succeeded"
