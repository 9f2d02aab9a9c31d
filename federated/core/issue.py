"""The values of a step: what is asked of which device, and how each of these questions ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from federated.core.node_ids import run_number
from federated.records import Array
from wire.federated import Reply, Task


@dataclass(frozen=True, slots=True)
class RunLabel:
    """What every task of a run says about itself."""

    run: str
    model: str
    version: int

    @property
    def number(self) -> int:
        """Flower's number for the run."""
        return run_number(self.run)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One task for one device. `sent`: the parameters it carries, for the checks of an update."""

    device: str
    task: Task
    sent: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Issue:
    """Instructions that belong together, and the objects (by digest) that they refer to."""

    instructions: tuple[Instruction, ...]
    objects: Mapping[str, bytes]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Task ids in order."""
        return tuple(one.task.task for one in self.instructions)


class Verdict(StrEnum):
    """How an instruction ended. The strings are persisted and never change."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    FAILED = "failed"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of one instruction. `reply` and `arrays` (safetensors bytes) are there when it was accepted."""

    device: str
    task: str
    verdict: Verdict
    reason: str = ""
    reply: Reply | None = None
    arrays: bytes = b""
