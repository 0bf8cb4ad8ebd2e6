"""The command line of ci/worker."""

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import yaml

from . import worker as workers
from .build import Build, Scope
from .host import Broken, Refused
from .images import Type
from .pipeline import parse
from .worker import Worker


def pair(text):
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def arguments():
    parser = argparse.ArgumentParser(prog="ci/worker", description=__doc__ + " See ci/worker.md.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--state", type=Path, default=workers.STATE, help="where everything is kept (%(default)s)")
    common.add_argument("--worker", metavar="NAME", help="join the worker NAME, or make it: builds on one bridge")
    on = argparse.ArgumentParser(add_help=False, parents=[common])
    on.add_argument("--type", type=pair, action="append", default=[], metavar="NAME=ROOTFS",
                    help="root file system (directory, tar or docker:TAG) of a resource type, or of a task image by repository or type")
    on.add_argument("--privileged-type", action="append", default=[], metavar="NAME", help="as a worker's base type may be")
    on.add_argument("--nat", action="store_true", help="let containers reach out through the host")
    on.add_argument("--keep", action="store_true", help="keep containers when the build is over, until Enter or Ctrl-C")
    on.add_argument("--events", metavar="FILE", help="append what happens as JSON lines")
    on.add_argument("--abort-after", metavar="TEXT|SECONDS", help="abort the build then")
    of = argparse.ArgumentParser(add_help=False)
    of.add_argument("pipeline")
    of.add_argument("--var", "-v", type=pair, action="append", default=[], metavar="NAME=TEXT")
    of.add_argument("--yaml-var", "-y", type=pair, action="append", default=[], metavar="NAME=YAML")
    run = verbs.add_parser("run", parents=[on, of], help="run a job of a pipeline file")
    run.add_argument("--job")
    run.add_argument("--resource", type=pair, action="append", default=[], metavar="NAME=DIR", help="a get of NAME copies DIR")
    check = verbs.add_parser("check", parents=[on, of], help="run a resource's check; the versions go to stdout")
    check.add_argument("name")
    check.add_argument("--from", dest="version", type=json.loads, metavar="JSON", help="the version to check from")
    execute = verbs.add_parser("execute", parents=[on], help="one task, as fly execute does it")
    execute.add_argument("-c", "--config", required=True)
    execute.add_argument("-p", "--privileged", action="store_true")
    execute.add_argument("-i", "--input", type=pair, action="append", default=[], metavar="NAME=DIR")
    execute.add_argument("-o", "--output", type=pair, action="append", default=[], metavar="NAME=DIR")
    verbs.add_parser("containers", parents=[common], help="list what runs: worker, handle, step, address")
    hijack = verbs.add_parser("hijack", parents=[common], help="run a command in a container, as fly hijack does")
    hijack.add_argument("container", help="handle, or its beginning, or the step as listed")
    hijack.add_argument("command", nargs="*", help="after --; default: sh")
    verbs.add_parser("gc", parents=[common], help="clean up after harnesses that were killed")
    return parser.parse_args()


def main():
    options = arguments()
    try:
        return globals()[f"{options.verb}_"](options)
    except (Refused, Broken, OSError) as error:
        print(f"ci/worker: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 3


def begin(worker, options, pipeline, out, **more):
    """Start a build under the options that all verbs share; Ctrl-C and SIGTERM abort it, once more ends everything at once."""
    after = options.abort_after
    if after and after.replace(".", "", 1).isdigit():
        after = float(after)
    types = {n: Type(r, n in options.privileged_type) for n, r in options.type}
    build = Build(worker, pipeline, types=types, out=out, colour=out.isatty(), events=options.events, abort_after=after,
                  keep=True, **more)

    def interrupted(*_):
        if build.scope.over():
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # what follows is the clean-up
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise KeyboardInterrupt
        build.abort()

    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)
    build.start()
    return build


def finish(build, options):
    while build._thread.is_alive():
        build.wait(0.2)  # in slices, so that signals are handled
    if options.keep:
        print(f"kept on worker {build.worker.name}; Enter to end", file=sys.stderr)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            sys.stdin.readline()
        except KeyboardInterrupt:
            pass
    build.release()


def variables(options):
    return {**dict(options.var), **{n: yaml.safe_load(v) for n, v in options.yaml_var}}


def run_(options):
    with Worker(options.worker, options.state, options.nat) as worker:
        build = begin(worker, options, options.pipeline, sys.stdout, job=options.job, resources=dict(options.resource),
                      vars=variables(options))
        finish(build, options)
    return build.exit_status


def check_(options):
    from .pipeline import Pipeline
    pipeline = Pipeline(options.pipeline, variables(options))
    if options.name not in pipeline.resources:
        raise Refused(f"no resource {options.name!r}")
    pipeline.jobs = {"check": {"name": "check", "plan": []}}
    with Worker(options.worker, options.state, options.nat) as worker:
        types = {n: Type(r, n in options.privileged_type) for n, r in options.type}
        build = Build(worker, pipeline, types=types, out=sys.stderr, events=options.events)
        resource, type_ = build._runner._resource({"get": options.name}, "get")
        versions = build._runner.check(build.record("check", options.name), Scope(), resource, type_, options.version)
    if versions is None:
        return 1
    print(json.dumps(versions))
    return 0


def execute_(options):
    config = parse(Path(options.config).read_text(), options.config)
    config["params"] = {n: os.environ.get(n, v) for n, v in (config.get("params") or {}).items()}  # as fly: from the environment
    inputs = dict(options.input) or {i["name"]: "." for i in (config.get("inputs") or [])[:1]}
    pipeline = {"resources": [{"name": n, "type": "local"} for n in inputs],
                "jobs": [{"name": "one-off", "plan": [{"get": n} for n in inputs] +
                          [{"task": "one-off", "privileged": options.privileged, "config": config}]}]}
    with Worker(options.worker, options.state, options.nat) as worker:
        build = begin(worker, options, pipeline, sys.stdout, resources=inputs)
        while build._thread.is_alive():
            build.wait(0.2)
        for name, target in options.output:  # also when it failed
            if name in build._runner.artifacts:
                subprocess.run(["cp", "-a", "--no-preserve=ownership", f"{build._runner.artifacts[name].lower(True)}/.",
                                f"{Path(target).mkdir(parents=True, exist_ok=True) or target}/"], check=True)
        finish(build, options)
    task = build.steps.get("task one-off")
    return (task.exit_status if task else 0) or build.exit_status


def listed(options):
    for directory in sorted(options.state.glob(f"workers/{options.worker or '*'}/h/*/c/*")):
        label = directory / "step"
        if (directory / "pidns").exists():
            yield directory.parts[-5], directory.name, label.read_text(), (directory / "address").read_text()


def containers_(options):
    for row in listed(options):
        print("\t".join(row))
    return 0


def hijack_(options):
    found = [row for row in listed(options) if row[1].startswith(options.container) or row[2] == options.container]
    if len(found) != 1:
        raise Refused(f"{options.container!r} names {len(found)} containers; see ci/worker containers")
    root = options.state / "workers" / found[0][0] / "runc"
    terminal = ["-t"] if sys.stdin.isatty() else []
    environment = ["-e", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "-e", "USER=root"]
    return subprocess.run(["runc", "--root", root, "exec", *terminal, *environment, found[0][1], *(options.command or ["sh"])]).returncode


def gc_(options):
    errors = workers.gc(options.state)
    for error in errors:
        print(f"ci/worker: {error}", file=sys.stderr)
    return 2 if errors else 0
