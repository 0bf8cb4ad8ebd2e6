"""A stand-in for one Concourse worker: runs a pipeline's check, get, put and task steps with runc, under the
container specs recorded from a real worker (specs/). It is no CI system: see ../worker.md."""

from .host import Broken, Refused
from .images import Type
from .worker import Worker

__all__ = ["Broken", "Refused", "Type", "Worker"]
