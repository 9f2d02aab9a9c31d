"""Light stand-ins for what runs models: an installer that needs no child process, a session that needs no runtime.

A model is just bytes here. It passes its golden vectors unless its digest is one that this device cannot reproduce, and
behaves well unless the device knows other manners of it.
"""

import asyncio
import io
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from edge_agent.errors import DiskError, ModelError
from edge_agent.ports import CanaryRequest, CanaryVerdict, Disk, RehearsalRequest, UnpackRequest
from wire.errors import MalformedError
from wire.messages import GoldenResult
from wire.ports import MILLISECOND, SECOND, Clock

if TYPE_CHECKING:
    from edge_agent.ports import Floats

CANARY_NS = 1_200 * MILLISECOND
REHEARSAL_NS = 500 * MILLISECOND
PREDICT_NS = 2 * MILLISECOND
GOLDEN_INPUTS = 32
UNFIT_MATCHED = 20
CLASSES = 4
ANSWER = 1
"""The class that every model answers."""
RSS_BYTES = 48 * 1024 * 1024
RAM_BYTES = 1 << 30
"""Memory of a simulated device, as far as leaks are concerned."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a model behaves on a device. `accuracy` (0..1): how often its answers are right."""

    golden_matched: int = GOLDEN_INPUTS
    crashes: Literal["never", "when tried", "when used", "with the agent"] = "never"
    predict_ns: int = PREDICT_NS
    rss_bytes: int = RSS_BYTES
    accuracy: float = 0.95
    leak_bytes: int = 0
    """Memory that each prediction keeps. Once all of the device's is gone, the agent's process ends."""


GOOD: Final = Manner()
ALL_GOOD: Final[Mapping[str, Manner]] = MappingProxyType({})


class MemoryInstaller:
    """The `edge_agent.ports.Installer`. `unfit`: digests of models that fail on this device; `manners`: how models
    behave that do not behave well; `canary_ns`: how long it takes to try one."""

    __slots__ = ("_canary_ns", "_clock", "_disk", "_manners", "_unfit")

    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        unfit: Container[str] = (),
        manners: Mapping[str, Manner] = ALL_GOOD,
        canary_ns: int = CANARY_NS,
    ) -> None:
        self._canary_ns = canary_ns
        self._disk = disk
        self._clock = clock
        self._unfit = unfit
        self._manners = manners

    async def canary(self, request: CanaryRequest) -> CanaryVerdict:
        """Read both files, take the time it takes, and judge."""
        try:
            sha256 = await self._disk.digest(request.model)
            await self._disk.read(request.golden)
        except DiskError as error:
            return CanaryVerdict(f"cannot read the model: {error}")
        await self._clock.sleep(self._canary_ns)
        seconds = self._canary_ns / SECOND
        manner = self._manners.get(sha256, GOOD)
        if manner.crashes == "when tried":
            return CanaryVerdict("the model crashed the child that tried it: signal 11", seconds=seconds)
        matched = UNFIT_MATCHED if sha256 in self._unfit else manner.golden_matched
        if matched < GOLDEN_INPUTS:
            golden = GoldenResult(matched=matched, total=GOLDEN_INPUTS, max_error=0.5)
            wrong = f"{GOLDEN_INPUTS - matched} of {GOLDEN_INPUTS} golden inputs get another class"
            return CanaryVerdict(wrong, golden, seconds=seconds)
        golden = GoldenResult(matched=GOLDEN_INPUTS, total=GOLDEN_INPUTS, max_error=0.0)
        p50_ms = manner.predict_ns / MILLISECOND
        return CanaryVerdict("", golden, p50_ms=p50_ms, rss_bytes=manner.rss_bytes, seconds=seconds)

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

    async def rehearse(self, request: RehearsalRequest) -> str:
        """Read both graphs and take the time it takes; one of bad manners takes its child down."""
        try:
            graphs = [await self._disk.digest(path) for path in (request.train_step, request.eval)]
        except DiskError as error:
            return f"cannot read the graphs: {error}"
        await self._clock.sleep(REHEARSAL_NS)
        if any(self._manners.get(sha256, GOOD).crashes == "when tried" for sha256 in graphs):
            return "the graph crashed the child that tried it: signal 11"
        return ""


class LightSession:
    """A model that answers after a moment of virtual time: the class whose prototype is nearest if it has prototypes,
    else always the same one; or that fails on every input."""

    __slots__ = ("_clock", "_die", "_manner", "_predictions", "_prototypes")

    def __init__(
        self,
        clock: Clock,
        manner: Manner = GOOD,
        die: Callable[[], None] = lambda: None,
        prototypes: "Floats | None" = None,
    ) -> None:
        self._prototypes = prototypes
        self._clock = clock
        self._manner = manner
        self._die = die
        self._predictions = 0

    async def predict(self, x: "Floats") -> "Floats":
        """Logits [N, CLASSES]."""
        import numpy as np

        await self._clock.sleep(self._manner.predict_ns)
        self._predictions += 1
        out_of_memory = RSS_BYTES + self._predictions * self._manner.leak_bytes > RAM_BYTES
        if out_of_memory or self._manner.crashes == "with the agent":
            self._die()
            await asyncio.get_running_loop().create_future()
        if self._manner.crashes == "when used":
            raise ModelError("the runtime fails on this input")
        logits = np.zeros((len(x), CLASSES), dtype=np.float32)
        answers: Any = ANSWER
        if self._prototypes is not None:
            answers = ((x[:, None, :] - self._prototypes) ** 2).sum(axis=2).argmin(axis=1)
        logits[np.arange(len(x)), answers] = 4.0
        return logits


class LightRuntime:
    """The `edge_agent.ports.Runtime`. `loaded` is told the digest of the bytes of everything that is loaded, `die` is
    called when a model takes the process with it."""

    __slots__ = ("_clock", "_die", "_disk", "_loaded", "_manners", "_prototypes")

    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        manners: Mapping[str, Manner] = ALL_GOOD,
        loaded: Callable[[str], None] = lambda sha256: None,
        die: Callable[[], None] = lambda: None,
        prototypes: "Mapping[str, Floats]" = MappingProxyType({}),
    ) -> None:
        """`prototypes`: of models that have some, by digest."""
        self._prototypes = prototypes
        self._disk = disk
        self._loaded = loaded
        self._die = die
        self._clock = clock
        self._manners = manners

    async def load(self, path: str) -> LightSession:
        """Load the object at `path`. Raises ModelError when it cannot be read."""
        try:
            sha256 = await self._disk.digest(path)
        except DiskError as error:
            raise ModelError(str(error)) from error
        self._loaded(sha256)
        return LightSession(self._clock, self._manners.get(sha256, GOOD), self._die, self._prototypes.get(sha256))
