"""The exchange when its own store fails: the run is told where it waits, and nothing that was not kept is confirmed."""

import asyncio
from collections.abc import Callable

import pytest

from federated.adapters.exchange import Exchange, MemoryLedger
from federated.core.collection import Collection, Pace
from federated.core.issue import Answer, Instruction
from federated.core.replies import Limits
from wire.adapters.system import SystemClock
from wire.codec import encode
from wire.federated import Reply, Task
from wire.messages import Status
from wire.ports import SECOND, Inbound
from wire.topics import Topics

TOPICS = Topics("fl/1")
TASK = Task(run="r", task="t1", kind="train", round=1, model="m", version=1, records=())


class ListeningLink:
    """Hands over what the test delivers; remembers what was published and acknowledged."""

    def __init__(self) -> None:
        self.on_message: Callable[[Inbound], None] = lambda message: None
        self.on_up: Callable[[], None] = lambda: None
        self.on_down: Callable[[str], None] = lambda reason: None
        self.connected = True
        self.published: list[bytes] = []
        self.acknowledged: list[str] = []

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""

    async def subscribe(self, *filters: str) -> None:
        """Nothing to do."""

    async def unsubscribe(self, *filters: str) -> None:
        """Nothing to do."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Into the list."""
        self.published.append(payload)

    def deliver(self, topic: str, payload: bytes) -> None:
        """A message arrives."""
        self.on_message(Inbound(topic, payload, False, lambda: self.acknowledged.append(topic)))


def full(answer: Answer) -> None:
    """A store without room."""
    raise OSError("disk full")


@pytest.mark.parametrize("by_deadline", [False, True], ids=["an answer arrives", "the deadline passes"])
def test_a_store_that_fails_ends_the_wait_and_confirms_nothing(by_deadline: bool) -> None:
    """Whether a message or the clock ended the task."""

    async def scenario() -> None:
        link = ListeningLink()
        collection = Collection("r", Limits(), Pace())
        exchange = Exchange(link, TOPICS, SystemClock(), collection, MemoryLedger(), full)
        await exchange.open(["ada"])
        link.deliver(TOPICS.up("ada", "status"), encode(Status(online=True)))
        exchange.offer([Instruction("ada", TASK, {})], 0 if by_deadline else 60 * SECOND)
        if not by_deadline:
            link.deliver(TOPICS.up("ada", "fed"), encode(Reply(run="r", task="t1", ok=False, reason="no")))
        with pytest.raises(OSError, match="disk full"):
            await asyncio.wait_for(exchange.wait(["t1"]), 5)
        await asyncio.sleep(0)
        assert TOPICS.up("ada", "fed") not in link.acknowledged, "it must come again"
        assert not any(b"done" in payload and b'"done":null' not in payload for payload in link.published)
        await exchange.close(clear=False)

    asyncio.run(scenario())


GOOD = encode(Reply(run="r", task="t1", ok=False, reason="no"))
BAD_MESSAGES = {
    "not JSON": (b"]", "malformed"),
    "truncated": (GOOD[:-3], "truncated"),
    "unknown field": (GOOD[:-1] + b',"surprise":1}', "unknown field `surprise`"),
    "oversize": (b" " * 70_000, "70000 bytes, at most"),
    "not UTF-8": (b'{"run":"\xff"}', "utf-8"),
    "NaN": (b'{"run":"r","task":"t1","ok":NaN}', "malformed"),
}


@pytest.mark.parametrize("case", BAD_MESSAGES)
def test_a_bad_reply_is_refused_with_a_reason_in_the_log(case: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is acknowledged, so that it does not come again; the task still waits, and a good reply ends it."""
    payload, reason = BAD_MESSAGES[case]

    async def scenario() -> None:
        link, kept = ListeningLink(), list[Answer]()
        collection = Collection("r", Limits(), Pace())
        exchange = Exchange(link, TOPICS, SystemClock(), collection, MemoryLedger(), kept.append)
        await exchange.open(["ada"])
        exchange.offer([Instruction("ada", TASK, {})], 60 * SECOND)
        topic = TOPICS.up("ada", "fed")
        link.deliver(topic, payload)
        assert reason in caplog.messages[0]
        assert (link.acknowledged, kept, collection.outstanding(["t1"])) == ([topic], [], True)
        link.deliver(topic, GOOD)
        await exchange.wait(["t1"])
        assert kept[0].reason == "no"
        await exchange.close(clear=False)

    asyncio.run(scenario())
