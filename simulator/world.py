"""What all programs of one simulated run share: the loop, its clock, the broker, the trace, and where failures go."""

import asyncio

from simulator.core.clock import VirtualClock
from simulator.core.loop import COLLECT_EVERY, Process, VirtualLoop
from simulator.core.network import Faults
from simulator.core.rng import Rng
from simulator.core.trace import Trace
from simulator.fakes.broker import MemoryBroker


class World:
    """One run. Everything random in it comes from `rng`."""

    def __init__(self, seed: int, *, collect_every: int = COLLECT_EVERY) -> None:
        self.rng = Rng(seed)
        self.loop = VirtualLoop(self.rng.child("order"), collect_every)
        self.clock = VirtualClock(self.loop)
        self.trace = Trace()
        self.faults = Faults()
        self.process = Process("world")
        self.broker = MemoryBroker(self.clock, self.trace)

    def watch(self, task: "asyncio.Future[None]") -> None:
        """Have an exception in `task` fail the run."""
        task.add_done_callback(self._ended)

    def fail(self, error: BaseException) -> None:
        """Something broke that must not break: the run ends with it."""
        self.loop.fail(error)

    def _ended(self, task: "asyncio.Future[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)
