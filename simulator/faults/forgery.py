"""Orders that the hub did not give, or gave long ago: of a thief who holds the first key of the director's and has the
broker, or of a broker that was restored from a backup.
"""

import msgspec
from sqlalchemy import select

from cloud.service.director import assignment_in
from cloud.tables import desired, versions
from simulator.durations import Duration
from simulator.faults.fault import EVERYBODY, Among, Count, Fault
from simulator.faults.scene import Effect, Scene
from wire.assignment import Assignment
from wire.codec import MAX_RELEASE_BYTES, decode, encode
from wire.dsse import ASSIGNMENT_TYPE, seal
from wire.release import ObjectRef, Release

AHEAD = 1_000
"""By so much the forged sequence numbers are higher than the hub's."""


class ForgedDesired(Fault, frozen=True, kw_only=True):
    """Retained orders to run `version` (an older, genuine one), signed with the director's key of the beginning."""

    version: Count
    devices: Among = EVERYBODY


class StaleOrders(Fault, frozen=True, kw_only=True):
    """What the broker retains of orders to these devices takes, `age` later, the place of what it retains then."""

    age: Duration
    devices: Among = EVERYBODY


def _turn_back(scene: Scene, fault: StaleOrders) -> None:
    hub, broker = scene.fleet.hub, scene.fleet.world.broker
    topics = [hub.topics.dn(device.name, "desired") for device in scene.pick(fault.devices)]
    held = [(topic, order) for topic in topics if (order := broker.retained(topic)) is not None]

    def restore() -> None:
        for topic, order in held:
            if broker.running and broker.retained(topic) != order:
                scene.harm()
                broker.plant(topic, order)

    scene.later(fault.age, restore)


def _forge(scene: Scene, fault: ForgedDesired) -> None:
    hub, broker = scene.fleet.hub, scene.fleet.world.broker
    key = hub.first_keys["director"]
    held = hub.look(lambda conn: dict(conn.execute(select(desired.c.device, desired.c.envelope)).all()))
    for device in scene.pick(fault.devices):
        if device.name not in held:
            continue
        genuine = assignment_in(held[device.name])
        forged = _turned_back(scene, genuine, fault.version)
        envelope = seal(encode(forged), ASSIGNMENT_TYPE, key.signers())
        scene.harm()
        broker.plant(hub.topics.dn(device.name, "desired"), envelope)


def _turned_back(scene: Scene, genuine: Assignment, version: int) -> Assignment:
    slot = genuine.slots[0]
    here = (versions.c.model == slot.model) & (versions.c.version == version)
    row = scene.fleet.hub.look(lambda conn: conn.execute(select(versions).where(here)).one())
    variant = decode(row.release, Release, limit=MAX_RELEASE_BYTES).variants[0]
    execution = msgspec.structs.replace(slot.execution, id=f"forged {scene.key}", attempt=1)
    release = msgspec.convert(row.release_ref, ObjectRef)
    back = msgspec.structs.replace(
        slot, version=version, sha256=variant.file.sha256, release=release, deltas=(), execution=execution
    )
    return msgspec.structs.replace(genuine, sequence=genuine.sequence + AHEAD, slots=(back, *genuine.slots[1:]))


EFFECTS: dict[type[Fault], Effect] = {ForgedDesired: _forge, StaleOrders: _turn_back}
