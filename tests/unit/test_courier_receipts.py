"""A report that arrived although its sending failed, and a receipt that comes before the next try."""

import asyncio

from edge_agent.service.courier import Courier, Uplink
from edge_agent.service.tasks import Tasks
from simulator.world import World
from wire.ports import SECOND, LinkError
from wire.topics import DEFAULT_ROOT, Topics


class LateLink:
    """Every message arrives at once; the acknowledgement of the first one never comes."""

    connected = True

    def __init__(self, world: World) -> None:
        self.sent: list[bytes] = []
        self._world = world

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """The first one times out."""
        self.sent.append(payload)
        if len(self.sent) == 1:
            await self._world.clock.sleep(30 * SECOND)
            raise LinkError("not acknowledged")


def test_what_changed_while_a_report_was_on_its_way_is_told_after_its_receipt() -> None:
    """The receipt ends the waiting for that report, not the telling of what is new. (Seed 1 of the fuzzing, once.)"""
    world, state = World(1), ["trial"]
    link = LateLink(world)

    async def build(seq: int) -> bytes:
        return f"{seq} {state[0]}".encode()

    async def scene() -> None:
        uplink = Uplink("d1", Topics(DEFAULT_ROOT), link, world.clock, Tasks(world.fail))  # type: ignore[arg-type]
        courier = Courier(uplink, build)
        courier.changed()
        await asyncio.sleep(1)
        state[0] = "committed"
        courier.changed()
        await asyncio.sleep(31)
        courier.on_receipt(1)
        await asyncio.sleep(1)
        courier.on_receipt(2)

    world.loop.run(scene())
    assert link.sent == [b"1 trial", b"2 committed"]
