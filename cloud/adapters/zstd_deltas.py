"""Deltas by zstd, in a thread of their own: a long one takes seconds, in which the interpreter lock is free."""

from cloud.ports import DeltaError
from wire.adapters.system import ThreadOffload
from wire.adapters.zstd_delta import pack
from wire.errors import MalformedError


class ZstdDeltas:
    """The `cloud.ports.DeltaMaker`."""

    def __init__(self, offload: ThreadOffload) -> None:
        self._offload = offload

    async def make(self, base: bytes, target: bytes) -> bytes:
        """Pack on the worker thread. Raises DeltaError."""
        try:
            return await self._offload.run(lambda: pack(base, target))
        except (MalformedError, MemoryError) as error:
            raise DeltaError(f"{type(error).__name__}: {error}") from error
