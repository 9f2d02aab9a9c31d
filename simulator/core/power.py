"""What a power cut may leave on a disk: names and bytes become durable separately, the rest goes any way.

Of the names changed in a directory since it was synced, any subset survives, in order. Of the bytes written to a file
since it was synced, there may be none, all, zeros in their place, a beginning that ends at a block bound, or only the
last. That is what POSIX allows, and more than any one file system does.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from simulator.core.rng import Rng

BLOCK_BYTES = 512
"""What a disk writes whole or not at all."""
MAX_TEARS = 6
"""Places at which the writes to one file are torn: some block bounds, evenly spread."""
MAX_FREE_CHANGES = 6
"""Of more changed names than these, the older ones have survived: 2**6 subsets are enough."""


class Content(NamedTuple):
    """A file of `size` bytes: what is `kept` of it, in pieces or as a whole, is durable; the writes since, in order."""

    kept: bytes | tuple[bytes, ...]
    size: int
    writes: tuple[tuple[int, bytes], ...] = ()

    @property
    def durable(self) -> bytes:
        """What no power cut takes away."""
        return self.kept if isinstance(self.kept, bytes) else b"".join(self.kept)

    @property
    def settled(self) -> bool:
        """Nothing can change it but a write."""
        return not self.writes and len(self.durable) == self.size


class NameChange(NamedTuple):
    """In `directory`, `name` now means file number `file` (None: nothing); `source` is the name it was renamed from."""

    directory: str
    name: str
    file: int | None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A disk at one moment: the durable names, the changes of names since, in order, and every file by its number."""

    names: Mapping[str, int]
    changes: tuple[NameChange, ...]
    files: Mapping[int, Content]


@dataclass(frozen=True, slots=True)
class Left:
    """The content of one file after the power came back."""

    data: bytes
    digest: bytes


def apply(names: dict[str, int], change: NameChange) -> None:
    """Carry out one change of a name."""
    if change.source:
        names.pop(change.source, None)
    if change.file is None:
        names.pop(change.name, None)
    else:
        names[change.name] = change.file


@lru_cache(maxsize=512)
def leavings(content: Content) -> tuple[Left, ...]:
    """Everything that may be left of a file, each once: first what is durable, then all of it."""
    if content.settled:
        return (_left(content.durable),)
    found = [content.durable, written(content, content.writes)]
    found.append(written(content, tuple((offset, bytes(len(data))) for offset, data in content.writes)))
    if len(content.writes) > 1:
        found.append(written(content, content.writes[-1:]))
    for at in _tears(content):
        beginning, end = _beginning(content.writes, at)
        torn = written(content, beginning)
        found += [torn, torn[: max(end, len(content.durable))]]
    return tuple(_left(data) for data in dict.fromkeys(found))


def outcomes(disk: Unsettled) -> Iterator[dict[str, Left]]:
    """Every disk that a power cut at this moment may leave; some come more than once."""
    certain = dict(disk.names)
    for change in disk.changes[:-MAX_FREE_CHANGES]:
        apply(certain, change)
    free = disk.changes[-MAX_FREE_CHANGES:]
    for chosen in product((False, True), repeat=len(free)):
        names = dict(certain)
        for change, survives in zip(free, chosen, strict=True):
            if survives:
                apply(names, change)
        paths = sorted(names)
        for left in product(*(leavings(disk.files[names[path]]) for path in paths)):
            yield dict(zip(paths, left, strict=True))


def one_outcome(disk: Unsettled, rng: Rng) -> dict[str, Left]:
    """One of them."""
    names = dict(disk.names)
    for change in disk.changes:
        if rng.chance(0.5):
            apply(names, change)
    return {path: _one_of(leavings(disk.files[names[path]]), rng) for path in sorted(names)}


def _one_of(left: tuple[Left, ...], rng: Rng) -> Left:
    return left[rng.below(len(left))]


def _left(data: bytes) -> Left:
    return Left(data, hashlib.blake2b(data, digest_size=16).digest())


def written(content: Content, writes: tuple[tuple[int, bytes], ...]) -> bytes:
    """The file at its full size with only these writes in it."""
    if len(writes) == 1 and writes[0][0] == 0 and len(writes[0][1]) == content.size:
        return writes[0][1]
    data = bytearray(content.durable[: content.size])
    data.extend(bytes(content.size - len(data)))
    for offset, piece in writes:
        data[offset : offset + len(piece)] = piece
    return bytes(data)


def _tears(content: Content) -> list[int]:
    """Numbers of bytes, of all that were written, after which the writing ended."""
    total = sum(len(data) for _, data in content.writes)
    blocks = -(-total // BLOCK_BYTES)
    if blocks < 2:
        return [total // 2] if total > 1 else []
    tears = min(MAX_TEARS, blocks - 1)
    return [BLOCK_BYTES * (blocks * place // (tears + 1) or 1) for place in range(1, tears + 1)]


def _beginning(writes: tuple[tuple[int, bytes], ...], count: int) -> tuple[tuple[tuple[int, bytes], ...], int]:
    """The first `count` written bytes, and the position in the file at which they end."""
    taken, end = [], 0
    for offset, data in writes:
        piece = data[:count]
        count -= len(piece)
        taken.append((offset, piece))
        end = offset + len(piece)
        if not count:
            break
    return tuple(taken), end
