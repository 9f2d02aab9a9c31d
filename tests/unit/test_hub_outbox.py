"""In which order, and how many at a time, the hub publishes."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from cloud.service.effects import Effects, Publish
from cloud.service.outbox import AT_ONCE, Outbox
from simulator.fakes.store import MemoryStore
from tests.worlds.hub_fakes import FakeClock, FakeControl
from tests.worlds.hub_world import ROOT
from wire.ports import LinkError


class Slow:
    """A broker that acknowledges when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[str, asyncio.Future[None]]] = []
        self.sent: list[tuple[str, bytes]] = []

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Until it is acknowledged."""
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sent.append((topic, payload))
        self.waiting.append((topic, acknowledged))
        await acknowledged

    def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Not acknowledged to anybody."""
        self.sent.append((topic, payload))

    async def settle(self, error: Exception | None = None) -> list[str]:
        """Answer what waits now; returns the topics."""
        for _ in range(5):
            await asyncio.sleep(0)
        some, self.waiting = self.waiting, []
        for _, acknowledged in some:
            acknowledged.set_exception(error) if error else acknowledged.set_result(None)
        return [topic for topic, _ in some]


def run(scenario: Callable[[Outbox, Slow], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario with an outbox at work."""

    async def working() -> None:
        link = Slow()
        outbox = Outbox(MemoryStore(), link, FakeControl(), ROOT, FakeClock())  # type: ignore[arg-type]
        task = asyncio.create_task(outbox.run())
        await scenario(outbox, link)
        task.cancel()

    asyncio.run(working())


def publishes(*topics: str) -> Effects:
    """One publish on each, numbered and retained."""
    return Effects(tuple(Publish(topic, b"%d" % number, retain=True) for number, topic in enumerate(topics)))


def test_publishes_do_not_wait_for_one_another() -> None:
    """As many as may, at once; the rest behind them."""

    async def scenario(outbox: Outbox, link: Slow) -> None:
        outbox.post(publishes(*(f"t{number}" for number in range(AT_ONCE + 3))))
        assert len(await link.settle()) == AT_ONCE
        assert len(await link.settle()) == 3

    run(scenario)


def test_what_is_said_on_one_topic_keeps_its_order() -> None:
    """The next one is said when the one before has arrived."""

    async def scenario(outbox: Outbox, link: Slow) -> None:
        outbox.post(publishes("a", "b", "a", "c"))
        assert await link.settle() == ["a", "b"]
        assert await link.settle() == ["a", "c"]
        assert link.sent == [("a", b"0"), ("b", b"1"), ("a", b"2"), ("c", b"3")]

    run(scenario)


def test_a_link_that_breaks_ends_these_effects_and_not_the_next_ones() -> None:
    """What was lost is found missing by the timers."""

    async def scenario(outbox: Outbox, link: Slow) -> None:
        outbox.post(publishes("a", "b", "a"))
        outbox.post(publishes("next"))
        assert await link.settle(LinkError("cut")) == ["a", "b"]
        assert await link.settle() == ["next"]

    run(scenario)


def test_nobody_waits_for_a_receipt_to_arrive() -> None:
    """More of them than may wait together, and what is retained goes on beside them."""

    async def scenario(outbox: Outbox, link: Slow) -> None:
        receipts = Effects(tuple(Publish(f"t{number}", b"receipt") for number in range(AT_ONCE + 3)))
        outbox.post(receipts + publishes("desired"))
        assert await link.settle() == ["desired"]
        assert len(link.sent) == AT_ONCE + 4

    run(scenario)


@pytest.mark.parametrize("left", [0, 1, 2])
def test_nothing_is_published_once_the_condition_is_gone(left: int) -> None:
    """It is looked at before each."""

    async def scenario(outbox: Outbox, link: Slow) -> None:
        outbox.post(publishes("a", "b", "c"), only_while=lambda: len(link.sent) < left)
        assert len(await link.settle()) == left

    run(scenario)
