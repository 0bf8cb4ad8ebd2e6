"""Pipeline and task files: read, ((vars)) filled in, and everything that is not understood refused before anything runs."""

import itertools
import re
from pathlib import Path

import yaml

from .host import Refused


class Loader(yaml.SafeLoader):
    """YAML as Concourse reads it: what looks like a date stays text."""


Loader.yaml_implicit_resolvers = {first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:timestamp"]
                                  for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()}

HOOKS = ("ensure", "on_error", "on_abort", "on_failure", "on_success")
MODIFIERS = {*HOOKS, "across", "fail_fast", "attempts", "timeout", "tags"}
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
LOCAL = ".:"  # ((.:name)): a var of an across step


def interpolate(value, variables, missing):
    """Fill ((name)) and ((name.field)) in; a value that is one var alone keeps its type. Unknown names are added to `missing`,
    but for local vars, which stay as they are until they have a value."""
    if isinstance(value, dict):
        return {interpolate(k, variables, missing): interpolate(v, variables, missing) for k, v in value.items()}
    if isinstance(value, list):
        return [interpolate(v, variables, missing) for v in value]
    if not isinstance(value, str):
        return value

    def look_up(name):
        here, scope, plain = variables, "", name
        if name.startswith(LOCAL):
            scope, plain = LOCAL, name.removeprefix(LOCAL)
            if scope + plain.split(".")[0] not in variables:
                return f"(({name}))"
        first, *fields = plain.split(".")
        for part in [name] if name in variables else [scope + first, *fields]:
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
        if "across" in step:
            return self.check_across(step, where)
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
        own = {k: v for k, v in step.items() if k not in {*HOOKS, "do", "try", "in_parallel"}}
        if unset := local_vars(own):
            raise Refused(f"{where}: the stand-in does not know the local vars {', '.join(sorted(unset))}")

    def check_across(self, step, where):
        """Each combination is checked as the step that it will be."""
        if not step["across"]:
            raise Refused(f"{where}.across: no vars")
        for index, item in enumerate(step["across"]):
            known(item, {"var", "values", "max_in_flight"}, f"{where}.across[{index}]")
            if not isinstance(item.get("values"), list) or not isinstance(item.get("var"), str):
                raise Refused(f"{where}.across[{index}]: needs var and a list of values")
            in_flight(item)
        for chosen in combinations(step["across"]):
            self.check(filled(plain_step(step), chosen, where), f"{where}.across({', '.join(map(str, chosen.values()))})")
        for hook in HOOKS:
            hook in step and self.check(step[hook], f"{where}.{hook}")


def plain_step(step):
    """What an across step runs for each combination: hooks around it run once, after all."""
    return {k: v for k, v in step.items() if k not in {"across", "fail_fast", *HOOKS}}


def combinations(variables):
    """[{".:name": value}], in Concourse's order: the last var changes fastest."""
    keys = [LOCAL + item["var"] for item in variables]
    return [dict(zip(keys, values)) for values in itertools.product(*(item["values"] for item in variables))]


def in_flight(item):
    """How many of a var's values run at a time; None: all."""
    limit = item.get("max_in_flight", 1)
    if limit == "all":
        return None
    if not isinstance(limit, int) or limit < 1:
        raise Refused(f"across.{item.get('var')}.max_in_flight: {limit!r} is neither a number above 0 nor all")
    return limit


def local_vars(value):
    if isinstance(value, dict):
        return {n for pair in value.items() for part in pair for n in local_vars(part)}
    if isinstance(value, list):
        return {n for part in value for n in local_vars(part)}
    return {n for n in VAR.findall(value) if n.startswith(LOCAL)} if isinstance(value, str) else set()


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
