"""The command line, as a person or a script uses it."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

WORKER = Path(__file__).parent.parent / "worker"
PIPELINE = """
resource_types: [{name: fake, type: registry-image, privileged: true, source: {repository: x}}]
resources:
- {name: r, type: fake, source: {say: ((word))}}
- {name: repo, type: git, source: {uri: u}}
jobs:
- name: one
  plan:
  - get: repo
  - put: r
    params: {text: repo/file}
- name: two
  plan: [{task: t, file: none/x}]
"""
OUT = """cat >&2; echo started >&2; [ ! -e /tmp/build/put/repo/wait ] || sleep 50; echo '{"version":{"n":"1"}}'"""


@pytest.fixture
def call(tmp_path, state, rootfs):
    (tmp_path / "p.yml").write_text(PIPELINE)
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo/file").touch()
    root = rootfs(out=OUT)

    def go(verb, *argv, background=False, types=True):
        argv = [WORKER, verb, "--state", state, *(["--type", f"fake={root}", "--type", f"box={root}"] if types else []), *argv]
        if background:
            return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        return subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path)
    go.state, go.directory = state, tmp_path
    yield go
    assert not list(state.glob("workers/*"))


def test_run(call):
    done = call("run", "p.yml", "--job", "one", "--resource", "repo=repo", "--var", "word=hi", "--events", "events")
    assert done.returncode == 0, done
    assert '{"source": {"say": "hi"}, "params": {"text": "repo/file"}}' in done.stdout and done.stdout.endswith("succeeded\n")
    assert len((call.directory / "events").read_text().splitlines()) > 5
    assert call("run", "p.yml", "--job", "two", "--var", "word=hi").returncode == 2


def test_get_of_a_git_work_tree_brings_what_is_not_ignored(call):
    repo = call.directory / "repo"
    (repo / "target").mkdir()
    (repo / "target/big").touch()
    (repo / ".gitignore").write_text("target\n")
    (repo / "sub dir").mkdir()
    (repo / "sub dir/x").touch()
    subprocess.run(["git", "init", "-q", repo], check=True)
    (call.directory / "task.yml").write_text("""
{platform: linux, image_resource: {type: box}, inputs: [{name: repo}], run: {path: find, args: [repo, -type, f]}}
""")
    done = call("execute", "-c", "task.yml", "-i", "repo=repo")
    assert {l for l in done.stdout.splitlines() if l.startswith("repo/")} == {"repo/file", "repo/.gitignore", "repo/sub dir/x"}, done


def test_refusals(call):
    assert "undefined vars: word" in call("run", "p.yml", "--job", "one").stderr
    assert "which job? one, two" in call("run", "p.yml", "--var", "word=x").stderr
    refused = call("run", "p.yml", "--job", "none", "-v", "word=x")
    assert refused.returncode == 2 and "no job 'none'" in refused.stderr


def test_ctrl_c_and_abort_after(call):
    (call.directory / "repo/wait").touch()
    argv = ("p.yml", "--job", "one", "--resource", "repo=repo", "--var", "word=hi")
    running = call("run", *argv, background=True)
    seen = ""
    while "started" not in seen:
        seen += running.stdout.readline()
    running.send_signal(signal.SIGINT)
    rest, errors = running.communicate(timeout=60)
    assert running.returncode == 3 and rest.endswith("interrupted\naborted\n"), (rest, errors)
    assert call("run", *argv, "--abort-after", "started").returncode == 3
    assert call("run", *argv, "--abort-after", "1").returncode == 3


def test_check(call):
    done = call("check", "p.yml", "r", "--var", "word=hi")
    assert json.loads(done.stdout) == [{"n": "1"}, {"n": "2"}], done


def test_execute(call):
    (call.directory / "task.yml").write_text("""
platform: linux
image_resource: {type: box}
inputs: [{name: repo}]
outputs: [{name: out}]
params: {P: default}
run: {path: sh, args: [-c, "ls repo; echo made > out/f; grep Seccomp: /proc/self/status; exit 9"]}
""")
    done = call("execute", "-p", "-c", "task.yml", "-i", "repo=repo", "-o", "out=result")
    assert done.returncode == 9 and "Seccomp:\t0" in done.stdout, done
    assert (call.directory / "result/f").read_text() == "made\n", "outputs come down although the task failed"


def test_hijack_and_gc(call):
    (call.directory / "repo/wait").touch()
    running = call("run", "p.yml", "--job", "one", "--resource", "repo=repo", "--var", "word=hi", "--worker", "w", background=True)
    while "started" not in running.stdout.readline():
        pass
    assert call("containers", types=False).stdout.split("\t")[0::2] == ["w", "put r"]
    assert call("hijack", "put r", "--", "cat", "/tmp/build/put/repo/file", "/etc/hostname", types=False).returncode == 0
    running.send_signal(signal.SIGKILL)
    running.communicate()
    done = call("gc", types=False)
    assert done.returncode == 0, done
