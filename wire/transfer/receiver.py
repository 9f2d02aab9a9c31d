"""The receiving end of a transfer, without I/O: bytes come in as calls, what to do next goes out as values.

A chunk counts as held only after its write was confirmed durable; resuming is constructing a receiver with the saved
have-set. Payloads are never kept here. The digest of the whole object is the caller's last check, on what it stored.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from wire.errors import MalformedError
from wire.release import ObjectRef
from wire.transfer.chunks import CHUNK_BYTES, count, unframe

WINDOW = 8
"""Chunks asked for at a time: as many filters as every broker takes in one SUBSCRIBE."""


@dataclass(frozen=True, slots=True)
class Request:
    """Ask for these chunks (subscribe to them, or send a want)."""

    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Write:
    """Store `data` at byte `offset`, make it durable, then call `on_written(index)`."""

    index: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Rejected:
    """This payload was not taken; nothing changed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Complete:
    """All chunks are held: verify the whole digest."""


Output = Request | Write | Rejected | Complete


class Receiver:
    """Collects one object. Duplicates and strays are normal and ignored."""

    def __init__(self, ref: ObjectRef, have: Iterable[int] = (), *, window: int = WINDOW) -> None:
        self.ref = ref
        self._count = count(ref.bytes)
        if ref.chunks and len(ref.chunks) != self._count:
            raise MalformedError(f"{len(ref.chunks)} chunk digests for an object of {self._count} chunks")
        self._missing = sorted(set(range(self._count)) - set(have))
        self._asked: set[int] = set()
        self._writing: set[int] = set()
        self._window = window

    @property
    def complete(self) -> bool:
        """Are all chunks held?"""
        return not self._missing

    @property
    def outstanding(self) -> tuple[int, ...]:
        """Chunks asked for and not yet held."""
        return tuple(sorted(self._asked))

    def start(self) -> list[Output]:
        """What to do first."""
        return self._next()

    def on_chunk(self, index: int, payload: bytes) -> list[Output]:
        """A payload arrived on the topic of chunk `index`."""
        if index not in self._asked or index in self._writing:
            return []
        try:
            framed_index, total, data = unframe(payload)
        except MalformedError as error:
            return [Rejected(str(error))]
        problem = self._check(index, framed_index, total, data)
        if problem:
            return [Rejected(f"chunk {index} of {self.ref.sha256[:12]}: {problem}")]
        self._writing.add(index)
        return [Write(index, index * CHUNK_BYTES, data)]

    def on_written(self, index: int) -> list[Output]:
        """The write of chunk `index` is durable."""
        if index not in self._writing:
            return []
        self._writing.discard(index)
        self._asked.discard(index)
        self._missing.remove(index)
        return self._next()

    def on_timeout(self) -> list[Output]:
        """Nothing came for a while: ask again for what is outstanding."""
        lost = tuple(sorted(self._asked - self._writing))
        return [Request(lost)] if lost else self._next()

    def _check(self, index: int, framed_index: int, total: int, data: bytes) -> str:
        last = index == self._count - 1
        expected = self.ref.bytes - index * CHUNK_BYTES if last else CHUNK_BYTES
        if (framed_index, total) != (index, self._count):
            return f"is framed as {framed_index} of {total}"
        if len(data) != expected:
            return f"has {len(data)} bytes, expected {expected}"
        if self.ref.chunks and hashlib.sha256(data).hexdigest() != self.ref.chunks[index]:
            return "does not match its digest"
        return ""

    def _next(self) -> list[Output]:
        if not self._missing:
            return [Complete()]
        room = self._window - len(self._asked)
        more = tuple(index for index in self._missing if index not in self._asked)[: max(0, room)]
        self._asked.update(more)
        return [Request(more)] if more else []
