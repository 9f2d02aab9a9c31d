"""Guards of trust metadata, taken away for cases of several modules, and what those cases have in common."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import msgspec
from tuf.api.metadata import Root, Targets

from bench.attack_cases.attack import Attack
from bench.attack_cases.scene import staged
from bench.replacing import replaced, together
from edge_agent import judging
from edge_agent.core.trust import Floors, Question


def unsigned() -> AbstractContextManager[None]:
    """Nobody counts signatures of metadata."""
    believe: Callable[..., None] = lambda self, role, payload, signatures: None  # noqa: E731
    return together(replaced(Root, verify_delegate=believe), replaced(Targets, verify_delegate=believe))


def timeless() -> AbstractContextManager[None]:
    """Nothing expires."""
    return _question_changed(lambda question: msgspec.structs.replace(question, now_ns=0))


def forgetful() -> AbstractContextManager[None]:
    """What was verified before is forgotten."""
    return _question_changed(lambda question: msgspec.structs.replace(question, files={}, floors=Floors()))


def without_floors() -> AbstractContextManager[None]:
    """Only what python-tuf holds in its cache is remembered."""
    return _question_changed(lambda question: msgspec.structs.replace(question, floors=Floors()))


def _question_changed(change: Callable[[Question], Question]) -> AbstractContextManager[None]:
    judge = judging.judge
    substitute = lambda question, fetch, folder: judge(change(question), fetch, folder)  # noqa: E731
    from simulator.fakes import trust

    return together(replaced(judging, judge=substitute), replaced(trust, judge=substitute))


def case(
    name: str, row: str, guard: str, reason: str, script: Any, without: Callable[[], AbstractContextManager[object]]
) -> Attack:
    """A case that a device plays by `script` before its cloud."""
    return Attack(name, row, guard, reason, staged(script), without)
