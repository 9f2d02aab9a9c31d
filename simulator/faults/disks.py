"""Disks in trouble: full, slow, or refusing operations. What a power cut does to a disk is `simulator.core.power`.

Troubles come one by one and go one by one: a disk that has several suffers from all of them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from edge_agent.errors import DiskError, DiskFullError
from simulator.memory_disk import MemoryDisk


@dataclass(frozen=True, slots=True)
class Operation:
    """What is about to be done: the disk's operation of this number, on `path`. Who `grows` a file also writes."""

    number: int
    path: str
    writes: bool = False
    grows: bool = False


@dataclass(slots=True)
class Trouble:
    """What one fault does to a disk; `harm` is called each time that it did something."""

    harm: Callable[[], None]

    @property
    def fails(self) -> bool:
        """May an operation fail by it now?"""
        return True

    @property
    def full(self) -> bool:
        """Is no room left by it?"""
        return False

    async def meet(self, operation: Operation) -> None:
        """Before each operation: wait, or raise DiskError. What fails changes nothing."""


@dataclass(slots=True)
class Full(Trouble):
    """Nothing can be added."""

    @property
    def full(self) -> bool:
        """No room."""
        return True

    async def meet(self, operation: Operation) -> None:
        """Raises DiskFullError."""
        if operation.grows:
            self.harm()
            raise DiskFullError(f"{operation.path}: no space left on device")


@dataclass(slots=True)
class Slow(Trouble):
    """Every operation has to `wait` first."""

    wait: Callable[[], Awaitable[None]]

    @property
    def fails(self) -> bool:
        """It only takes longer."""
        return False

    async def meet(self, operation: Operation) -> None:
        """Wait."""
        self.harm()
        await self.wait()


@dataclass(slots=True)
class Failing(Trouble):
    """From the operation of number `begin` on, `left` operations end with an I/O error: writing ones, or also `reads`.

    The first one that succeeds after those shows that it is over.
    """

    begin: int
    left: int
    reads: bool
    over: bool = False

    @property
    def fails(self) -> bool:
        """Until one has succeeded again."""
        return not self.over

    async def meet(self, operation: Operation) -> None:
        """Raises DiskError."""
        if operation.number < self.begin or not (operation.writes or self.reads):
            return
        if self.left == 0:
            self.over = True
            return
        self.left -= 1
        self.harm()
        await asyncio.sleep(0)
        raise DiskError(f"{operation.path}: input/output error")


class FaultyDisk(MemoryDisk):
    """A disk that can get into trouble."""

    def __init__(self, capacity_bytes: int = 1 << 30, turn_every: int = 1) -> None:
        super().__init__(capacity_bytes, turn_every)
        self._troubles: dict[str, Trouble] = {}

    @property
    def fails(self) -> bool:
        """May an operation fail now?"""
        return any(trouble.fails for trouble in self._troubles.values())

    def suffer(self, key: str, trouble: Trouble) -> None:
        """It has this trouble from now on, beside those it has."""
        self._troubles[key] = trouble
        self._troubled = True

    def recover(self, key: str) -> None:
        """That trouble is over, if it is not yet."""
        self._troubles.pop(key, None)
        self._troubled = bool(self._troubles)

    async def free_bytes(self) -> int:
        """Room left."""
        full = any(trouble.full for trouble in self._troubles.values())
        return 0 if full else await super().free_bytes()

    async def _meet(self, path: str, *, writes: bool = False, grows: bool = False) -> None:
        for trouble in tuple(self._troubles.values()):
            await trouble.meet(Operation(self.operations, path, writes, grows))
