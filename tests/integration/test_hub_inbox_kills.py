"""kill -9 of the hub between its commit and its receipt, with a real broker, a real database and a real outbox."""

import asyncio
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from bench import mosquitto
from cloud.tables import telemetry_points
from edge_agent.adapters.posix_disk import PosixDisk, prepare
from edge_agent.service import delivery
from edge_agent.service.courier import Uplink
from edge_agent.service.delivery import Delivery
from edge_agent.service.outbox import Outbox
from edge_agent.service.tasks import Tasks
from simulator.fakes.offload import InlineOffload
from tests.scenes.hub_steps import telemetry
from tests.servers.certificate_broker import NEEDS_MOSQUITTO
from tests.worlds.hub_world import ROOT, World
from wire.adapters.mqtt_link import Credentials, MqttLink
from wire.adapters.system import SystemClock
from wire.codec import decode
from wire.identity import Broker
from wire.messages import Receipt
from wire.ports import MILLISECOND, Inbound

MESSAGES = 300
KILLS = 6
DEVICE = "p00"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A running broker."""
    with mosquitto.running(tmp_path) as one:
        yield one.broker


class CountingLink(MqttLink):
    """Counts what it sends."""

    sent = 0

    def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """As it does."""
        self.sent += self.connected
        super().send(topic, payload, retain=retain)


async def enrolled(directory: Path) -> None:
    """A database with one device."""
    async with World(directory) as world:
        await world.enrol(DEVICE)


async def keep_hub(directory: Path, port: int) -> int:
    """A hub that dies KILLS times, and then one that lives until this is cancelled; returns how often it died."""
    rng, kills = random.Random(1), 0
    while True:
        lives = rng.randint(1, 3) if kills < KILLS else 10**9
        command = [sys.executable, "-m", "tests.servers.mortal_hub", str(directory), str(port), str(lives)]
        child = await asyncio.create_subprocess_exec(*command)
        try:
            code = await child.wait()
        except asyncio.CancelledError:
            child.kill()
            await child.wait()
            return kills
        assert code == -signal.SIGKILL
        kills += 1


async def send_all(directory: Path, link: CountingLink) -> None:
    """Every message goes through the outbox; returns when the hub has receipted the last."""
    prepare(directory)
    crashes: list[BaseException] = []
    tasks, clock = Tasks(crashes.append), SystemClock()
    outbox = Outbox(PosixDisk(directory, InlineOffload()), clock, tasks)
    sender = Delivery(Uplink(DEVICE, ROOT, link, clock, tasks), outbox)
    done = asyncio.Event()

    def on_message(message: Inbound) -> None:
        sender.on_receipt(decode(message.payload, Receipt).seq)
        message.ack()
        if outbox.done >= MESSAGES:
            done.set()

    link.on_message, link.on_up = on_message, sender.on_up
    await link.subscribe(ROOT.dn(DEVICE, "receipt"))
    await link.start()
    for seq in range(1, MESSAGES + 1):
        outbox.put(seq, telemetry(seq, seq, seq))
    await done.wait()
    sender.stop()
    await link.stop()
    await tasks.stop()
    assert crashes == []


async def landed(directory: Path) -> list[int]:
    """The numbers of the points in the database."""
    async with World(directory) as world:
        query = select(telemetry_points.c.seq).order_by(telemetry_points.c.seq)
        return list(await world.store.read(lambda conn: conn.scalars(query).all()))


@NEEDS_MOSQUITTO
def test_a_hub_killed_between_commit_and_receipt_takes_every_message_once(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six kills: more was sent than there is, and what is there is there once."""
    monkeypatch.setattr(delivery, "FIRST_RETRY_NS", 300 * MILLISECOND)
    monkeypatch.setattr(delivery, "LAST_RETRY_NS", 600 * MILLISECOND)
    hub, agent = tmp_path / "hub", tmp_path / "agent"
    hub.mkdir()
    link = CountingLink(broker, Credentials(DEVICE, "x"))

    async def scenario() -> int:
        await enrolled(hub)
        keeper = asyncio.create_task(keep_hub(hub, broker.port))
        async with asyncio.timeout(120):
            await send_all(agent, link)
        keeper.cancel()
        kills = await keeper
        assert await landed(hub) == list(range(1, MESSAGES + 1))
        return kills

    assert asyncio.run(scenario()) == KILLS
    assert link.sent > MESSAGES + KILLS
