"""pipelines/fly-execute: a one-off task boots nodes, and its output and cache hold what they should."""

import lzma
import os
import subprocess
from pathlib import Path

import pytest
from cluster import given, image, start, task  # noqa: F401
from standin import Worker

ROOT = Path(__file__).parent.parent.parent
TASK = ROOT / "pipelines/fly-execute/task.yml"
NODES = """
image: {file: tiny.qcow2.xz}
defaults: {cpus: 1, memory: 128MiB}
nodes: {node: {count: 2}}
"""


@pytest.fixture
def repo(state):
    """What a user has at hand: a topology and a packed image, which has to be unpacked."""
    made = state / "repo"
    made.mkdir()
    packed = lzma.compress(Path(given("GUEST_TINY", "disk image of the tiny guest")).read_bytes(), preset=1)
    (made / "tiny.qcow2.xz").write_bytes(packed)
    (made / "nodes.yml").write_text(NODES)
    return made


def execute(state, image, repo, output, *more, **environment):
    """As the README has it, on the stand-in."""
    argv = [ROOT / "ci/worker", "execute", "--state", state, "--type", f"ghcr.io/you/libvirt-resource={image}", "-c", TASK,
            "-i", f"repo={repo}", "-o", f"nodes={output}", *more]
    return subprocess.run(argv, capture_output=True, text=True, env={**os.environ, **environment}, timeout=600)


@pytest.mark.parametrize("flags", [("-p",), ()], ids=["privileged", "unprivileged"])
def test_it_runs_and_its_output_comes_down(state, image, repo, flags):
    done = execute(state, image, repo, state / "out", *flags)
    assert done.returncode == 0 and "Linux node-1" in done.stdout, done
    assert "unpacking" in done.stdout
    for name in ("report.html", "report.json", "nodes.json", "consoles/node-1.log", "consoles/node-2.log"):
        assert (state / "out" / name).stat().st_size, name
    assert "tiny: ready" in (state / "out/consoles/node-2.log").read_text()


def test_output_of_nodes_that_do_not_get_ready(state, image, repo):
    ready = "ready: {command: 'echo the disk is missing >/dev/console; poweroff; sleep 99'}\n"
    (repo / "broken.yml").write_text(NODES + ready)
    done = execute(state, image, repo, state / "out", "-p", TOPOLOGY="repo/broken.yml")
    assert done.returncode == 69 and "verdict: " in done.stdout, done
    consoles = [path.read_text() for path in (state / "out/consoles").glob("node-?.log")]
    assert any("the disk is missing" in text for text in consoles), consoles
    assert "the disk is missing" in (state / "out/report.json").read_text() and (state / "out/report.html").exists()


CACHED = """
nodectl run -f repo/nodes.yml --cache images --output out -- sh -c 'echo it ran; exit 5' || echo "status $?"
[ -s out/report.html ] && [ -s out/consoles/node-1.log ] && echo the output is who""le
ls -1 images/images
"""


def test_a_cache_is_filled_once_and_used_by_builds_side_by_side(state, image, repo):
    script = task(CACHED, name="cached", inputs=("repo",), privileged=True)
    script["config"].update(caches=[{"path": "images"}], outputs=[{"name": "out"}])

    def begin(worker):
        # A get copies: the file is another one in every build.
        return start(worker, image, repo, [script], resources={"repo": str(repo)})

    with Worker(state=state) as worker:
        first = begin(worker).wait(300)
        assert first.status == "succeeded" and "unpacking" in first.log, first.log
        both = [begin(worker) for _ in range(2)]
        for build in both:
            build.wait(600)
            print(build.log)
            assert build.status == "succeeded" and "it ran" in build.log and "status 5" in build.log, build.log
            assert "unpacking" not in build.log and "cached in" in build.log, build.log
        listed = build.log.replace("\r", "").split("the output is whole\n")[1].split()[:-1]  # less the build's own last word
        assert listed[0] == "CACHEDIR.TAG" and len(listed) == 2 and listed[1].startswith("sha256-") and listed[1].endswith(".disk"), listed
