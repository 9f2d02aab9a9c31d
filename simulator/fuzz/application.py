"""The application of a device under test: it asks all the time, and notices when it gets no answer.

It starts with the agent and dies with it; its counters do not.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from edge_agent.errors import NoModelError, RequestError
from edge_agent.service.inference import Inference
from simulator.core.rng import Rng
from simulator.device import Device
from simulator.fakes.runtime import ANSWER
from simulator.surroundings import Surroundings
from wire.ports import SECOND

INPUT_VALUES = 8
PAUSE_NS = 3 * SECOND


@dataclass(slots=True)
class Application:
    """Half of its answers get feedback. `stopped`: it has asked enough."""

    rng: Rng
    surroundings: Surroundings | None = None
    """Of a device that learns: it asks what its sensors say, four times as often, and always learns the truth."""
    stopped: bool = False
    answers: Counter[int] = field(default_factory=Counter)
    """Version -> answers that it got."""
    failures: int = 0
    on_unanswered: Callable[[], None] = lambda: None
    """Called when there is no model at all."""

    def start(self, device: Device, inference: Inference) -> None:
        """Begin, in the process that calls this."""
        device.world.watch(asyncio.ensure_future(self._run(device, inference)))

    async def _run(self, device: Device, inference: Inference) -> None:
        import numpy as np

        window, label, pause_ns = np.zeros(INPUT_VALUES, dtype=np.float32), ANSWER, PAUSE_NS
        while not self.stopped:
            if self.surroundings is not None:
                (window, label), pause_ns = self.surroundings.sense(), PAUSE_NS // 4
            try:
                answer = await inference.predict(window)
                self.answers[answer.version] += 1
                if self.surroundings is not None or self.rng.chance(0.5):
                    await inference.feedback(answer.id, label)
            except NoModelError:
                self.on_unanswered()
            except RequestError:
                self.failures += 1
            await device.world.clock.sleep(self.rng.between(pause_ns // 2, pause_ns))
