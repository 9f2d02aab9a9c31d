"""Orders of a thief's in a fleet at rest: how long the hub lets them stand, whenever it looked last."""

import dataclasses

from simulator.core.loop import SimulationError
from simulator.core.network import Quality
from simulator.faults.forgery import AHEAD, ForgedDesired
from simulator.faults.inject import Injector
from simulator.fleet import Fleet
from simulator.fuzz.draw import SMALL_BYTES
from simulator.fuzz.standing import INTERVALS, SIZE, standing
from simulator.world import World
from wire.ports import SECOND

LOSSLESS = dataclasses.replace(SIZE, quality=Quality())
AT_REST_S, PATIENCE_S, SOON_S = 200, 100, 15


def test_a_thief_gains_nothing_by_forging_again_just_after_the_hub_looked() -> None:
    """News of a fleet at rest may wait until the hub's last look is a minute old; a device ahead of it may not."""
    fleet = Fleet(World(9), INTERVALS, standing(2, SMALL_BYTES).estate)
    clock, injector, stood_s = fleet.world.clock, Injector(fleet), list[int]()

    async def repaired(above: int) -> int:
        """After so many seconds every device has accepted an order of the hub's above that."""
        for passed_s in range(PATIENCE_S):
            if all(device.record().sequence > above for device in fleet.devices):
                return passed_s
            await clock.sleep(SECOND)
        raise SimulationError(f"after {PATIENCE_S} s the thief's orders still stand")

    async def scene() -> None:
        fleet.hub.start()
        fleet.wake(LOSSLESS)
        await clock.sleep(AT_REST_S * SECOND)
        for _ in range(2):
            newest = max(device.record().sequence for device in fleet.devices)
            injector.plan(ForgedDesired(at="0s", version=1))
            stood_s.append(await repaired(newest + AHEAD))

    fleet.world.loop.run(scene())
    assert max(stood_s) <= SOON_S, stood_s
