"""No service may look at a real clock or draw from real randomness during a run: nothing would repeat itself any more.

A lint forbids the imports (tests/architecture); this guards the calls, by who makes them: libraries may time their own
pools and logs, and adapters are what touches the world.
"""

import contextlib
import os
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

SERVICES: Final = ("cloud.core", "cloud.service", "edge_agent.core", "edge_agent.service", "federated.", "wire.")
ADAPTERS: Final = ("wire.adapters", "federated.adapters")
FORBIDDEN: Final[tuple[tuple[ModuleType, tuple[str, ...]], ...]] = (
    (time, ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep")),
    (random, ("random", "getrandbits", "randint", "choice", "shuffle", "sample", "uniform")),
    (uuid, ("uuid1", "uuid4")),
    (os, ("urandom",)),
)


class UnrepeatableError(Exception):
    """A service called what differs from run to run; a port is the way."""


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Inside, such a call raises UnrepeatableError where a service makes it."""
    with contextlib.ExitStack() as stack:
        for module, names in FORBIDDEN:
            for name in names:
                real = getattr(module, name)
                stack.callback(setattr, module, name, real)
                setattr(module, name, _guard(real, f"{module.__name__}.{name}"))
        yield


def _guard(real: Callable[..., Any], what: str) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.startswith(SERVICES) and not caller.startswith(ADAPTERS):
            raise UnrepeatableError(
                f"{caller} calls {what}: take the clock, the ids or the randomness that a port gives"
            )
        return real(*arguments, **named)

    return call
