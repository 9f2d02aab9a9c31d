"""A hub for proofs on a real broker: that of `fleetloop hub` with mosquitto."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from cloud.settings import Settings
from simulator.live.hub import MODEL, OverdueError, RealHub, free_port, operated, until

__all__ = ["MODEL", "OverdueError", "RealHub", "free_port", "operated", "real_hub", "until"]


@contextlib.asynccontextmanager
async def real_hub(directory: Path, ports: Sequence[int]) -> AsyncIterator[RealHub]:
    """A hub with mosquitto on the two `ports`, at work."""
    settings = Settings(
        data_dir=str(directory / "hub"),
        broker="mosquitto",
        broker_port=ports[0],
        broker_enrol_port=ports[1],
    )
    async with operated(settings) as (hub, work):
        working = asyncio.create_task(work())
        try:
            await until("the hub reaches its broker", lambda: hub.context.link.connected, 20)
            yield hub
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
