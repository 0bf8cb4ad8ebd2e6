"""Pipeline and task files: read, ((vars)) filled in, and everything that is not understood refused before anything runs."""

import re
from pathlib import Path

import yaml

from .host import Refused


class Loader(yaml.SafeLoader):
    """YAML as Concourse reads it: what looks like a date stays text."""


Loader.yaml_implicit_resolvers = {first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:timestamp"]
                                  for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()}

HOOKS = ("ensure", "on_error", "on_abort", "on_failure", "on_success")
MODIFIERS = {*HOOKS, "attempts", "timeout", "tags"}
STEPS = {
    "get": {"resource", "version", "params", "passed", "trigger"},
    "put": {"resource", "params", "get_params", "inputs", "no_get"},
    "task": {"config", "file", "privileged", "params", "vars", "input_mapping", "output_mapping"},
    "in_parallel": set(), "do": set(), "try": set(),
}
JOB = {"name", "plan", *HOOKS} | {"old_name", "serial", "serial_groups", "max_in_flight", "public", "interruptible",
                                  "disable_manual_trigger", "build_log_retention"}  # scheduling: nothing to do in one build
TASK = {"platform", "image_resource", "params", "inputs", "outputs", "caches", "run"}


def parse(text, where):
    try:
        value = yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise Refused(f"{where}: {error}") from None
    if not isinstance(value, dict):
        raise Refused(f"{where}: not a map")
    return value


VAR = re.compile(r"\(\(\s*([^()\s]+)\s*\)\)")


def interpolate(value, variables, missing):
    """Fill ((name)) and ((name.field)) in; a value that is one var alone keeps its type. Unknown names are added to `missing`."""
    if isinstance(value, dict):
        return {interpolate(k, variables, missing): interpolate(v, variables, missing) for k, v in value.items()}
    if isinstance(value, list):
        return [interpolate(v, variables, missing) for v in value]
    if not isinstance(value, str):
        return value

    def look_up(name):
        here = variables
        for part in [name] if name in variables else name.split("."):
            if not isinstance(here, dict) or part not in here:
                missing.add(name)
                return ""
            here = here[part]
        return here

    def text(match):
        found = look_up(match.group(1))
        return str(found).lower() if isinstance(found, bool) else str(found)

    alone = VAR.fullmatch(value)
    return look_up(alone.group(1)) if alone else VAR.sub(text, value)


def filled(value, variables, where):
    missing = set()
    value = interpolate(value, variables, missing)
    if missing:
        raise Refused(f"{where}: undefined vars: {', '.join(sorted(missing))}")
    return value


class Pipeline:
    def __init__(self, source, variables=None):
        """`source`: a path, or the pipeline as text or as a dict."""
        self.name = "pipeline"
        if isinstance(source, dict):
            raw = source
        elif isinstance(source, str) and "\n" in source:
            raw = parse(source, "pipeline")
        else:
            self.name = re.sub(r"[^\w.-]", "-", Path(source).stem)
            raw = parse(Path(source).read_text(), source)
        raw = filled(raw, variables or {}, self.name)
        known(raw, {"resource_types", "resources", "jobs", "groups", "display"}, "pipeline")
        for kind, keys in (("resource_types", ("name", "type")), ("resources", ("name", "type")), ("jobs", ("name",))):
            for index, item in enumerate(raw.get(kind) or []):
                if not isinstance(item, dict) or not all(isinstance(item.get(k), str) for k in keys):
                    raise Refused(f"{kind}[{index}]: needs {' and '.join(keys)}")
        self.privileged_types = {t["name"] for t in raw.get("resource_types") or [] if t.get("privileged")}
        self.type_defaults = {t["name"]: t.get("defaults", {}) for t in raw.get("resource_types") or []}
        self.resources = {r["name"]: r for r in raw.get("resources") or []}
        self.jobs = {j["name"]: j for j in raw.get("jobs") or []}
        for name, job in self.jobs.items():
            known(job, JOB, f"jobs.{name}")
            for index, step in enumerate(job.get("plan", [])):
                self.check(step, f"jobs.{name}.plan[{index}]")
            for hook in HOOKS:
                hook in job and self.check(job[hook], f"jobs.{name}.{hook}")

    def job(self, name=None):
        if name is None and len(self.jobs) != 1:
            raise Refused(f"which job? {', '.join(self.jobs) or 'there is none'}")
        name = name or next(iter(self.jobs))
        if name not in self.jobs:
            raise Refused(f"no job {name!r}; there are: {', '.join(self.jobs)}")
        return self.jobs[name]

    def resource(self, name):
        found = self.resources[name]
        return {**found, "source": {**self.type_defaults.get(found["type"], {}), **(found.get("source") or {})}}

    def check(self, step, where):
        """Refuse what a step says and we would not do."""
        if not isinstance(step, dict):
            raise Refused(f"{where}: not a step")
        kinds = [k for k in STEPS if k in step]
        if len(kinds) != 1:
            raise Refused(f"{where}: the stand-in runs {', '.join(STEPS)}; this step has {', '.join(map(str, step))}")
        kind = kinds[0]
        known(step, {kind} | STEPS[kind] | MODIFIERS, where)
        if "timeout" in step:
            seconds(step["timeout"])
        if not isinstance(step.get("attempts", 1), int) or step.get("attempts", 1) < 1:
            raise Refused(f"{where}.attempts: {step['attempts']!r} is no number above 0")
        children = {"do": step.get("do"), "try": [step.get("try")], "in_parallel": parallel(step)[0]}.get(kind, [])
        for index, child in enumerate(children):
            self.check(child, f"{where}.{kind}[{index}]")
        for hook in HOOKS:
            hook in step and self.check(step[hook], f"{where}.{hook}")
        if kind in ("get", "put") and step.get("resource", step[kind]) not in self.resources:
            raise Refused(f"{where}: unknown resource {step.get('resource', step[kind])!r}")
        if kind == "task":
            if ("config" in step) == ("file" in step):
                raise Refused(f"{where}: a task has either config or file")
            "config" in step and check_task(step["config"], f"{where}.config")


def parallel(step):
    """(steps, limit, fail_fast) of an in_parallel step."""
    value = step.get("in_parallel")
    if isinstance(value, dict):
        known(value, {"steps", "limit", "fail_fast"}, "in_parallel")
        return value.get("steps", []), value.get("limit"), value.get("fail_fast", False)
    return value or [], None, False


def check_task(config, where):
    known(config, TASK, where)
    if config.get("platform", "linux") != "linux":
        raise Refused(f"{where}.platform: {config['platform']!r}: this worker is linux")
    if not (config.get("run") or {}).get("path"):
        raise Refused(f"{where}.run.path: missing")
    known(config["run"], {"path", "args", "dir", "user"}, f"{where}.run")
    if "image_resource" not in config:
        raise Refused(f"{where}.image_resource: missing (the stand-in has no images from artifacts)")
    for field, keys in (("inputs", {"name", "path", "optional"}), ("outputs", {"name", "path"}), ("caches", {"path"})):
        for index, item in enumerate(config.get(field) or []):
            known(item, keys, f"{where}.{field}[{index}]")


def known(value, keys, where):
    unknown = [str(k) for k in value if k not in keys]
    if unknown:
        raise Refused(f"{where}: the stand-in does not do: {', '.join(unknown)}")


UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


def seconds(text):
    """A Go duration, as in `timeout: 1h30m`."""
    if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h))+", str(text)):
        raise Refused(f"{text!r} is no duration such as 90s or 1h30m")
    return sum(float(n) * UNITS[u] for n, _, u in re.findall(r"(\d+(\.\d+)?)(ms|s|m|h)", text))
