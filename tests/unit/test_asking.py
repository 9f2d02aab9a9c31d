"""Questions of devices under load: asked again ever more rarely, answered once however often they were asked."""

import asyncio

import pytest
from sqlalchemy import insert

from cloud.service.asks import AT_ONCE, Asks
from cloud.tables import devices
from edge_agent.errors import UnansweredError
from edge_agent.service.asking import ASK_AGAIN_NS, LAST_ASK_AGAIN_NS, Asking
from edge_agent.service.courier import Uplink
from edge_agent.service.tasks import Tasks
from simulator.core.clock import VirtualClock
from simulator.core.loop import VirtualLoop
from simulator.core.rng import Rng, SeededIds
from simulator.fakes.store import MemoryStore
from wire.adapters.bell import Bell
from wire.adapters.system import SystemClock
from wire.asks import Answer, Ask, AskTime, TimeTold
from wire.codec import encode
from wire.ports import SECOND, Inbound
from wire.topics import Topics

QUESTION = AskTime(nonce="0" * 32)


class SilentLink:
    """A link on which nobody answers; notes when something was sent."""

    connected = True

    def __init__(self, clock: VirtualClock | None = None) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.moments: list[int] = []
        self._clock = clock
        self.on_message = self.on_up = self.on_down = lambda *_: None

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Note it."""
        self.send(topic, payload)

    def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Note it."""
        self.sent.append((topic, payload))
        if self._clock is not None:
            self.moments.append(self._clock.monotonic_ns())

    async def subscribe(self, *filters: str) -> None:
        """Nothing to do."""

    async def unsubscribe(self, *filters: str) -> None:
        """Nothing to do."""


def test_a_device_that_gets_no_answer_asks_ever_more_rarely() -> None:
    """Pauses double up to a bound, and the question ends when its time is over."""
    loop = VirtualLoop(Rng(1))
    clock = VirtualClock(loop)
    link = SilentLink(clock)

    async def scene() -> None:
        tasks = Tasks(loop.fail)
        asking = Asking(Uplink("d1", Topics(), link, clock, tasks), SeededIds(Rng(2)))
        with pytest.raises(UnansweredError):
            await asking.ask(QUESTION, 120.0)
        await tasks.stop()

    loop.run(scene())
    pauses = [after - before for before, after in zip(link.moments, link.moments[1:], strict=False)]
    first = [ASK_AGAIN_NS, 2 * ASK_AGAIN_NS, 4 * ASK_AGAIN_NS, 8 * ASK_AGAIN_NS]
    assert [round(one / SECOND) for one in pauses[:4]] == [round(one / SECOND) for one in first]
    assert max(pauses) <= LAST_ASK_AGAIN_NS + SECOND


def enrolled(names: set[str]) -> MemoryStore:
    """A database with these devices."""
    store = MemoryStore()
    rows = [{"name": name, "labels": {}, "federated": False, "claimed_ns": 1, "enrolled_ns": 2} for name in names]
    store.now(lambda conn: conn.execute(insert(devices), rows))
    return store


async def tell_time(device: str, ask: AskTime) -> TimeTold:
    """The answer to every question."""
    return TimeTold(envelope=b"now")


def answered(questions: list[tuple[str, Ask]], count: int, store: MemoryStore | None = None) -> SilentLink:
    """Have the hub take all these questions before it looks at the first; returns when it has told `count` answers."""
    link, store = SilentLink(), store or enrolled({device for device, _ in questions})
    asks = Asks(store, link, SystemClock(), Topics(), {AskTime: tell_time})

    async def scene() -> None:
        for device, ask in questions:
            asks.take(device, Inbound("", encode(ask), retained=False, ack=lambda: None))
        work = asyncio.create_task(asks.run())
        while len(link.sent) < count:
            await asyncio.sleep(0)
        for _ in range(20):  # there may be more
            await asyncio.sleep(0)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    asyncio.run(asyncio.wait_for(scene(), 30))
    return link


def test_a_question_that_is_asked_again_while_it_waits_is_answered_once() -> None:
    """And another one of the same device, or the same of another device, by itself."""
    one, other = Ask(id="1", what=QUESTION), Ask(id="2", what=QUESTION)
    link = answered([("d1", one), ("d1", one), ("d1", other), ("d2", one), ("d1", one)], 3)
    told = [payload for _, payload in link.sent]
    answer = TimeTold(envelope=b"now")
    assert sorted(told) == sorted(encode(Answer(id=name, what=answer)) for name in ("1", "1", "2"))


def test_the_questions_of_three_thousand_devices_wait_their_turn() -> None:
    """Each takes a hundred bytes; none is dropped. Nor are so many looked up at once that a database refuses it."""
    names = [f"d{number}" for number in range(3_000)]
    store = enrolled(set(names))
    before = store.transactions
    link = answered([(name, Ask(id="1", what=QUESTION)) for name in names], 3_000, store)
    assert len({topic for topic, _ in link.sent}) == 3_000
    assert store.transactions - before == 3_000 / AT_ONCE


def test_a_bell_lets_its_waiter_go_and_rings_until_it_is_silenced() -> None:
    """As an event does, for one waiter."""

    async def scene() -> None:
        bell = Bell()
        waiting = asyncio.create_task(bell.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        bell.ring()
        await asyncio.wait_for(waiting, 1)
        await asyncio.wait_for(bell.wait(), 1)
        bell.silence()
        assert not bell.rings
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(bell.wait(), 0.01)

    asyncio.run(scene())
