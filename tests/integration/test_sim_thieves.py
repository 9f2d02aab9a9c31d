"""What a thief gets through with a device's password, with a whole device, and with the director's key."""

import msgspec
from sqlalchemy import select

from cloud.core.rollout import Plan, Wave
from cloud.service.director import assignment_in
from cloud.service.rollouts import NewRollout
from cloud.tables import desired, devices
from simulator.core.network import Network, Quality
from simulator.device import Device
from simulator.fakes.link import MemoryLink
from simulator.fleet import Fleet, Size
from simulator.fuzz.play import MODEL, SLOT
from simulator.hub import first_key
from simulator.version import random_files
from simulator.world import World
from wire.adapters.mqtt_link import Credentials
from wire.codec import encode
from wire.dsse import ASSIGNMENT_TYPE, seal
from wire.messages import Outcome
from wire.ports import SECOND, Inbound


async def running(fleet: Fleet, *, version: bool = False) -> None:
    """Two devices have enrolled, and run version 1 if they are to."""
    await fleet.start(Size(2, Quality(), boot_within_ns=SECOND))
    await fleet.world.clock.sleep(10 * SECOND)
    if version:
        await fleet.hub.publish_version(MODEL, random_files(fleet.world.rng.child("files"), 5_000))
        plan = Plan(waves=(Wave(percent=100),))
        await fleet.hub.roll_out(NewRollout("r1", MODEL, 1, SLOT, {}, None, plan))
        await fleet.world.clock.sleep(30 * SECOND)


def test_a_stolen_password_reaches_no_other_device() -> None:
    """Neither what is told to another one, nor its voice; and not under another name."""
    fleet, heard = Fleet(World(1)), list[Inbound]()

    async def scene() -> None:
        await running(fleet)
        world, topics = fleet.world, fleet.hub.topics
        victim = fleet.devices[0].link
        assert victim is not None
        named = MemoryLink(world.broker, world.clock, Credentials("d00000", victim.credentials.password, "thief"))
        await named.start()
        thief = MemoryLink(world.broker, world.clock, victim.credentials)
        thief.on_message = heard.append
        await thief.subscribe(f"{topics.root}/dn/d00001/#", f"{topics.root}/up/#")
        await thief.start()
        await world.clock.sleep(SECOND // 20)  # it is connected, and its victim not back yet
        thief.send(topics.up("d00001", "status"), b"{}")
        await world.clock.sleep(SECOND)
        assert not named.connected

    fleet.world.loop.run(scene())
    assert all(one.topic.startswith(f"{fleet.hub.topics.root}/dn/d00000/") for one in heard)
    assert len(fleet.world.broker.refused) >= 3


def test_one_identity_on_two_devices_raises_the_alarm() -> None:
    """A disk that was copied: both speak, in turns."""
    fleet = Fleet(World(2))

    async def scene() -> None:
        await running(fleet)
        world, real = fleet.world, fleet.devices[0]
        copy = Device(world, real.claim, Network(Quality(), world.rng.child("copy")), world.rng.child("copied"))
        copy.disk.hold({path: real.disk.peek(path) or b"" for path in real.disk.paths})
        copy.boot()
        await world.clock.sleep(60 * SECOND)

    fleet.world.loop.run(scene())
    rows = fleet.hub.look(lambda conn: conn.execute(select(devices.c.name, devices.c.clone_suspected_ns)).all())
    assert {row.name for row in rows if row.clone_suspected_ns is not None} == {"d00000"}


def test_a_stolen_director_key_installs_nothing_that_the_publisher_has_not_signed() -> None:
    """The order is accepted and the release refused; the hub sees the sequence and takes its device back."""
    fleet = Fleet(World(3))

    async def scene() -> None:
        await running(fleet, version=True)
        device, hub = fleet.devices[0], fleet.hub
        query = select(desired.c.envelope).where(desired.c.device == device.name)
        genuine = assignment_in(hub.look(lambda conn: conn.execute(query).scalar_one()))
        slot = genuine.slots[0]
        execution = msgspec.structs.replace(slot.execution, id="forged")
        unlisted = msgspec.structs.replace(slot, version=99, sha256="a" * 64, execution=execution)
        forged = msgspec.structs.replace(genuine, sequence=genuine.sequence + 5, slots=(unlisted,))
        envelope = seal(encode(forged), ASSIGNMENT_TYPE, first_key(fleet.world, "director").signers())
        fleet.world.broker.take("hub", hub.topics.dn(device.name, "desired"), envelope, retain=True)
        await fleet.world.clock.sleep(3 * SECOND)
        refused = [one for one in device.record().slot(SLOT).finished if one.execution == "forged"]
        state = device.record().slot(SLOT)
        assert Outcome.REJECTED in {state.outcome, *(one.outcome for one in refused)}
        await fleet.world.clock.sleep(60 * SECOND)
        state = device.record().slot(SLOT)
        assert (state.outcome, state.desired, device.record().sequence) == (
            Outcome.SUCCEEDED,
            slot,
            forged.sequence + 1,
        )
        assert state.current is not None
        assert state.current.installed.version == 1

    fleet.world.loop.run(scene())
