"""What an attack is: it is tried twice, against the guard that stops it and with that guard taken away.

The second try must succeed, or the first one proves nothing: it may have been stopped by a mistake of its own. A guard
is taken away by a substitution from here; production code has no switches.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any


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


@contextmanager
def replaced(owner: Any, **substitutes: object) -> Iterator[None]:
    """Attributes of `owner` are others for a while."""
    before = {name: _own(owner, name) for name in substitutes}
    for name, substitute in substitutes.items():
        setattr(owner, name, substitute)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


@contextmanager
def together(*managers: AbstractContextManager[object]) -> Iterator[None]:
    """Several guards are gone."""
    with ExitStack() as stack:
        for one in managers:
            stack.enter_context(one)
        yield


def _own(owner: Any, name: str) -> object:
    """As it stands in a class: a function looked up through it would lose its `staticmethod`."""
    attributes: Mapping[str, object] = vars(owner)
    return attributes[name] if name in attributes else getattr(owner, name)
