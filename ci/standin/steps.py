"""Running a plan: the modifiers around steps, in Concourse's order (atc/steps.go), and the steps themselves."""

import copy
import json
import os
import threading
import time
from collections import ChainMap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from . import spec
from .build import Canceled, Scope, TimedOut
from .container import Container
from .host import Broken, Refused
from .images import Artifact, copy_tracked, copy_tree, make_dir
from .pipeline import LOCAL, check_task, filled, in_flight, parallel, parse, plain_step, seconds

URL = "http://127.0.0.1:8080"
OUTERMOST_FIRST = ("ensure", "on_error", "on_abort", "on_failure", "on_success", "across", "attempts")


class Steps:
    """Every method takes (step, scope) and says whether it succeeded; an error or an abort is an exception."""

    def __init__(self, build):
        self.build, self.worker, self.log = build, build.worker, build.logged
        self.artifacts, self._cache, self._lock = {}, {}, threading.Lock()

    def run(self, step, scope, modifiers=OUTERMOST_FIRST):
        for index, key in enumerate(modifiers):
            if key in step:
                inner = modifiers[index + 1:]
                return getattr(self, f"_{key}")(step, scope, lambda s=scope: self.run(step, s, inner))
        if over := scope.over():
            raise over
        for kind in ("get", "put", "task"):
            if kind in step:
                return getattr(self, f"_{kind}")(step, scope)
        return self._limited(step, scope, self._compound)

    # modifiers

    def _ensure(self, step, scope, body):
        error = ok = None
        try:
            ok = body()
        except (Broken, Refused, TimedOut, Canceled) as raised:
            error = raised
        hook_ok = self.run(step["ensure"], Scope() if scope.over() else scope)
        if scope.over() or error:
            raise scope.over() or error
        return ok and hook_ok

    def _on_error(self, step, scope, body):
        try:
            return body()
        except (Broken, Refused) as error:
            self.run(step["on_error"], scope)
            raise error

    def _on_abort(self, step, scope, body):
        try:
            return body()
        except Canceled:
            self.run(step["on_abort"], Scope())
            raise

    def _on_failure(self, step, scope, body):
        if body():
            return True
        self.run(step["on_failure"], scope)
        return False

    def _on_success(self, step, scope, body):
        return body() and self.run(step["on_success"], scope)

    def _attempts(self, step, scope, body):
        for remaining in reversed(range(step["attempts"])):
            try:
                if body():
                    return True
            except (Broken, Refused):
                if not remaining:
                    raise
        return False

    def _across(self, step, scope, _):
        return self._each(plain_step(step), step["across"], {}, step.get("fail_fast", False), scope)

    def _each(self, step, variables, chosen, fail_fast, scope):
        """The step for every value of the first var, and for each of them every value of the next."""
        if not variables:
            # What one of them makes the others do not see, nor does what comes after them.
            branch = copy.copy(self)
            branch.artifacts = ChainMap({}, self.artifacts)
            self.log.line("across: " + ", ".join(f"{k.removeprefix(LOCAL)}={v}" for k, v in chosen.items()), "1")
            return branch.run(filled(step, chosen, "across"), scope)
        first, *rest = variables
        ways = [lambda s, v=value: self._each(step, rest, {**chosen, LOCAL + first["var"]: v}, fail_fast, s) for value in first["values"]]
        return self._together(ways, in_flight(first), fail_fast, scope)

    def _limited(self, step, scope, body):
        """A step's own timeout: it fails, and does not error."""
        if "timeout" not in step:
            return body(step, scope)
        try:
            return body(step, Scope(scope, seconds(step["timeout"])))
        except TimedOut:
            if scope.over():
                raise
            self.log.line("timeout exceeded", "31")
            return False

    def _compound(self, step, scope):
        if "try" in step:
            try:
                self.run(step["try"], scope)
            except (Broken, Refused):
                pass
            return True
        if "do" in step:
            return all(self.run(child, scope) for child in step["do"])
        children, limit, fail_fast = parallel(step)
        return self._together([lambda s, c=child: self.run(c, s) for child in children], limit, fail_fast, scope)

    def _together(self, ways, limit, fail_fast, scope):
        inner = Scope(scope)

        def one(way):
            try:
                ok, error = way(inner), None
            except (Broken, Refused, TimedOut, Canceled) as raised:
                ok, error = False, raised
            if fail_fast and not ok:
                inner.cancel()
            return ok, error

        with ThreadPoolExecutor(max(1, limit or len(ways))) as pool:
            results = list(pool.map(one, ways))
        if over := scope.over():
            raise over
        errors = [e for _, e in results if e and not isinstance(e, Canceled)]
        if errors:
            raise errors[0] if len(errors) == 1 else Broken("; ".join(map(str, errors)))
        return all(ok for ok, _ in results)

    # what all leaf steps have in common

    def _leaf(self, kind, name, step, scope, body):
        """Record, log and time one step; `body(result, scope)` says whether it succeeded."""
        result = self.build.record(kind, name)
        self.build.event("start", step=f"{kind} {result.name}")
        self.log.line(f"{kind}: {result.name}", "1")
        try:
            ok = self._limited(step, scope, lambda _, inner: body(result, inner))
            result.status = "succeeded" if ok else "failed"
            return ok
        except TimedOut:  # a time limit further out: it ends everything else there too
            result.status = "failed"
            self.log.line("timeout exceeded", "31")
            return False
        except Canceled:
            result.status = "aborted"
            self.log.line("interrupted", "33")
            raise
        except (Broken, Refused, OSError) as error:
            result.status = "errored"
            self.log.line(str(error), "31")
            raise error if not isinstance(error, OSError) else Broken(str(error))
        finally:
            result.ended = time.monotonic()
            self.build.event("end", step=f"{kind} {result.name}", **result.event())

    def _contain(self, result, role, type_, privileged, **volumes):
        build = self.build
        numbers = {"BUILD_ID": str(build.number), "BUILD_NAME": "check" if role == "check" else str(build.number),
                   "BUILD_JOB_NAME": build.job["name"], "BUILD_PIPELINE_NAME": build.pipeline.name,
                   "BUILD_URL": f"{URL}/teams/main/pipelines/{build.pipeline.name}/jobs/{build.job['name']}/builds/{build.number}",
                   "BUILD_URL_SHORT": f"{URL}/builds/{build.number}"}
        container = Container(self.worker, build.containers, f"{result.kind} {result.name}", role, type_, privileged,
                              spec.environment(role, numbers), **volumes)
        result.container = container
        build.event("container", step=f"{result.kind} {result.name}", handle=container.handle, pid=container.pid,
                    address=container.address)
        return container

    def _volume(self, privileged):
        return make_dir(self.build.directory / os.urandom(8).hex(), privileged)

    # resources

    def _resource(self, step, kind):
        resource = self.build.pipeline.resource(step.get("resource", step[kind]))
        type_ = self.build.types.get(resource["type"])
        if not type_:
            raise Refused(f"no root file system for resource type {resource['type']!r}: --type {resource['type']}=ROOTFS")
        return resource, type_

    def _script(self, result, scope, container, script, arguments, request):
        """Run /opt/resource/…: its decoded answer, or None when it failed."""
        if over := scope.over():
            raise over
        process = container.start([f"/opt/resource/{script}", *arguments], stdin=json.dumps(request).encode(),
                                  on_output=self.log.write)
        result.exit_status = process.wait(scope)
        if result.exit_status != 0:
            self.log.line(f"exit status {result.exit_status}", "31")
            return None
        return decode(process.stdout, f"/opt/resource/{script} {' '.join(arguments)}".strip())

    def _answer(self, result, answer, script):
        result.version, result.metadata = version_and_metadata(answer, script)
        self.log.line("version: " + ", ".join(f"{k}={v}" for k, v in result.version.items()), "36")
        for pair in result.metadata:
            self.log.line(f"  {pair['name']}: {pair['value']}", "36")

    def _put(self, step, scope):
        name = step["put"]

        def out(result, scope):
            resource, type_ = self._resource(step, "put")
            params = step.get("params") or {}
            inputs = {f"/tmp/build/put/{n}": a for n, a in self._put_inputs(step.get("inputs"), params).items()}
            container = self._contain(result, "put", type_, type_.privileged, inputs=inputs,
                                      volumes={"/tmp/build/put": self._volume(type_.privileged)})
            answer = self._script(result, scope, container, "out", ["/tmp/build/put"], request(resource["source"], params))
            if answer is None:
                return False
            self._answer(result, answer, "out")
            step["_version"] = result.version
            return True

        step = dict(step)
        if not self._leaf("put", name, step, scope, out):
            return False
        if step.get("no_get"):
            return True
        implicit = {"get": name, "resource": step.get("resource", name), "version": step["_version"],
                    "params": step.get("get_params") or {}}
        if "timeout" in step:
            implicit["timeout"] = step["timeout"]
        return self._get(implicit, scope, wanted=step["_version"])

    def _put_inputs(self, wanted, params):
        if wanted == "all":
            return dict(self.artifacts)
        if wanted is None or wanted == "detect":
            return {n: self.artifacts[n] for n in detect(params) if n in self.artifacts}
        absent = [n for n in wanted if n not in self.artifacts]
        if absent:
            raise Broken(f"put input not found: {', '.join(absent)}")
        return {n: self.artifacts[n] for n in wanted}

    def _get(self, step, scope, wanted=None):
        name = step["get"]

        def local(result, scope):
            source = Path(self.build.local[step.get("resource", name)])
            target = self.build.directory / os.urandom(8).hex()
            (copy_tracked if (source / ".git").exists() else copy_tree)(source, target, keep_owner=False)
            self.artifacts[name] = Artifact(target, True)
            result.version = {"directory": str(source.resolve())}
            self.log.line(f"copied {source}", "36")
            return True

        def in_(result, scope):
            resource, type_ = self._resource(step, "get")
            version = wanted or self._version(result, step, scope, resource, type_)
            if version is None:
                return False
            asked = request(resource["source"], step.get("params") or {}, version)
            key = json.dumps([resource["type"], asked], sort_keys=True)
            if key in self._cache:  # a worker skips `in` for what it has already
                self.artifacts[name], result.version, result.metadata = self._cache[key]
                self.log.line("found in cache", "36")
                return True
            volume = self._volume(type_.privileged)
            container = self._contain(result, "get", type_, type_.privileged, volumes={"/tmp/build/get": volume})
            answer = self._script(result, scope, container, "in", ["/tmp/build/get"], asked)
            if answer is None:
                return False
            self._answer(result, answer, "in")
            self.artifacts[name] = Artifact(volume, type_.privileged)
            self._cache[key] = self.artifacts[name], result.version, result.metadata
            return True

        is_local = step.get("resource", name) in self.build.local and not wanted
        return self._leaf("get", name, step, scope, local if is_local else in_)

    def _version(self, result, step, scope, resource, type_):
        if isinstance(step.get("version"), dict):
            return step["version"]
        versions = self.check(result, scope, resource, type_)
        if versions == []:
            raise Broken(f"resource {resource['name']}: check found no version")
        return versions[-1] if versions else None

    def check(self, result, scope, resource, type_, version=None):
        """The versions that the resource's check gives, oldest first; None when it failed."""
        container = self._contain(result, "check", type_, type_.privileged)
        answer = self._script(result, scope, container, "check", [], request(resource["source"], {}, version))
        if answer is None:
            return None
        versions = [] if answer is EMPTY else answer
        if not isinstance(versions, list) or not all(is_version(v) for v in versions):
            raise Broken("check: its answer is no list of maps of strings")
        return versions

    # tasks

    def _task(self, step, scope):
        return self._leaf("task", step["task"], step, scope, lambda result, inner: self._run_task(result, step, inner))

    def _config(self, step):
        if "config" in step:
            return step["config"]
        artifact, _, path = step["file"].partition("/")
        file = self.artifacts[artifact].path / path if artifact in self.artifacts else None
        if not file or not file.is_file():
            raise Broken(f"task file {step['file']}: not found")
        config = filled(parse(file.read_text(), step["file"]), step.get("vars") or {}, step["file"])
        check_task(config, step["file"])
        return config

    def _run_task(self, result, step, scope):
        config, privileged = self._config(step), bool(step.get("privileged"))
        type_ = self._image(config["image_resource"])
        work = f"/tmp/build/{os.urandom(4).hex()}"
        inputs, volumes = {}, {work: self._volume(privileged)}
        for item in config.get("inputs") or []:
            source = (step.get("input_mapping") or {}).get(item["name"], item["name"])
            if source in self.artifacts:
                inputs[inside(work, item.get("path") or item["name"])] = self.artifacts[source]
            elif not item.get("optional"):
                raise Broken(f"missing inputs: {source}")
        outputs = {}
        for item in config.get("outputs") or []:
            path = outputs[(step.get("output_mapping") or {}).get(item["name"], item["name"])] = \
                inside(work, item.get("path") or item["name"])
            if path not in inputs:
                volumes[path] = self._volume(privileged)
        for item in config.get("caches") or []:
            volumes[inside(work, item["path"])] = self._task_cache(step["task"], item["path"], privileged)
        if work in inputs:  # an input with path: .
            del volumes[work]
        container = self._contain(result, "task", type_, privileged, inputs=inputs, volumes=volumes)
        if over := scope.over():
            raise over
        params = {**(config.get("params") or {}), **(step.get("params") or {})}
        run = config["run"]
        argv = [run["path"], *map(str, run.get("args") or [])]
        self.log.line("running " + " ".join(argv), "1")
        process = container.start(argv, cwd=inside(work, run.get("dir") or "."), user=run.get("user") or "root", tty=True,
                                  env=[f"{k}={env_text(v)}" for k, v in params.items()], on_output=self.log.write)
        try:
            result.exit_status = process.wait(scope)
        finally:  # as on a worker: outputs of a failed task are there for its hooks
            for name, path in outputs.items():
                self.artifacts[name] = self._output(container.sources[path], path in inputs, privileged)
        if result.exit_status != 0:
            self.log.line(f"exit status {result.exit_status}", "31")
        return result.exit_status == 0

    def _image(self, image):
        repository, tag = ((image.get("source") or {}).get(k) for k in ("repository", "tag"))
        for key in (f"{repository}:{tag}", repository, image["type"]):
            if key in self.build.types:
                return self.build.types[key]
        raise Refused(f"no root file system for this task's image: --type {repository or image['type']}=ROOTFS")

    def _output(self, source, was_input, privileged):
        if not was_input:
            return Artifact(source, privileged)
        target = self.build.directory / os.urandom(8).hex()  # overlays cannot be stacked without end
        copy_tree(source, target)
        return Artifact(target, privileged)

    def _task_cache(self, task, path, privileged):
        """Kept on the worker between its builds. Unlike a worker's, shared as it is by builds side by side."""
        words = [self.build.pipeline.name, self.build.job["name"], task, path, "root" if privileged else "shifted"]
        return make_dir(self.worker.directory / "caches" / "--".join(w.replace("/", "_") for w in words), privileged)


