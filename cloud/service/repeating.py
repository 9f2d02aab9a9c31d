"""Jobs that are done again whenever somebody wakes them: the truth is in the database, so one that fails is repeated.

What the environment is to blame for (broker, database, object store) passes. Any other error is a defect of ours that
may stay for ever: it is noted, for whoever asks how the hub is, until the job has been done once more.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from cloud.errors import StoreError
from cloud.ports import ObjectMissingError
from cloud.service.leadership import DeposedError
from wire.ports import Clock, LinkError

log = logging.getLogger(__name__)

Act: TypeAlias = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Repeated:
    """A job: `woken` returns when it is due, `step` does it."""

    name: str
    woken: Act
    step: Act


@dataclass(frozen=True, slots=True)
class Failure:
    """A job that fails by a defect. `error`: its kind and where it came from, and nothing of what it says."""

    job: str
    since_ns: int
    last_ns: int
    error: str


class Failures:
    """Which jobs fail now."""

    def __init__(self) -> None:
        self._failing: dict[str, Failure] = {}

    def now(self) -> tuple[Failure, ...]:
        """Those that failed last time, the longest first."""
        return tuple(sorted(self._failing.values(), key=lambda one: (one.since_ns, one.job)))

    def note(self, job: str, error: Exception, now_ns: int) -> None:
        """It failed, perhaps again."""
        known = self._failing.get(job) or Failure(job, now_ns, now_ns, "")
        self._failing[job] = replace(known, last_ns=now_ns, error=_kind(error))

    def over(self, job: str) -> None:
        """It was done, or is done by this hub no more."""
        self._failing.pop(job, None)


async def repeat(job: Repeated, failures: Failures, clock: Clock) -> None:
    """Do it whenever it is woken, for ever."""
    try:
        while True:
            await job.woken()
            await _once(job, failures, clock)
    finally:
        failures.over(job.name)


async def rung(bell: asyncio.Event) -> None:
    """Wait for the bell, and let it ring anew."""
    await bell.wait()
    bell.clear()


async def _once(job: Repeated, failures: Failures, clock: Clock) -> None:
    try:
        await job.step()
    except LinkError as error:
        log.info("%s: put off, %s", job.name, error)
    except DeposedError as error:
        log.debug("%s: not done, %s", job.name, error)
    except StoreError as error:
        log.warning("%s: put off, %s", job.name, error)
    except ObjectMissingError as error:
        log.error("%s: an object that devices need is gone: %s", job.name, error)
    except Exception as error:
        log.exception("%s failed; it will be tried again", job.name)
        failures.note(job.name, error, clock.now_ns())
    else:
        failures.over(job.name)


def _kind(error: Exception) -> str:
    """The last of our own frames: what an error says may hold a secret, or what a device sent."""
    place, trace = "", error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        if module.partition(".")[0] in ("cloud", "wire"):
            place = f" in {module}.{trace.tb_frame.f_code.co_name}"
        trace = trace.tb_next
    return f"{type(error).__name__}{place}"
