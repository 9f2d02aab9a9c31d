"""How long the hub keeps what devices measured before it takes it, and when it does not."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from cloud.service.effects import Effects
from cloud.service.enrolment import Door
from cloud.service.inbox import CROWD, CROWD_NS, FEW, GATHER_NS, Inbox
from simulator.fakes.store import MemoryStore
from simulator.world import World
from wire.codec import encode
from wire.messages import Telemetry
from wire.ports import SECOND, Inbound
from wire.topics import DEFAULT_ROOT, Topics

TOPICS = Topics(DEFAULT_ROOT)
Story = Callable[[World, Inbox, Callable[[str, int], None]], Coroutine[Any, Any, None]]


class Silent:
    """An outbox."""

    def post(self, effects: Effects) -> None:
        """To nobody."""


def taken(story: Story) -> list[int]:
    """At which second each message was acknowledged."""
    return [int(ns / SECOND) for ns in acknowledged(story)]


def acknowledged(story: Story) -> list[int]:
    """When each message was (ns)."""
    world, moments = World(1), list[int]()
    inbox = Inbox(MemoryStore(world.clock), Silent(), world.clock, Door(TOPICS, None))  # type: ignore[arg-type]

    def tell(device: str, seq: int, channel: str = "telemetry") -> None:
        ack = lambda: moments.append(world.loop.now_ns)  # noqa: E731
        inbox.take(Inbound(TOPICS.up(device, channel), encode(Telemetry(seq=seq)), False, ack))

    async def scene() -> None:
        running = world.loop.create_task(inbox.run())
        await story(world, inbox, tell)
        await world.clock.sleep(20 * SECOND)
        running.cancel()

    world.loop.run(scene())
    return moments


@pytest.mark.parametrize(("hurried", "second"), [(False, 10), (True, 1)])
def test_what_was_measured_waits_for_that_of_other_devices(hurried: bool, second: int) -> None:
    """Ten seconds at rest, one while a rollout is under way."""

    async def story(world: World, inbox: Inbox, tell: Callable[[str, int], None]) -> None:
        inbox.hurry(hurried)
        tell("d1", 1)
        await world.clock.sleep(SECOND // 2)
        tell("d2", 1)

    assert taken(story) == [second, second]


def test_it_waits_no_longer_once_somebody_waits_for_it() -> None:
    """A rollout has begun meanwhile, or its device says more."""

    async def begun(world: World, inbox: Inbox, tell: Callable[[str, int], None]) -> None:
        inbox.hurry(False)
        tell("d1", 1)
        await world.clock.sleep(3 * SECOND)
        inbox.hurry(True)

    async def more(world: World, inbox: Inbox, tell: Callable[[str, int], None]) -> None:
        inbox.hurry(False)
        tell("d1", 1)
        await world.clock.sleep(5 * SECOND)
        tell("d1", 2)

    assert taken(begun) == [3]
    assert taken(more) == [5, 5]


def test_brokers_are_not_left_with_many_messages_unacknowledged() -> None:
    """They stop sending at twenty, where nobody has set more: what devices report would wait behind it."""

    async def story(world: World, inbox: Inbox, tell: Callable[[str, int], None]) -> None:
        inbox.hurry(False)
        for number in range(FEW):
            tell(f"d{number}", 1)

    assert taken(story) == [1] * FEW


def test_anything_else_is_taken_at_once() -> None:
    """And what waits is taken with it."""

    async def story(world: World, inbox: Inbox, tell: Callable[..., None]) -> None:
        inbox.hurry(False)
        tell("d1", 1)
        tell("d2", 1, "reported")

    assert taken(story) == [0, 0]


def test_many_who_have_something_to_say_are_taken_together() -> None:
    """After a crowd the next ones wait longer, for fewer transactions, but not a FEW, nor who comes late."""
    begun = list[int]()

    async def story(world: World, inbox: Inbox, tell: Callable[..., None]) -> None:
        for pause_ns, count in ((0, CROWD), (SECOND, 1), (SECOND, CROWD), (SECOND, FEW)):
            await world.clock.sleep(pause_ns)
            begun.append(world.loop.now_ns)
            for number in range(count):
                tell(f"d{number}", len(begun), "reported")
        await world.clock.sleep(SECOND)
        begun.append(world.loop.now_ns)
        tell("d1", 9, "reported")
        await world.clock.sleep(SECOND)
        begun.append(world.loop.now_ns)
        tell("d1", 10, "reported")

    moments = acknowledged(story)
    firsts = [next(moment for moment in moments if moment > start) - start for start in begun]
    crowded = [wait >= CROWD_NS for wait in firsts]
    assert crowded == [False, True, False, False, True, False]
    assert min(firsts) >= GATHER_NS
