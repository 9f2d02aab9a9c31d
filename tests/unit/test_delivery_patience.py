"""When the device sends telemetry again that has no receipt: not before the hub may have taken it."""

from types import SimpleNamespace
from typing import Any

from edge_agent.core.spool import Frame
from edge_agent.service.courier import FIRST_RETRY_NS, Uplink
from edge_agent.service.delivery import ALONE_NS, Delivery
from edge_agent.service.tasks import Tasks
from simulator.world import World
from wire.codec import encode
from wire.messages import Telemetry
from wire.ports import SECOND
from wire.topics import DEFAULT_ROOT, Topics


class Held:
    """An outbox in memory."""

    def __init__(self, newest: int) -> None:
        self.newest, self.done = newest, 0

    def at_hand(self, after: int, count: int) -> list[Frame]:
        """What follows `after`."""
        return [Frame(seq, encode(Telemetry(seq=seq))) for seq in range(after + 1, self.newest + 1)][:count]

    def receipted(self, seq: int) -> None:
        """The hub has it."""
        self.done = seq


def sent(messages: int) -> list[float]:
    """At which second each of so many messages was sent within 20 s without a receipt."""
    world, seconds = World(1), list[float]()
    link: Any = SimpleNamespace(
        connected=True, send=lambda topic, payload, retain=False: seconds.append(round(world.loop.time(), 1))
    )
    uplink = Uplink("d1", Topics(DEFAULT_ROOT), link, world.clock, Tasks(world.fail))

    async def scene() -> None:
        delivery = Delivery(uplink, Held(messages))  # type: ignore[arg-type]
        delivery.kick()
        await world.clock.sleep(20 * SECOND)
        delivery.stop()

    world.loop.run(scene())
    return seconds


def test_a_message_that_stands_alone_waits_longer_for_its_receipt() -> None:
    """The hub keeps it for those of other devices; two of one device it takes at once."""
    assert sent(1) == [0.0, ALONE_NS / SECOND]
    again = FIRST_RETRY_NS / SECOND
    assert sent(2) == [0.0, 0.0, again, again, 3 * again, 3 * again]