EMPTY = object()  # a script that printed nothing


def decode(stdout, script):
    """The first JSON value; what follows it is ignored."""
    text = stdout.decode(errors="replace").lstrip()
    if not text:
        return EMPTY
    try:
        return json.JSONDecoder().raw_decode(text)[0]
    except ValueError as error:
        raise Broken(f"{script}: stdout is not JSON ({error}): {text[:200]!r}") from None


def is_version(value):
    return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())


def version_and_metadata(answer, script):
    where = f"resource script (/opt/resource/{script})"
    if answer is EMPTY or (isinstance(answer, dict) and not answer.get("version")):
        raise Broken(f"{where} output a null or empty version")
    if not isinstance(answer, dict) or not is_version(answer["version"]):
        raise Broken(f"{where}: version is no map of strings: {json.dumps(answer)[:300]}")
    metadata = answer.get("metadata") or []
    if not isinstance(metadata, list) or not all(is_version(m) and {"name", "value"} <= set(m) for m in metadata):
        raise Broken(f"{where}: metadata is no list of name and value, both strings: {json.dumps(metadata)[:300]}")
    return answer["version"], metadata


def request(source, params, version=None):
    return {"source": source, **({"params": params} if params else {}), **({"version": version} if version else {})}


def detect(value):
    """Names of artifacts that params may mean: the first path segment of every string (atc/exec/put_inputs.go)."""
    if isinstance(value, str):
        parts = value.split("/")
        return [next((p for p in parts if p not in (".", "..")), value)] if len(parts) > 1 else [value]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [name for child in children for name in detect(child)]


def inside(work, path):
    return os.path.normpath(PurePosixPath(work) / path)


def env_text(value):
    """Params as Concourse hands them to a task: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)
