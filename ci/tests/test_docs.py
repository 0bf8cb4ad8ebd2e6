"""Every block of YAML, JSON and commands in the documentation, taken out and checked: topologies against the schema that the
image prints, pipelines as a worker would read them, commands of ours against their own help, the rest for its syntax."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from cluster import given
from standin.pipeline import Loader, Pipeline

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.M | re.S)


def blocks(*kinds):
    """pytest parameters (text) of the fenced blocks of these languages, named PAGE:LINE."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in FENCE.finditer(text):
            indent, kind, body = match.groups()
            if kind in kinds:
                body = re.sub(f"^{indent}", "", body, flags=re.M)
                line = text[: match.start()].count("\n") + 1
                found.append(pytest.param(body, id=f"{page.relative_to(ROOT)}:{line}"))
    return found


def in_image(*argv):
    root = given("RESOURCE_ROOTFS", "root file system of the image")
    return subprocess.run(["chroot", root, *argv], capture_output=True, text=True)


@pytest.fixture(scope="module")
def schema():
    return json.loads(in_image("nodectl", "schema").stdout)


def test_every_block_says_what_it_is():
    known = {"yaml", "json", "sh", "python", "toml", "dockerfile", "text"}
    for page in PAGES:
        for match in FENCE.finditer(page.read_text()):
            assert match.group(2) in known, f"{page.name}: a block of {match.group(2) or 'nothing'}: {match.group(3)[:60]!r}"


# What is another program's to judge; that it is YAML is all that is asked here.
FOREIGN = {"services": "compose", "instance_groups": "BOSH", "concourse": "Helm", "worker": "Helm", "apiVersion": "Kubernetes",
           "write_files": "cloud-init", "runcmd": "cloud-init", "variant": "Butane"}


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml(text, schema):
    value = yaml.load(text, Loader)
    for document in yaml.load_all(text, Loader) if value is None else [value]:
        kind = judge(document, schema)
        print(kind)


def judge(value, schema):
    if isinstance(value, list):  # steps
        return as_pipeline({"jobs": [{"name": "job", "plan": value}]}, schema)
    keys = set(value)
    if keys & {"jobs", "resource_types", "resources"}:
        return as_pipeline(value, schema)
    if keys & {"ensure", "on_failure", "put", "task", "get"} and not keys & {"image", "nodes"}:
        step = value if keys & {"put", "task", "get"} else {"do": [], **value}
        return as_pipeline({"jobs": [{"name": "job", "plan": [step]}]}, schema)
    if "platform" in keys:
        return as_pipeline({"jobs": [{"name": "job", "plan": [{"task": "task", "config": value}]}]}, schema)
    foreign = keys & set(FOREIGN)
    if foreign:
        return FOREIGN[foreign.pop()]
    # A topology; a part of one where it has no nodes or no image.
    topology({"image": {"file": "os/disk.qcow2"}, "nodes": {"node": None}, **value}, schema)
    return "topology"


def topology(value, schema):
    jsonschema.validate(value, schema)


def without_vars(value):
    """Less the fields whose value is a var alone, which may stand for what is no text."""
    if isinstance(value, dict):
        return {k: without_vars(v) for k, v in value.items() if not re.fullmatch(r"\(\(.*\)\)", str(v))}
    return [without_vars(v) for v in value] if isinstance(value, list) else value


def as_pipeline(value, schema):
    """With stubs for what the text around the block tells. Topologies inline in puts are checked, too."""
    names = set()

    def walk(part):
        if isinstance(part, dict):
            names.update(part.get("resource", part[k]) for k in ("get", "put") if isinstance(part.get(k), str))
            if "put" in part and "nodes" in part.get("params", {}):
                topology(without_vars(part["params"]), schema)
            for child in part.values():
                walk(child)
        elif isinstance(part, list):
            for child in part:
                walk(child)

    walk(value.get("jobs", []))
    there = {r["name"] for r in value.get("resources", [])}
    stubs = [{"name": name, "type": "registry-image"} for name in sorted(names - there)]
    text = re.sub(r"\(\((?!\.:)([^()]*)\)\)", "a-var", yaml.safe_dump({**value, "resources": value.get("resources", []) + stubs}))
    Pipeline(text)
    return "pipeline"


@pytest.mark.parametrize("path", [*sorted((ROOT / "pipelines").glob("*.yml")), ROOT / "ci/pipeline.yml"], ids=lambda p: p.name)
def test_pipeline_files(path, schema):
    assert judge(yaml.load(path.read_text(), Loader), schema) == "pipeline"


def test_compose_file_lets_the_worker_use_kvm():
    services = yaml.safe_load((ROOT / "pipelines/concourse/compose.yml").read_text())["services"]
    worker = services["concourse"]
    assert worker["privileged"] and worker["environment"]["CONCOURSE_WORKER_CONTAINERD_ALLOWED_DEVICE"] == "c 10:232 rwm"
    told = re.sub(r"\s+", " ", (ROOT / "docs/worker-setup.md").read_text())
    assert all(name in told for name in ("CONCOURSE_WORKER_CONTAINERD_ALLOWED_DEVICE", "cgroup: host"))


@pytest.mark.parametrize("text", blocks("json"))
def test_json(text):
    json.loads(text)


def commands(text):
    """The simple commands of a script, as words; what is no plain command is left to the shell's own check."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # a quote that goes on in the next line
            continue
        part = []
        for word in [*words, ";"]:
            if word in (";", "&&", "||", "|", "--"):
                if part:
                    yield part
                part = []
            else:
                part.append(word)


@pytest.mark.parametrize("text", blocks("sh"))
def test_commands(text):
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for words in commands(text):
        if "nodectl" in words:
            ours(words[words.index("nodectl") + 1:])
        program = words[0]
        if program.startswith(("ci/", "bench/")):
            path = ROOT / program
            assert path.is_file() and path.stat().st_mode & 0o111, f"there is no program {program}"


def ours(words):
    """A command of nodectl, against its help."""
    while words and "=" not in words[0] and words[0].startswith("-"):
        words = words[1:]
    names = []
    while words and re.fullmatch(r"[a-z][a-z-]*", words[0]) and in_image("nodectl", *names, words[0], "--help").returncode == 0:
        names.append(words[0])
        words = words[1:]
    assert names, f"nodectl has no command {words[:1]}"
    told = in_image("nodectl", *names, "--help").stdout
    for word in words:
        if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?", word):
            assert re.search(rf"(^|[\s,]){re.escape(word.split('=')[0])}\b", told), f"nodectl {' '.join(names)} has no {word}"
