"""The in-memory link keeps the contract of `wire.ports.Link` that the MQTT link keeps against a real broker."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest

from simulator.core.clock import VirtualClock
from simulator.core.loop import Process, VirtualLoop
from simulator.core.network import Network, Quality
from simulator.core.rng import Rng
from simulator.fakes.broker import MemoryBroker
from simulator.fakes.link import MemoryLink
from wire.adapters.mqtt_link import Credentials, Will
from wire.ports import MILLISECOND, SECOND, Inbound, LinkError


@dataclass
class World:
    """A loop, its clock and a broker."""

    loop: VirtualLoop
    clock: VirtualClock
    broker: MemoryBroker


class Client:
    """A link with its messages in a queue and its ups and downs as events."""

    def __init__(
        self,
        world: World,
        name: str,
        quality: Quality | None = None,
        will: Will | None = None,
        *,
        acks: bool = True,
    ) -> None:
        network = Network(quality or Quality(), Rng(7, name))
        self.link = MemoryLink(world.broker, world.clock, Credentials(name, "secret"), network=network, will=will)
        self.received: asyncio.Queue[Inbound] = asyncio.Queue()
        self.up, self.down = asyncio.Event(), asyncio.Event()
        self.link.on_message = self._on_message
        self.link.on_up = self.up.set
        self.link.on_down = lambda reason: self.down.set()
        self._acks = acks

    def _on_message(self, message: Inbound) -> None:
        if self._acks:
            message.ack()
        self.received.put_nowait(message)

    async def next(self) -> Inbound:
        """The next message, or fail after sixty virtual seconds."""
        return await asyncio.wait_for(self.received.get(), 60)

    async def silent(self) -> bool:
        """Does nothing more arrive within a minute?"""
        await asyncio.sleep(60)
        return self.received.empty()


def run(scenario: Callable[[World], Coroutine[Any, Any, None]], seed: int = 0) -> None:
    """Play a scenario in virtual time."""
    loop = VirtualLoop(Rng(seed, "loop"))
    clock = VirtualClock(loop)
    loop.run(scenario(World(loop, clock, MemoryBroker(clock))))


@contextlib.asynccontextmanager
async def connected(*clients: Client) -> AsyncIterator[None]:
    """Start all, wait until they are up, stop all at the end."""
    for client in clients:
        await client.link.start()
        await asyncio.wait_for(client.up.wait(), 60)
    try:
        yield
    finally:
        for client in clients:
            await client.link.stop()


def test_large_messages_arrive_whole() -> None:
    """Sixteen 60 KiB messages published at once arrive complete; publishes in sequence arrive in order."""

    async def scenario(world: World) -> None:
        sender, receiver = Client(world, "sender"), Client(world, "receiver")
        await receiver.link.subscribe("t/#")
        payloads = [bytes([i]) * 60 * 1024 for i in range(16)]
        async with connected(receiver, sender):
            await asyncio.gather(*(sender.link.publish(f"t/{i}", data) for i, data in enumerate(payloads)))
            assert {(await receiver.next()).payload for _ in payloads} == set(payloads)
            for data in payloads:
                await sender.link.publish("t/x", data)
            assert [(await receiver.next()).payload for _ in payloads] == payloads

    run(scenario)


def test_retained_message_reaches_a_late_subscriber_each_time_it_asks() -> None:
    """Subscribing to an exact retained topic is a pull; clearing ends it."""

    async def scenario(world: World) -> None:
        sender, receiver = Client(world, "sender"), Client(world, "receiver")
        async with connected(receiver, sender):
            await sender.link.publish("blob/1", b"chunk", retain=True)
            for _ in range(2):
                await receiver.link.subscribe("blob/1")
                message = await receiver.next()
                assert (message.payload, message.retained) == (b"chunk", True)
            await receiver.link.unsubscribe("blob/1")
            await sender.link.publish("blob/1", b"", retain=True)
            await receiver.link.subscribe("blob/1")
            assert await receiver.silent()

    run(scenario)


def test_unsubscribed_topics_fall_silent() -> None:
    """Nothing is delivered after the acknowledgement of an UNSUBSCRIBE."""

    async def scenario(world: World) -> None:
        client = Client(world, "client")
        async with connected(client):
            await client.link.subscribe("t/+", "u")
            await client.link.unsubscribe("t/+")
            await client.link.publish("t/1", b"no")
            await client.link.publish("u", b"yes")
            assert (await client.next()).payload == b"yes"

    run(scenario)


def test_last_will_is_published_when_a_client_vanishes() -> None:
    """A client without power is announced after the keep-alive time; one that says goodbye is not."""

    async def scenario(world: World) -> None:
        watcher = Client(world, "watcher")
        await watcher.link.subscribe("w")
        async with connected(watcher):
            polite = Client(world, "polite", will=Will("w", b"rude"))
            async with connected(polite):
                pass
            assert await watcher.silent()
            process = Process("dying")
            dying = process.run(lambda: Client(world, "dying", will=Will("w", b"gone")))
            process.run(lambda: world.loop.create_task(dying.link.start()))
            await asyncio.wait_for(dying.up.wait(), 60)
            world.loop.kill(process)
            world.broker.vanish("dying")
            before_ns = world.clock.monotonic_ns()
            assert (await watcher.next()).payload == b"gone"
            assert world.clock.monotonic_ns() - before_ns >= 20 * SECOND
            late = Client(world, "late")
            await late.link.subscribe("w")
            async with connected(late):
                assert (await late.next()).payload == b"gone"

    run(scenario)


def test_comes_back_after_the_broker_was_killed_with_its_subscriptions() -> None:
    """A new broker that knows nothing gets the subscriptions again, and what happened is said through the callbacks."""

    async def scenario(world: World) -> None:
        client = Client(world, "client")
        await client.link.subscribe("t")
        async with connected(client):
            world.broker.kill()
            await asyncio.wait_for(client.down.wait(), 5)
            with pytest.raises(LinkError, match="not connected"):
                await client.link.publish("t", b"lost")
            client.up.clear()
            await asyncio.sleep(30)
            world.broker.start()
            await asyncio.wait_for(client.up.wait(), 60)
            await client.link.publish("t", b"back")
            assert (await client.next()).payload == b"back"

    run(scenario)


def test_publish_in_flight_fails_when_the_broker_dies() -> None:
    """A publish that the broker never acknowledged is an error, not a success."""

    async def scenario(world: World) -> None:
        client = Client(world, "client", Quality(delay_min_ns=SECOND, delay_max_ns=SECOND))
        async with connected(client):
            publishing = asyncio.create_task(client.link.publish("t", b"x"))
            await asyncio.sleep(0.5)
            world.broker.kill()
            with pytest.raises(LinkError, match="broker is gone"):
                await publishing

    run(scenario)


def test_a_client_that_came_back_outlives_the_end_of_its_old_connection() -> None:
    """The broker was restarted and the client is back before the keep-alive time of its earlier life is over."""

    async def scenario(world: World) -> None:
        first = Process("first life")
        before = first.run(lambda: Client(world, "client"))
        first.run(lambda: world.loop.create_task(before.link.start()))
        await asyncio.wait_for(before.up.wait(), 60)
        world.loop.kill(first)
        world.broker.vanish("client")
        world.broker.kill()
        world.broker.start()
        after = Client(world, "client")
        await after.link.subscribe("t")
        async with connected(after):
            await asyncio.sleep(60)
            await after.link.publish("t", b"here")
            assert (await after.next()).payload == b"here"

    run(scenario)


def test_what_was_not_acknowledged_comes_again_after_a_reconnect() -> None:
    """The session outlives the connection: for what was missed meanwhile, and for what was not yet taken."""

    async def scenario(world: World) -> None:
        slow, sender = Client(world, "slow", acks=False), Client(world, "sender")
        await slow.link.subscribe("t")
        async with connected(slow, sender):
            await sender.link.publish("t", b"first")
            early = await slow.next()
            slow.link.cut()
            await sender.link.publish("t", b"second")
            early.ack()
            assert [(await slow.next()).payload for _ in range(2)] == [b"first", b"second"]

    run(scenario)


def test_a_lost_acknowledgement_is_an_error_although_the_message_was_taken() -> None:
    """Loss hits publishes and acknowledgements alike, and the publisher cannot tell which."""

    async def scenario(world: World) -> None:
        watcher, lossy = Client(world, "watcher"), Client(world, "lossy", Quality(loss=0.5))
        await watcher.link.subscribe("t")
        async with connected(watcher, lossy):
            told = set()
            for number in range(40):
                with contextlib.suppress(LinkError):
                    await lossy.link.publish("t", b"%d" % number)
                    told.add(b"%d" % number)
            await asyncio.sleep(1)
            taken = set()
            while not watcher.received.empty():
                taken.add(watcher.received.get_nowait().payload)
            assert told < taken < {b"%d" % number for number in range(40)}

    run(scenario)


def test_duplicates_and_losses_follow_the_seed() -> None:
    """The same seed does the same harm, another seed another."""

    def received(seed: int) -> list[bytes]:
        payloads: list[bytes] = []

        def take(message: Inbound) -> None:
            message.ack()
            payloads.append(message.payload)

        async def scenario(world: World) -> None:
            quality = Quality(loss=0.2, duplication=0.2, delay_max_ns=500 * MILLISECOND)
            sender = Client(world, "sender")
            credentials, network = Credentials("receiver", "secret"), Network(quality, Rng(seed, "receiver"))
            link = MemoryLink(world.broker, world.clock, credentials, network=network)
            link.on_message = take
            await link.subscribe("t")
            await link.start()
            async with connected(sender):
                await asyncio.sleep(5)
                for number in range(50):
                    await sender.link.publish("t", b"%d" % number)
                await asyncio.sleep(5)

        run(scenario)
        return payloads

    assert received(1) == received(1)
    assert received(1) != received(2)
    assert 20 < len(set(received(1))) < 50
    assert len(received(1)) > len(set(received(1)))
