"""One parser under fire: every input must be taken or refused by an error that is documented, and in bounded time.

What is taken is judged, too: a damaged signed document that is read must mean what was signed. Time is the process's
own, measured again where the wall clock looked long, so that a busy machine does not count against the parser.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from wire.errors import WireError

SLOW_NS = 20_000_000
"""What took longer by the wall clock is done again and timed by the processor's clock."""
KEPT = 3
"""Failures that are shown."""


def _anything(value: Any) -> bool:
    return True


@dataclass(frozen=True)
class Parser:
    """Reads bytes from elsewhere. `sound` judges what it took; `refuses` is every error that it may raise."""

    name: str
    samples: tuple[bytes, ...]
    read: Callable[[bytes], object]
    refuses: tuple[type[Exception], ...] = (WireError,)
    sound: Callable[[Any], bool] = _anything
    weight: float = 1.0
    """Share of the inputs that it gets; below 1 only where a single input takes long."""


@dataclass
class Tally:
    """How it went. `unhandled` and `unsound` must stay 0."""

    inputs: int = 0
    taken: int = 0
    unhandled: int = 0
    unsound: int = 0
    slowest_ms: float = 0.0
    failures: list[str] = field(default_factory=list)

    def blame(self, what: str, data: bytes) -> None:
        """Keep the first failures, short."""
        if len(self.failures) < KEPT:
            self.failures.append(f"{what[:200]} <- {data[:300]!r} ({len(data)} bytes)")


def rehearse(parser: Parser, tally: Tally) -> None:
    """A parser that refuses its good samples proves nothing."""
    for data in parser.samples:
        taken = tally.taken
        _try(parser, data, tally)
        if tally.taken == taken:
            tally.unsound += 1
            tally.blame("refused, but it is a good sample", data)


def assault(parser: Parser, inputs: Iterable[bytes], tally: Tally) -> None:
    """Feed all inputs to the parser."""
    clock = time.perf_counter_ns
    for data in inputs:
        began = clock()
        _try(parser, data, tally)
        if clock() - began > tally.slowest_ms * 1e6:
            tally.slowest_ms = max(tally.slowest_ms, _milliseconds(parser, data, clock() - began))


def _try(parser: Parser, data: bytes, tally: Tally) -> None:
    tally.inputs += 1
    try:
        value = parser.read(data)
    except parser.refuses:
        return
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        tally.unhandled += 1
        tally.blame(f"{type(error).__name__}: {error}", data)
        return
    tally.taken += 1
    if not parser.sound(value):
        tally.unsound += 1
        tally.blame(f"taken, but it is not what it should be: {str(value)[:120]}", data)


def _milliseconds(parser: Parser, data: bytes, wall_ns: int) -> float:
    if wall_ns < SLOW_NS:
        return wall_ns / 1e6
    began = time.process_time_ns()
    _try(parser, data, Tally())
    return (time.process_time_ns() - began) / 1e6
