"""Light stand-ins for what runs models: a canary that needs no child process, and a session that needs no runtime.

A model is just bytes here. It passes its golden vectors unless its digest is one that this device cannot reproduce.
"""

import io
from collections.abc import Container
from typing import TYPE_CHECKING

from edge_agent.errors import DiskError, ModelError
from edge_agent.ports import CanaryRequest, CanaryVerdict, Disk, UnpackRequest
from wire.errors import MalformedError
from wire.messages import GoldenResult
from wire.ports import MILLISECOND, SECOND, Clock

if TYPE_CHECKING:
    from edge_agent.ports import Floats

CANARY_NS = 1_200 * MILLISECOND
PREDICT_NS = 2 * MILLISECOND
GOLDEN_INPUTS = 32
CLASSES = 4
RSS_BYTES = 48 * 1024 * 1024


class MemoryInstaller:
    """The `edge_agent.ports.Installer`. `unfit` holds the digests of models that fail on this device."""

    def __init__(self, disk: Disk, clock: Clock, unfit: Container[str] = ()) -> None:
        self._disk = disk
        self._clock = clock
        self._unfit = unfit

    async def canary(self, request: CanaryRequest) -> CanaryVerdict:
        """Read both files, take the time it takes, and judge."""
        try:
            sha256 = await self._disk.digest(request.model)
            await self._disk.read(request.golden)
        except DiskError as error:
            return CanaryVerdict(f"cannot read the model: {error}")
        await self._clock.sleep(CANARY_NS)
        seconds = CANARY_NS / SECOND
        if sha256 in self._unfit:
            golden = GoldenResult(matched=20, total=GOLDEN_INPUTS, max_error=0.5)
            return CanaryVerdict("12 of 32 golden inputs get another class", golden, seconds=seconds)
        golden = GoldenResult(matched=GOLDEN_INPUTS, total=GOLDEN_INPUTS, max_error=0.0)
        return CanaryVerdict("", golden, p50_ms=2.0, rss_bytes=RSS_BYTES, seconds=seconds)

    async def unpack(self, request: UnpackRequest) -> str:
        """Unpack inline, on the device's disk."""
        from wire.adapters.zstd_delta import unpack

        try:
            base, delta = await self._disk.read(request.base), await self._disk.read(request.delta)
            target = b"".join(unpack(base, io.BytesIO(delta), request.length))
            await self._disk.pwrite(request.target, 0, target)
        except (DiskError, MalformedError) as error:
            return str(error)
        return ""


class LightSession:
    """A model that always answers the same class, after a moment of virtual time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def predict(self, x: "Floats") -> "Floats":
        """Logits [N, CLASSES]: class 1 every time."""
        import numpy as np

        await self._clock.sleep(PREDICT_NS)
        logits = np.zeros((len(x), CLASSES), dtype=np.float32)
        logits[:, 1] = 4.0
        return logits


class LightRuntime:
    """The `edge_agent.ports.Runtime`."""

    def __init__(self, disk: Disk, clock: Clock) -> None:
        self._disk = disk
        self._clock = clock

    async def load(self, path: str) -> LightSession:
        """Load the object at `path`. Raises ModelError when it cannot be read."""
        try:
            await self._disk.read(path)
        except DiskError as error:
            raise ModelError(str(error)) from error
        return LightSession(self._clock)
