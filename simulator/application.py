"""What runs on a device beside the agent: it asks the model now and then, and sometimes learns the truth later."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge_agent.errors import AgentError
from edge_agent.service.inference import Inference
from simulator.core.rng import Rng
from simulator.fakes.runtime import ANSWER, CLASSES, GOOD, Manner
from simulator.surroundings import Surroundings
from wire.ports import SECOND, Clock

if TYPE_CHECKING:
    from edge_agent.ports import Floats


@dataclass(frozen=True, slots=True)
class Application:
    """`per_minute` predictions, in one burst; of the `feedback` share of them (0..1) it learns the truth."""

    per_minute: int
    feedback: float
    rng: Rng
    manners: Mapping[str, Manner]
    surroundings: Surroundings | None = None
    prototypes: "Mapping[str, Floats]" = field(default_factory=dict)
    """Of models that tell classes apart: they are asked about what the device senses."""

    async def run(self, inference: Inference, clock: Clock) -> None:
        """Ask for ever. Without a model, or when it fails, ask again in the next minute."""
        import numpy as np

        await clock.sleep(self.rng.below(60 * SECOND))
        while True:
            for _ in range(self.per_minute):
                try:
                    live = inference.ready()
                    sha256 = live.deployed.installed.sha256
                    if self.surroundings is not None and sha256 in self.prototypes:
                        await self._learn(inference, *self.surroundings.sense())
                        continue
                    right = self.manners.get(sha256, GOOD).accuracy
                    await self._ask(inference, np.zeros(live.shape, dtype=np.float32), right)
                except AgentError:
                    break
            await clock.sleep(60 * SECOND)

    async def _ask(self, inference: Inference, window: "Floats", accuracy: float) -> None:
        answer = await inference.predict(window)
        if self.rng.chance(self.feedback):
            right = self.rng.chance(accuracy)
            await inference.feedback(answer.id, ANSWER if right else (ANSWER + 1) % CLASSES)

    async def _learn(self, inference: Inference, window: "Floats", label: int) -> None:
        answer = await inference.predict(window)
        if self.rng.chance(self.feedback):
            await inference.feedback(answer.id, label)
