"""A candidate: one form a version could be shipped in, before anyone has measured it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from onnx import ModelProto

if TYPE_CHECKING:
    from torch import nn

Precision = Literal["fp32", "fp16", "int8"]
PARENT = "fp32"
"""The name of the candidate that is the parent itself."""


class PassError(Exception):
    """A pass cannot be applied to this candidate; the message says why. The other candidates are not affected."""


@dataclass(frozen=True)
class Candidate:
    """`model` maps x to logits. `network` is the torch module it was exported from, for passes that need one."""

    name: str
    precision: Precision
    model: ModelProto
    network: nn.Module | None = None

    def file(self) -> bytes:
        """The bytes that would be shipped."""
        return bytes(self.model.SerializeToString(deterministic=True))


Pass = Callable[[Candidate], Candidate]


def parent_candidate(model: ModelProto, network: nn.Module | None = None) -> Candidate:
    """The parent as the first candidate."""
    return Candidate(PARENT, "fp32", model, network)


def derived_name(before: str, change: str) -> str:
    """The name after one more pass: `int8` of the parent, `pruned-int8` of the pruned one."""
    return change if before == PARENT else f"{before}-{change}"
