"""Where a rollout stands, and what an operator may say to it."""

from enum import StrEnum
from typing import Final


class RolloutState(StrEnum):
    """Where a rollout stands. The strings are persisted and never change."""

    RUNNING = "running"
    WAITING = "waiting_for_approval"
    PAUSED = "paused"
    HALTED = "halted"
    ABORTED = "aborted"
    SUCCEEDED = "succeeded"


class Command(StrEnum):
    """What an operator may say to a rollout. `abort` keeps what devices run, `revert` undoes it."""

    PAUSE = "pause"
    APPROVE = "approve"
    RESUME = "resume"
    ABORT = "abort"
    REVERT = "revert"


_OVER: Final = {
    (state, command): RolloutState.ABORTED
    for state in (RolloutState.RUNNING, RolloutState.WAITING, RolloutState.PAUSED, RolloutState.HALTED)
    for command in (Command.ABORT, Command.REVERT)
}
COMMANDS: Final[dict[tuple[RolloutState, Command], RolloutState]] = {
    **_OVER,
    (RolloutState.RUNNING, Command.PAUSE): RolloutState.PAUSED,
    (RolloutState.WAITING, Command.PAUSE): RolloutState.PAUSED,
    (RolloutState.WAITING, Command.APPROVE): RolloutState.RUNNING,
    (RolloutState.PAUSED, Command.RESUME): RolloutState.RUNNING,
    (RolloutState.HALTED, Command.RESUME): RolloutState.RUNNING,
}
"""A missing key is a command that the state does not allow."""

ADVANCING: Final = frozenset({RolloutState.RUNNING, RolloutState.WAITING})
"""States in which the facts are judged."""

ACTIVE: Final = frozenset({*ADVANCING, RolloutState.PAUSED, RolloutState.HALTED})
"""States in which a rollout holds its devices: no other one may assign them in the same slot."""
