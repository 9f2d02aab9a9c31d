"""A device with nothing new to tell, in virtual time: it is heard, and hardly more."""

from edge_agent.ports import Counts
from edge_agent.service.outbox import SPOOL_NS
from simulator.fakes.device import MemoryCaptures
from tests.scenes.outbox_scene import INTERVAL_S, TOLD_S, Scene, play
from tests.worlds.agent_world import assign
from wire.assignment import CapturePolicy
from wire.ports import SECOND

HOUR_S = 3600


def test_a_device_at_rest_is_heard_with_the_interval_while_it_is_connected() -> None:
    """It has nothing to tell but that it is there. In the tunnel it says nothing, and writes nothing."""

    async def scenario(scene: Scene) -> None:
        async with scene.device():
            await scene.clock.sleep(120 * TOLD_S * SECOND)
            assert len(scene.told) == 1
            assert 118 <= scene.heartbeats <= 120
            scene.link.down()
            await scene.clock.sleep(120 * TOLD_S * SECOND)
            assert scene.heartbeats <= 120
            assert scene.disk.writes <= 1
            scene.link.back()
            await scene.clock.sleep(24 * TOLD_S * SECOND)
            assert scene.heartbeats >= 118 + 23

    play(scenario)


def test_counters_that_stand_are_told_again_in_the_course_of_a_day() -> None:
    """A hub that was restored from a backup has forgotten some of them."""

    async def scenario(scene: Scene) -> None:
        async with scene.device():
            await scene.clock.sleep(24 * HOUR_S * SECOND)
            assert 2 <= len(scene.told) <= 3

    play(scenario)


def test_what_was_dropped_is_news() -> None:
    """Writing the last message made the full outbox drop older ones: that message cannot have told of them."""

    async def scenario(scene: Scene) -> None:
        async with scene.device() as unit:
            scene.link.down()
            for _ in range(200):
                await scene.measure(unit, INTERVAL_S)
                before = scene.disk.bytes_used()
                await scene.clock.sleep(SPOOL_NS + SECOND)
                if scene.disk.bytes_used() < before:
                    break
            scene.link.back()
            await scene.clock.sleep(10 * TOLD_S * SECOND)
            numbers = {one.seq & 0xFFFFFFFF for one in scene.told}
            missing = sum(number not in numbers for number in range(1, max(numbers)))
            assert scene.told[-1].dropped == missing > 0

    play(scenario, outbox_bytes=4096)


class AskedCaptures(MemoryCaptures):
    """Counts how often it is asked what it has counted."""

    asked = 0

    async def counts(self) -> Counts:
        """As it stands."""
        self.asked += 1
        return await super().counts()


def test_counters_are_asked_for_when_they_may_be_others() -> None:
    """Nobody reads them at rest; after an answer, and when a document bounds what is kept, they are."""

    async def scenario(scene: Scene) -> None:
        scene.captures = captures = AskedCaptures()
        async with scene.device() as unit:
            await scene.clock.sleep(20 * TOLD_S * SECOND)
            asked = captures.asked
            await scene.clock.sleep(20 * TOLD_S * SECOND)
            assert captures.asked == asked
            unit.inference.on_answered()
            await scene.clock.sleep(3 * TOLD_S * SECOND)
            assert captures.asked == asked + 1
            scene.air.desire(assign(1, capture=CapturePolicy(max_samples=7)))
            await scene.clock.sleep(3 * TOLD_S * SECOND)
            assert captures.asked == asked + 2

    play(scenario)
