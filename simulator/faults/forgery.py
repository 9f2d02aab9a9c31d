"""What a thief does who holds the first key of the director's and has the broker: orders that look like the hub's."""

import msgspec
from sqlalchemy import select

from cloud.tables import desired, versions
from simulator.faults.fault import EVERYBODY, Among, Count, Fault
from simulator.faults.scene import Effect, Scene
from simulator.hub import first_key
from wire.assignment import Assignment
from wire.codec import MAX_ASSIGNMENT_BYTES, MAX_RELEASE_BYTES, decode, encode
from wire.dsse import ASSIGNMENT_TYPE, seal
from wire.release import ObjectRef, Release

AHEAD = 1_000
"""By so much the forged sequence numbers are higher than the hub's."""


class ForgedDesired(Fault, frozen=True, kw_only=True):
    """Retained orders to run `version` (an older, genuine one), signed with the director's key of the beginning."""

    version: Count
    devices: Among = EVERYBODY


def _forge(scene: Scene, fault: ForgedDesired) -> None:
    hub, broker = scene.fleet.hub, scene.fleet.world.broker
    key = first_key(scene.fleet.world, "director")
    held = hub.look(lambda conn: dict(conn.execute(select(desired.c.device, desired.c.assignment)).all()))
    for device in scene.pick(fault.devices):
        if device.name not in held:
            continue
        genuine = decode(held[device.name], Assignment, limit=MAX_ASSIGNMENT_BYTES)
        forged = _turned_back(scene, genuine, fault.version)
        envelope = seal(encode(forged), ASSIGNMENT_TYPE, key.signers())
        broker.take("hub", hub.topics.dn(device.name, "desired"), envelope, retain=True)


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


EFFECTS: dict[type[Fault], Effect] = {ForgedDesired: _forge}
