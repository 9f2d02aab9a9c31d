"""Federated instructions and replies: the records of a Flower message, without Flower.

A task carries its scalars inline and its arrays as one safetensors object, pulled as retained chunks (all devices of a
round pull the same one). A reply offers its arrays in the same form; the cloud asks for the chunks when it is ready.
Array keys inside the object are "{record name}/{array name}"; `keys` keeps their order.
"""

from typing import Annotated, Literal

import msgspec

from wire.codec import SCHEMA, Document
from wire.release import Name, ObjectRef

Scalar = int | float | bool | str
Value = Scalar | list[Scalar]


class Record(Document, frozen=True, kw_only=True):
    """One named record: arrays (`keys` in order; data in the object), or metrics / config (`values`)."""

    name: str
    kind: Literal["arrays", "metrics", "config"]
    keys: tuple[str, ...] = ()
    values: dict[str, Value] = {}


class Task(Document, frozen=True, kw_only=True):
    """One instruction to one device. Re-sending it is harmless: a device answers a task once and repeats its answer."""

    schema: int = SCHEMA
    run: str
    task: str
    kind: Annotated[str, msgspec.Meta(max_length=64)]
    round: int
    model: Name
    version: int
    records: tuple[Record, ...]
    arrays: ObjectRef | None = None
    deadline_ns: int = 0
    """Wall-clock time after which an answer is worthless; 0 = none."""


class Reply(Document, frozen=True, kw_only=True):
    """A device's answer. `ok` false carries the reason and nothing else."""

    schema: int = SCHEMA
    run: str
    task: str
    ok: bool
    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""
    records: tuple[Record, ...] = ()
    arrays: ObjectRef | None = None


class Done(Document, frozen=True, kw_only=True):
    """The cloud holds the answer to `task` (or no longer wants it): the device may forget it."""

    schema: int = SCHEMA
    run: str
    task: str
    accepted: bool
    reason: str = ""


class Down(Document, frozen=True, kw_only=True):
    """What travels on a device's `dn/.../fed`: exactly one of the two."""

    task: Task | None = None
    done: Done | None = None
