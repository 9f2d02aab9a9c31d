"""The hub's database as SQLite in memory, and its object store as a dictionary.

The same engine settings, transactions and tables as on disk, without the thread. What was committed survives a kill of
the hub, because the simulation keeps this object and builds a new hub on it. With a clock, reads and commits take
their time, one after the other, so that messages gather meanwhile as they do before a real database.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from sqlalchemy import Connection

from cloud.ports import ObjectMissingError, Staged
from simulator.fakes import databases
from wire.adapters.zstd_delta import pack
from wire.ports import MILLISECOND, Clock

T = TypeVar("T")

COMMIT_NS = 20 * MILLISECOND
"""What a commit takes that is synced to a memory card."""
READ_NS = MILLISECOND
NOTHING_HELD: Mapping[str, bytes] = MappingProxyType({})


class MemoryStore:
    """The `cloud.ports.Store`. `content`: of another one, to go on from; `transactions` counts what was committed."""

    def __init__(self, clock: Clock | None = None, content: bytes = b"") -> None:
        self.transactions = 0
        self._clock = clock
        self._free_ns = 0
        self.engine = databases.take(content)
        self._connection = self.engine.connect()
        self._database: Any = self._connection.connection.dbapi_connection

    async def write(self, call: Callable[[Connection], T]) -> T:
        """Run `call` in a transaction, as one turn of the loop."""
        await self._turn(COMMIT_NS)
        return self.now(call)

    async def read(self, call: Callable[[Connection], T]) -> T:
        """Run `call`; there is one connection, so reading is no different, but for the time."""
        await self._turn(READ_NS)
        return self.now(call)

    def now(self, call: Callable[[Connection], T]) -> T:
        """Run `call` at once, for expectations that look at the database between two turns."""
        with self._connection.begin():
            self._database.execute("BEGIN IMMEDIATE")
            result = call(self._connection)
        self.transactions += 1
        return result

    async def _turn(self, ns: int) -> None:
        """Wait for everybody before, and for the work itself."""
        if self._clock is None:
            await asyncio.sleep(0)
            return
        now_ns = self._clock.monotonic_ns()
        self._free_ns = max(self._free_ns, now_ns) + ns
        await self._clock.sleep(self._free_ns - now_ns)

    @property
    def content(self) -> bytes:
        """The whole database."""
        return databases.content_of(self.engine)

    def close(self) -> None:
        """Give the memory back."""
        self._connection.close()
        databases.give_back(self.engine)


class MemoryObjects:
    """The `cloud.ports.Objects`."""

    def __init__(self, held: Mapping[str, bytes] = NOTHING_HELD) -> None:
        self._held = dict(held)

    @property
    def held(self) -> Mapping[str, bytes]:
        """Everything, by digest."""
        return dict(self._held)

    async def put(self, data: bytes) -> str:
        """Keep `data`; returns its SHA-256 (hex)."""
        await asyncio.sleep(0)
        sha256 = hashlib.sha256(data).hexdigest()
        self._held[sha256] = data
        return sha256

    async def adopt(self, staged: Staged) -> None:
        """Keep what is in the file."""
        await self.put(Path(staged.path).read_bytes())  # noqa: ASYNC240 - a simulation has one thread

    async def get(self, sha256: str) -> bytes:
        """The bytes. Raises ObjectMissingError."""
        await asyncio.sleep(0)
        if sha256 not in self._held:
            raise ObjectMissingError(f"no object {sha256[:12]}")
        return self._held[sha256]

    async def verify(self, sha256: str) -> int:
        """Their length. Raises ObjectMissingError."""
        return len(await self.get(sha256))

    async def piece(self, sha256: str, offset: int, length: int) -> bytes:
        """A part of them. Raises ObjectMissingError."""
        return (await self.get(sha256))[offset : offset + length]


class InlineDeltas:
    """The `cloud.ports.DeltaMaker`, as one turn of the loop."""

    async def make(self, base: bytes, target: bytes) -> bytes:
        """The delta."""
        await asyncio.sleep(0)
        return pack(base, target)
