"""An agent that starts again, on a full or damaged disk too: the application is answered before anything else."""

import numpy as np

from edge_agent.core.pointer import MAX_SHORT_STARTS
from edge_agent.service.reconciler import LASTING_NS
from simulator.core.clock import VirtualClock
from simulator.memory_disk import MemoryDisk
from tests.scenes.agent_scenes import ONE, TWO, air_with, gear, in_virtual_time, run
from tests.worlds.agent_world import Air, assign, committed, device, wanted
from wire.messages import Outcome
from wire.ports import SECOND


def test_a_restart_serves_the_committed_model_before_any_message_and_reports_it_again() -> None:
    """The second start has no air at all at first."""

    async def scenario() -> None:
        air, disk = air_with(), MemoryDisk()
        async with device(gear(air, disk)):
            air.desire(assign(1, wanted(ONE, "e1")))
            await air.slot(committed(1))
        quiet = Air()
        async with device(gear(quiet, disk)) as unit:
            assert (await unit.inference.predict(np.zeros(4, np.float32))).version == 1
            again = await quiet.report(lambda one: True)
            assert (again.slots[0].execution, again.slots[0].outcome) == ("e1", Outcome.SUCCEEDED)
            assert again.seq >> 32 == 2, "boots are counted"

    run(scenario)


def test_a_full_disk_at_the_start_keeps_nobody_from_being_served() -> None:
    """The report says what is wrong, under no number of a start that is not written down; with room it is completed."""

    async def scenario(clock: VirtualClock) -> None:
        air, disk = air_with(), MemoryDisk()
        async with device(gear(air, disk, clock)):
            air.desire(assign(1, wanted(ONE, "e1")))
            await clock.sleep(10 * SECOND)
        disk._capacity_bytes = 0
        async with device(gear(air, disk, clock)) as unit:
            assert (await unit.inference.predict(np.zeros(4, np.float32))).version == 1
            await clock.sleep(SECOND)
            assert "the state cannot be written" in air.reports[-1].refused
            assert air.reports[-1].seq >> 32 == 1
            disk._capacity_bytes = 1 << 30
            air.desire(assign(2, wanted(TWO, "e2")))
            await clock.sleep(30 * SECOND)
            assert committed(2)(air.reports[-1].slots[0])
            assert air.reports[-1].seq >> 32 == 2
            assert air.reports[-1].refused == ""

    in_virtual_time(scenario)


def test_a_full_disk_and_a_model_under_suspicion_leave_the_one_before_it() -> None:
    """The last starts did not last, and this one cannot be written down: what served well before serves meanwhile."""

    async def scenario(clock: VirtualClock) -> None:
        air, disk = air_with(), MemoryDisk()
        async with device(gear(air, disk, clock)):
            for sequence, version in enumerate((ONE, TWO), 1):
                air.desire(assign(sequence, wanted(version, f"e{sequence}")))
                await clock.sleep(2 * LASTING_NS)
        for _ in range(MAX_SHORT_STARTS):
            async with device(gear(air, disk, clock)) as unit:
                assert (await unit.inference.predict(np.zeros(4, np.float32))).version == 2
        disk._capacity_bytes = 0
        async with device(gear(air, disk, clock)) as unit:
            assert (await unit.inference.predict(np.zeros(4, np.float32))).version == 1

    in_virtual_time(scenario)


def test_damage_on_the_disk_is_found_at_the_start_and_healed() -> None:
    """The current model rots: the device goes on with the one before, and fetches what it should run again."""

    async def scenario(clock: VirtualClock) -> None:
        air, disk = air_with(), MemoryDisk()
        async with device(gear(air, disk, clock)):
            air.desire(assign(1, wanted(ONE, "e1")))
            await air.slot(committed(1))
            air.desire(assign(2, wanted(TWO, "e2")))
            await air.slot(committed(2))
        await disk.pwrite(f"objects/{TWO.release.variants[0].file.sha256}", 9, b"rot")
        async with device(gear(air, disk, clock)) as unit:
            assert (await unit.inference.predict(np.zeros(4, np.float32))).version in (1, 2)
            await air.slot(committed(2))

    in_virtual_time(scenario)
