"""The order of a federated run, as a table: evaluate the start, train and evaluate in rounds, evaluate the end.

A step is issued (its instructions are durable) and later closed with the number of accepted answers. Too few of them
repeat a step that matters, under a new attempt number, and end the run when the attempts are used up. Which devices
take part and what is computed lies outside.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final


class Phase(StrEnum):
    """Where a run stands. The strings are persisted and never change."""

    BEFORE = "before"
    TRAIN = "train"
    EVALUATE = "evaluate"
    AFTER = "after"
    DONE = "done"
    FAILED = "failed"


ENDED: Final = frozenset({Phase.DONE, Phase.FAILED})


class Closed(StrEnum):
    """How a step ended."""

    ENOUGH = "enough"
    SHORT = "short"


@dataclass(frozen=True, slots=True)
class Plan:
    """What the operator asked for. `evaluate_every` 0 = no evaluation between rounds."""

    rounds: int
    evaluate_every: int
    quorum: int
    """Least number of accepted answers for a step to count."""
    attempts: int = 3


@dataclass(frozen=True, slots=True)
class Position:
    """The step that is being taken. Rounds and attempts count from 1; round 0 lies before the first."""

    phase: Phase = Phase.BEFORE
    round: int = 0
    attempt: int = 1

    @property
    def label(self) -> str:
        """A word that is unique within the run, for task ids and seeds."""
        return f"{self.phase.value}-{self.round}-{self.attempt}"


class IllegalStepError(Exception):
    """A step was closed that cannot be: our bug."""


def close(position: Position, accepted: int, plan: Plan) -> Position:
    """The step after `position`, which ended with `accepted` answers.

    Raises:
        IllegalStepError: the run has ended already.
    """
    outcome = Closed.ENOUGH if accepted >= plan.quorum else Closed.SHORT
    move = _TABLE.get((position.phase, outcome))
    if move is None:
        raise IllegalStepError(f"a run that is {position.phase} has no step to close")
    return move(position, plan)


def evaluates(round_number: int, plan: Plan) -> bool:
    """Is round `round_number` followed by an evaluation?"""
    return plan.evaluate_every > 0 and round_number % plan.evaluate_every == 0


def _next_round(position: Position, plan: Plan) -> Position:
    if position.round >= plan.rounds:
        return Position(Phase.AFTER, position.round)
    return Position(Phase.TRAIN, position.round + 1)


def _evaluate_or_next(position: Position, plan: Plan) -> Position:
    if evaluates(position.round, plan):
        return Position(Phase.EVALUATE, position.round)
    return _next_round(position, plan)


def _again(position: Position, plan: Plan) -> Position:
    if position.attempt >= plan.attempts:
        return replace(position, phase=Phase.FAILED)
    return replace(position, attempt=position.attempt + 1)


def _done(position: Position, _plan: Plan) -> Position:
    return Position(Phase.DONE, position.round)


_TABLE: Final[dict[tuple[Phase, Closed], Callable[[Position, Plan], Position]]] = {
    (Phase.BEFORE, Closed.ENOUGH): _next_round,
    (Phase.BEFORE, Closed.SHORT): _again,
    (Phase.TRAIN, Closed.ENOUGH): _evaluate_or_next,
    (Phase.TRAIN, Closed.SHORT): _again,
    (Phase.EVALUATE, Closed.ENOUGH): _next_round,
    (Phase.EVALUATE, Closed.SHORT): _next_round,  # only a figure is lost
    (Phase.AFTER, Closed.ENOUGH): _done,
    (Phase.AFTER, Closed.SHORT): _again,
}
