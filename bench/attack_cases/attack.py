"""What an attack is: it is tried twice, against the guard that stops it and with that guard taken away.

The second try must succeed, or the first one proves nothing: it may have been stopped by a mistake of its own. A guard
is taken away by a substitution (`bench.replacing`); production code has no switches.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a try ended: did the attacker get what it wanted, and what did the victim say?"""

    succeeded: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Attack:
    """One case. `row` is its row of the threat table, `reason` what the victim must say when its guard stops it."""

    name: str
    row: str
    guard: str
    reason: str
    attempt: Callable[[], Outcome]
    without: Callable[[], AbstractContextManager[object]]
    residual: bool = False
    """Known to succeed: nothing stops it, `guard` only limits it."""
    heavy: bool = False
    """It needs processes or a broker."""
