"""One build: its log, its events, its end."""

import json
import shutil
import threading
import time
from dataclasses import dataclass, field

from . import spec
from .host import Broken, Refused
from .images import Type
from .pipeline import HOOKS, Pipeline


class Canceled(Exception):
    """The build was aborted, or a sibling failed under fail_fast."""


class TimedOut(Exception):
    """A step's timeout passed."""


class Scope:
    """What can end a step from outside: an abort or a time limit, its own or its parents'."""

    def __init__(self, parent=None, timeout=None):
        self._parent, self._cancelled = parent, threading.Event()
        self._end = None if timeout is None else time.monotonic() + timeout

    def cancel(self):
        self._cancelled.set()

    def over(self):
        """The exception to end with, or None. An outer reason goes before an inner one."""
        above = self._parent.over() if self._parent else None
        if above:
            return above
        if self._cancelled.is_set():
            return Canceled()
        return TimedOut() if self._end is not None and time.monotonic() >= self._end else None


@dataclass
class StepResult:
    kind: str
    name: str
    started: float = 0.0
    ended: float = 0.0
    status: str = "started"  # succeeded, failed, errored, aborted
    exit_status: int | None = None
    version: dict | None = None
    metadata: list = field(default_factory=list)
    container: object = field(default=None, repr=False)

    def event(self):
        shown = {k: v for k, v in vars(self).items() if k != "container"}
        if self.container:
            shown |= {"handle": self.container.handle, "pid": self.container.pid, "address": self.container.address}
        return shown


EXIT = {"succeeded": 0, "failed": 1, "errored": 2, "aborted": 3}
COLOURS = {"succeeded": "32", "failed": "31", "errored": "33;1", "aborted": "33"}


class Log:
    """What the build printed: kept, and written through. A text to abort at is looked for as it grows."""

    def __init__(self, out, colour):
        self._out, self._colour, self._parts, self._lock = out, colour, [], threading.Condition()
        self.watch = None  # (text, what to call when it was printed)

    def write(self, text):
        if not text:
            return
        with self._lock:
            self._parts.append(text)
            if self._out:
                self._out.write(text)
                self._out.flush()
            self._lock.notify_all()
            hit = self.watch if self.watch and self.watch[0] in self.text else None
            if hit:
                self.watch = None
        if hit:
            hit[1]()

    def line(self, text, code=None):
        with self._lock:
            fresh = not self._parts or self._parts[-1].endswith("\n")
        text = text if fresh else f"\n{text}"
        self.write(f"\x1b[{code}m{text}\x1b[0m\n" if code and self._colour else f"{text}\n")

    @property
    def text(self):
        """Under the lock only."""
        self._parts[:] = ["".join(self._parts)]
        return self._parts[0]

    def wait_for(self, text, timeout, over):
        with self._lock:
            self._lock.wait_for(lambda: text in self.text or over(), timeout)
            return text in self.text


class Build:
    """types: {name: Type or rootfs}; resources: {name: directory to get}; vars: of the pipeline; keep: containers stay until
    release(); abort_after: text in the log, or seconds; out: a stream for the log (None: only kept); events: file of JSON lines."""

    def __init__(self, worker, pipeline, job=None, types=None, resources=None, vars=None, keep=False, abort_after=None, out=None,
                 colour=False, events=None):
        from .steps import Steps
        self.worker, self.keep = worker, keep
        self.pipeline = pipeline if isinstance(pipeline, Pipeline) else Pipeline(pipeline, vars)
        self.job = self.pipeline.job(job)
        self.number = worker.number()
        self.types = {n: t if isinstance(t, Type) else Type(str(t)) for n, t in (types or {}).items()}
        self.types = {n: Type(t.rootfs, t.privileged or n in self.pipeline.privileged_types) for n, t in self.types.items()}
        self.local = dict(resources or {})
        for name in self.local:
            if name not in self.pipeline.resources:
                raise Refused(f"resource {name!r} is not in the pipeline")
        self.directory = worker.mine / "b" / str(self.number)
        self.logged = Log(out, colour)
        self._events = open(events, "a") if events else None
        self.scope, self.steps, self.containers, self.status = Scope(), {}, [], "pending"
        self._lock = threading.Lock()
        self._runner = Steps(self)
        self._abort_after = abort_after
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def log(self):
        with self.logged._lock:
            return self.logged.text

    @property
    def exit_status(self):
        return EXIT[self.status]

    def start(self):
        self.worker.builds.append(self)
        self.status = "started"
        self.event("build", status="started")
        for sentence in spec.missing():
            self.logged.line(f"worker: {sentence}", "2")
        timer = None
        if isinstance(self._abort_after, (int, float)):
            timer = threading.Timer(self._abort_after, self.abort)
            timer.daemon = True
            timer.start()
        elif self._abort_after:
            self.logged.watch = (self._abort_after, self.abort)
        self._thread.start()

    def abort(self):
        self.scope.cancel()

    def wait(self, timeout=None):
        """Block until the build is over and, without keep, its containers are gone. self."""
        self._thread.join(timeout)
        return self

    def wait_for_log(self, text, timeout=60):
        """Whether the log came to contain `text`; also ends when the build does."""
        return self.logged.wait_for(text, timeout, lambda: not self._thread.is_alive())

    def release(self):
        """What a worker's garbage collection does with a finished build: its containers are destroyed, then its volumes."""
        errors = [e for c in list(self.containers) if c in self.worker.containers for e in self.worker.end(c)]
        shutil.rmtree(self.directory, ignore_errors=True)
        if errors:
            raise Broken("; ".join(errors))

    def event(self, event_, /, **values):
        if self._events:
            with self._lock:
                self._events.write(json.dumps({"event": event_, "t": time.monotonic(), "build": self.number, **values}) + "\n")
                self._events.flush()

    def record(self, kind, name):
        """A new step result under `kind name`, numbered from the second on (attempts)."""
        with self._lock:
            key, count = f"{kind} {name}", 2
            while key in self.steps:
                key, count = f"{kind} {name} ({count})", count + 1
            result = self.steps[key] = StepResult(kind, key.removeprefix(f"{kind} "), time.monotonic())
        return result

    def _run(self):
        plan = {"do": self.job.get("plan", []), **{h: self.job[h] for h in HOOKS if h in self.job}}
        try:
            status = "succeeded" if self._runner.run(plan, self.scope) else "failed"
        except Canceled:
            status = "aborted"
        except Exception as error:  # a defect of ours must end the build too, and be seen
            if not isinstance(error, (Broken, Refused, TimedOut)):
                self.logged.line(f"stand-in: {type(error).__name__}: {error}", "31")
            status = "errored"
        try:
            if not self.keep:
                self.release()
        except Broken as error:
            self.logged.line(f"worker: {error}", "31")
            status = "errored"
        self.status = status
        self.logged.line(status, COLOURS[status])
        self.event("build", status=status)
        if self._events:
            self._events.close()
            self._events = None
        self.worker.builds.remove(self)
        with self.logged._lock:
            self.logged._lock.notify_all()
