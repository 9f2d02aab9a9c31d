"""The receiving end of a transfer, without I/O: bytes come in as calls, what to do next goes out as values.

A chunk is *held* once it is written, and *durable* in groups of GROUP_BYTES: so many chunks at most are fetched again
after a power cut. Resuming is constructing a receiver with the durable set. Payloads are never kept here. The digest of
the whole object is the caller's last check, on what it stored; it may leave the chunks' own digests for a second
attempt, when that check has failed.

Chunks come in the order in which they were asked for. One that is overtaken by a chunk of a later request was lost and
is asked for again at once; silence asks for the oldest one alone, since on a slow link every chunk asked for twice
comes twice. Continued silence means that nobody retains the object: then every other question goes to the hub directly,
and as long as such questions are answered, all of them.
"""

import hashlib
from dataclasses import dataclass
from itertools import islice
from typing import Final

from wire.errors import MalformedError
from wire.release import ObjectRef
from wire.transfer import bitmap
from wire.transfer.chunks import CHUNK_BYTES, count, unframe

WINDOW: Final = 8
"""Chunks asked for at a time: as many filters as every broker takes in one SUBSCRIBE."""
GROUP_BYTES: Final = 1024 * 1024
GROUP: Final = GROUP_BYTES // CHUNK_BYTES
"""Chunks that become durable together."""
MAX_OVERTAKEN: Final = 3
"""How often one chunk is asked for again because later ones came before it; after that only silence counts."""


@dataclass(frozen=True, slots=True)
class Request:
    """Ask for these chunks: pull what is retained or, if `direct`, have them sent to this device alone."""

    indices: tuple[int, ...]
    direct: bool = False


@dataclass(frozen=True, slots=True)
class Write:
    """Store `data`, a view of the payload, at byte `offset`, then call `on_written(index)`."""

    index: int
    offset: int
    data: memoryview


@dataclass(frozen=True, slots=True)
class Sync:
    """Make what was written durable, and after that this bitmap of it; it is what a receiver resumes from."""

    have: bytes


@dataclass(frozen=True, slots=True)
class Rejected:
    """This payload was not taken; nothing changed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Complete:
    """All chunks are held: make them durable and verify the whole digest."""


Output = Request | Write | Sync | Rejected | Complete


class Receiver:
    """Collects one object. Duplicates and strays are normal and ignored."""

    __slots__ = (
        "_asked",
        "_count",
        "_digests",
        "_direct",
        "_held",
        "_overtaken",
        "_requests",
        "_silences",
        "_unasked",
        "_unsynced",
        "_window",
        "_writing",
        "ref",
    )

    def __init__(self, ref: ObjectRef, have: bytes = b"", *, window: int = WINDOW, checked: bool = True) -> None:
        """Start, or resume from the bitmap `have` of a former `Sync`. `checked`: each chunk by its digest.

        Raises MalformedError: chunk digests do not fit the length.
        """
        self.ref = ref
        self._count = count(ref.bytes)
        if ref.chunks and len(ref.chunks) != self._count:
            raise MalformedError(f"{len(ref.chunks)} chunk digests for an object of {self._count} chunks")
        self._held = set(bitmap.unpack(have, self._count))
        self._unasked = iter([index for index in range(self._count) if index not in self._held])
        self._asked: dict[int, int] = {}
        """Chunk -> number of the request that asked for it last; the oldest first."""
        self._overtaken: dict[int, int] = {}
        self._writing: set[int] = set()
        self._unsynced = 0
        self._requests = 0
        self._silences = 0
        self._direct = False
        self._window = window
        self._digests = ref.chunks if checked else ()

    @property
    def complete(self) -> bool:
        """Are all chunks held?"""
        return len(self._held) == self._count

    @property
    def outstanding(self) -> tuple[int, ...]:
        """Chunks asked for and not yet held, the one that should come next first."""
        return tuple(self._asked)

    @property
    def until_sync(self) -> int:
        """Chunks that may be written before `on_written` has to be called for them."""
        return GROUP - self._unsynced

    def start(self) -> list[Output]:
        """What to do first."""
        return self._next()

    def on_chunk(self, index: int, payload: bytes, direct: bool = False) -> list[Output]:
        """A payload arrived for chunk `index`: retained, or (`direct`) sent to this device alone."""
        if index not in self._asked or index in self._writing:
            return []
        try:
            framed_index, total, data = unframe(payload)
        except MalformedError as error:
            return [Rejected(str(error))]
        problem = self._check(index, framed_index, total, data)
        if problem:
            return [Rejected(f"chunk {index} of {self.ref.sha256[:12]}: {problem}")]
        self._direct, self._silences = direct, 0
        lost = self._lost_before(index)
        self._writing.add(index)
        return [Write(index, index * CHUNK_BYTES, data), *self._again(lost)]

    def on_written(self, index: int) -> list[Output]:
        """Chunk `index` is written."""
        if index not in self._writing:
            return []
        self._writing.discard(index)
        del self._asked[index]
        self._overtaken.pop(index, None)
        self._held.add(index)
        self._unsynced += 1
        return [*self._next(), *self._settle(GROUP)]

    def on_silence(self) -> list[Output]:
        """Nothing came for a while although it could have."""
        oldest = next((index for index in self._asked if index not in self._writing), None)
        if oldest is None:
            return self._next()
        self._silences += 1
        self._direct = self._silences % 2 == 0
        return self._again([oldest])

    def on_end(self) -> list[Sync]:
        """The transfer ends early: what was written shall not be lost."""
        return self._settle(1)

    def _check(self, index: int, framed_index: int, total: int, data: memoryview) -> str:
        last = index == self._count - 1
        expected = self.ref.bytes - index * CHUNK_BYTES if last else CHUNK_BYTES
        if (framed_index, total) != (index, self._count):
            return f"is framed as {framed_index} of {total}"
        if len(data) != expected:
            return f"has {len(data)} bytes, expected {expected}"
        if self._digests and hashlib.sha256(data).hexdigest() != self._digests[index]:
            return "does not match its digest"
        return ""

    def _lost_before(self, index: int) -> list[int]:
        """Chunks of earlier requests that have not come, though this one has."""
        request, lost = self._asked[index], []
        for other, asked in self._asked.items():
            if asked >= request:
                break
            if other not in self._writing and self._overtaken.get(other, 0) < MAX_OVERTAKEN:
                self._overtaken[other] = self._overtaken.get(other, 0) + 1
                lost.append(other)
        return lost

    def _again(self, indices: list[int]) -> list[Output]:
        for index in indices:
            del self._asked[index]  # to its new place, behind all others
        return self._request(indices)

    def _request(self, indices: list[int]) -> list[Output]:
        if not indices:
            return []
        self._requests += 1
        self._asked.update(dict.fromkeys(indices, self._requests))
        return [Request(tuple(indices), self._direct)]

    def _settle(self, least: int) -> list[Sync]:
        """Of a complete object there is no need to: `Complete` has the same effect."""
        if self._unsynced < least or self.complete:
            return []
        self._unsynced = 0
        return [Sync(bitmap.pack(self._held, self._count))]

    def _next(self) -> list[Output]:
        """Several chunks in one request cost no more than one, so half a window is asked for at a time."""
        if self.complete:
            return [Complete()]
        room = self._window - len(self._asked)
        return self._request(list(islice(self._unasked, room))) if room >= self._window // 2 else []
