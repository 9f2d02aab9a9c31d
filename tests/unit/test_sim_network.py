"""What networks and broker do to messages beside losing them: bandwidth, order, barriers, a slow broker."""

from collections.abc import Awaitable, Callable

import pytest

from simulator.core.network import Network, Quality
from simulator.fakes.link import MemoryLink
from simulator.world import World
from wire.adapters.mqtt_link import Credentials, Will
from wire.ports import SECOND, LinkError

STILL = Quality(delay_min_ns=0, delay_max_ns=0)


class Ends:
    """A sender on a perfect network, and a receiver on the one in question. `heard`: (seconds, payload)."""

    def __init__(self, quality: Quality) -> None:
        self.world = World(1)
        self.network = Network(quality, self.world.rng.child("network"))
        self.heard: list[tuple[float, bytes]] = []
        still = Network(STILL, self.world.rng.child("still"))
        self.sender = MemoryLink(self.world.broker, self.world.clock, Credentials("sender", ""), network=still)
        will = Will("gone", b"yes")
        self.receiver = MemoryLink(
            self.world.broker, self.world.clock, Credentials("receiver", ""), network=self.network, will=will
        )

    def run(self, scene: Callable[[], Awaitable[None]]) -> None:
        """Both connected, the receiver subscribed to `t`."""

        async def whole() -> None:
            self.receiver.on_message = lambda message: (
                self.heard.append((self.world.loop.time(), message.payload)),
                message.ack(),
            )[1]
            await self.receiver.subscribe("t")
            for link in (self.sender, self.receiver):
                await link.start()
            await self.pause(1)
            await scene()

        self.world.loop.run(whole())

    async def pause(self, seconds: float) -> None:
        """Let time pass."""
        await self.world.clock.sleep(int(seconds * SECOND))

    def isolate(self) -> None:
        """The receiver's network goes."""
        self.network.bar("x")
        self.world.broker.vanish("receiver")
        self.receiver.broken("gone")


def test_bandwidth_makes_bytes_wait_for_bytes() -> None:
    """Ten kilobytes at one per second, in ten messages: one each second."""
    ends = Ends(Quality(0.0, 0.0, 0, 0, bandwidth=1_000))

    async def scene() -> None:
        began = ends.world.loop.time()
        for _ in range(10):
            await ends.sender.publish("t", bytes(999))
        await ends.pause(20)
        assert [round(at_s - began) for at_s, _ in ends.heard] == list(range(1, 11))
        assert ends.network.down_bytes == 10_000

    ends.run(scene)


def test_a_fault_lies_on_top_of_the_network_and_goes_again() -> None:
    """Shares and delays add up, the smaller bandwidth counts; two faults at a time end one by one."""
    network = Network(Quality(0.1, bandwidth=500), World(1).rng)
    network.worsen("a", Quality(0.2, delay_min_ns=5, delay_max_ns=5, bandwidth=900))
    network.worsen("b", Quality(0.9, delay_min_ns=0, delay_max_ns=0, bandwidth=300))
    assert (network.quality.loss, network.quality.bandwidth) == (1.0, 300)
    network.recover("b")
    assert (round(network.quality.loss, 9), network.quality.bandwidth) == (0.3, 500)
    network.recover("a")
    assert network.quality == Quality(0.1, bandwidth=500)


def test_reordered_messages_all_arrive() -> None:
    """Some are overtaken by later ones, none is lost."""
    ends = Ends(Quality(0.0, 0.0, 0, 0, reordering=0.3))

    async def scene() -> None:
        sent = [bytes([number]) for number in range(30)]
        for payload in sent:
            await ends.sender.publish("t", payload)
            await ends.pause(0.05)
        await ends.pause(5)
        heard = [payload for _, payload in ends.heard]
        assert heard != sent
        assert sorted(heard) == sent

    ends.run(scene)


def test_behind_a_barrier_nothing_passes_and_nothing_is_forgotten() -> None:
    """The broker notices by the keep-alive; the session keeps what came, and hands it out on return."""
    ends = Ends(STILL)

    async def scene() -> None:
        ends.isolate()
        await ends.sender.publish("t", b"kept")
        with pytest.raises(LinkError):
            await ends.receiver.publish("t", b"cut off")
        await ends.pause(20)
        assert ends.world.broker.retained("gone") is None
        await ends.pause(20)
        assert ends.world.broker.retained("gone") == b"yes"
        assert ends.heard == []
        ends.network.admit("x")
        await ends.pause(30)
        assert [payload for _, payload in ends.heard] == [b"kept"]

    ends.run(scene)


def test_a_short_absence_is_not_taken_for_a_death_later() -> None:
    """Back before the keep-alive is over: the new connection stays."""
    ends = Ends(STILL)

    async def scene() -> None:
        ends.isolate()
        await ends.pause(5)
        ends.network.admit("x")
        await ends.pause(60)
        await ends.sender.publish("t", b"there")
        await ends.pause(1)
        assert [payload for _, payload in ends.heard] == [b"there"]
        assert ends.world.broker.holds(ends.receiver)

    ends.run(scene)


def test_a_slow_broker_hands_out_one_message_after_the_other() -> None:
    """Two per second, whoever they are for."""
    ends = Ends(STILL)

    async def scene() -> None:
        ends.world.broker.message_ns = SECOND // 2
        began = ends.world.loop.time()
        for _ in range(4):
            await ends.sender.publish("t", b"x")
        await ends.pause(5)
        assert [round(2 * (at_s - began)) for at_s, _ in ends.heard] == [1, 2, 3, 4]

    ends.run(scene)
