"""Attacks with assignments: by whoever has no director key, and by whoever has stolen one."""

import base64
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import msgspec

from bench.attack_cases.attack import Attack, Outcome
from bench.attack_cases.releases import altered, wanted
from bench.attack_cases.scene import DIRECTOR, NEW_DIRECTOR, STRANGER, TOPICS, Scene, staged
from bench.crash_states.releases import DEVICE, Shipped, ship
from bench.replacing import replaced
from edge_agent.core import reading
from edge_agent.core.pointer import Record
from edge_agent.core.trust import Heard, Listed
from edge_agent.errors import DamagedRecordError
from edge_agent.service import installation, trusting
from simulator.fakes.trust import InlineTrust
from wire.codec import encode
from wire.dsse import ASSIGNMENT_TYPE, Verify, keyid, seal
from wire.ports import SECOND
from wire.release import RuntimeNeeds
from wire.trust import target_path

GOOD, NEXT, EVIL = ship(1), ship(2), ship(9)
STOLEN = "director key stolen: unlisted model, other hash, other hardware, below floor"
FOREIGN = "arbitrary model, foreign key"
FAST_FORWARD = "fast-forward by stolen key"
SLOTS_AT_ONCE = 13
"""As many as fit into an assignment."""
YEAR_NS = 365 * 24 * 3600 * SECOND


class _Anyone(dict[str, Verify]):
    """Every key is trusted, and every signature holds."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> Verify:
        return lambda signature, message: True


def believing_anyone() -> AbstractContextManager[None]:
    """The director's signature is not checked."""

    def verifiers(self: InlineTrust, directors: object) -> Mapping[str, Verify]:
        return _Anyone()

    return replaced(InlineTrust, verifiers=verifiers)


async def _foreign_director(scene: Scene) -> Outcome:
    await scene.cloud.publish(GOOD)
    await scene.cloud.assign(GOOD, signer=STRANGER)
    await scene.settle(120)
    return scene.judged(GOOD)


async def _borrowed_key_id(scene: Scene) -> Outcome:
    """A stranger's signature under the director's name."""
    await scene.cloud.publish(GOOD)
    assignment = encode(scene.cloud.assignment(wanted(GOOD, "execution-1")))
    (sign,) = STRANGER.signers().values()
    envelope = seal(assignment, ASSIGNMENT_TYPE, {keyid(DIRECTOR.public): sign})
    await scene.cloud.send(TOPICS.dn(DEVICE, "desired"), envelope)
    await scene.settle(120)
    return scene.judged(GOOD)


async def _altered(scene: Scene) -> Outcome:
    """What the director signed, with another release in it."""
    await scene.install(GOOD)
    await scene.cloud.publish(NEXT)
    envelope = await scene.cloud.desire(scene.cloud.assignment(wanted(GOOD, "execution-2")))
    await scene.settle()
    document = msgspec.json.decode(envelope)
    other = encode(scene.cloud.assignment(wanted(NEXT, "execution-3")))
    document["payload"] = base64.b64encode(other).decode()
    await scene.cloud.send(TOPICS.dn(DEVICE, "desired"), msgspec.json.encode(document))
    await scene.wait(50)
    return scene.judged(NEXT)


async def _older_one_again(scene: Scene) -> Outcome:
    await scene.cloud.publish(GOOD)
    envelope = await scene.cloud.desire(scene.cloud.assignment(wanted(GOOD, "execution-1")))
    await scene.settle()
    await scene.install(NEXT)
    await scene.cloud.send(TOPICS.dn(DEVICE, "desired"), envelope)
    await scene.wait(120)
    return scene.judged(GOOD)


async def _older_one_after_restart(scene: Scene) -> Outcome:
    """The same, to a device that has just come back: what it knows, it knows from its disk."""
    await scene.cloud.publish(GOOD)
    envelope = await scene.cloud.desire(scene.cloud.assignment(wanted(GOOD, "execution-1")))
    await scene.settle()
    await scene.install(NEXT)
    scene.device.power_off()
    await scene.cloud.send(TOPICS.dn(DEVICE, "desired"), envelope)
    await scene.device.start()
    await scene.wait(120)
    return scene.judged(GOOD)


async def _of_another_device(scene: Scene) -> Outcome:
    await scene.cloud.publish(GOOD)
    await scene.cloud.desire(scene.cloud.assignment(wanted(GOOD, "execution-1"), device=OTHER_DEVICE))
    await scene.settle(120)
    return scene.judged(GOOD)


OTHER_DEVICE = "p02-right"


def _name_ignored() -> AbstractContextManager[None]:
    def read(envelope: bytes, director: Any, device: str, heard: Any, newest: Any) -> Any:
        return read_assignment(envelope, director, OTHER_DEVICE, heard, newest)

    read_assignment = reading.read_assignment
    return replaced(trusting, read_assignment=read)


async def _enormous(scene: Scene) -> Outcome:
    """Sixteen slots with very long names for everything: more than a device should have to read."""
    await scene.cloud.publish(GOOD)
    slots = (wanted(GOOD, "e" * 3_000, slot=f"slot-{number}") for number in range(16))
    await scene.cloud.desire(scene.cloud.assignment(*slots))
    await scene.wait(30)
    return Outcome(len(scene.device.record.slots) > 0, scene.device.says())


# Whoever has the director's key names what runs; that must be something that the publisher vouches for.


async def _unlisted(scene: Scene) -> Outcome:
    await scene.install(GOOD)
    await scene.cloud.retain(EVIL)
    await scene.cloud.assign(EVIL)
    await scene.settle()
    return scene.judged(EVIL)


def _vouching_for(shipped: Shipped) -> AbstractContextManager[None]:
    """The device takes the director's word for this one."""
    ref, release, asked = shipped.ref, shipped.release, trusting.Trusting.vouch

    async def vouch(self: trusting.Trusting, path: str, patience_s: float) -> Listed:
        if path != target_path(release.model, release.version):
            return await asked(self, path, patience_s)
        return Listed(path=path, bytes=ref.bytes, hashes={"sha256": ref.sha256}, counter=release.counter)

    return replaced(trusting.Trusting, vouch=vouch)


SWAPPED = altered(2, ship(9).files[ship(9).model.sha256], b"golden of the attacker")
"""Calls itself version 2, and is not what the publisher listed under that name."""


async def _other_hash(scene: Scene) -> Outcome:
    await scene.install(GOOD)
    await scene.cloud.publish(NEXT)
    await scene.cloud.retain(SWAPPED)
    await scene.cloud.assign(SWAPPED)
    await scene.settle()
    return scene.judged(SWAPPED)


DEMANDING = altered(
    3,
    ship(3).files[ship(3).model.sha256],
    b"golden",
    variants=(
        msgspec.structs.replace(
            ship(3).release.variants[0], needs=RuntimeNeeds(opset=99, operators=("FlashAttention",))
        ),
    ),
)


async def _other_hardware(scene: Scene) -> Outcome:
    await scene.install(GOOD)
    await scene.cloud.publish(DEMANDING)
    await scene.cloud.assign(DEMANDING)
    await scene.settle()
    return scene.judged(DEMANDING)


async def _below_floor(scene: Scene) -> Outcome:
    await scene.install(GOOD)
    await scene.cloud.publish(NEXT)
    await scene.cloud.assign(NEXT, min_counter=2)
    await scene.settle()
    await scene.cloud.assign(GOOD)
    await scene.settle()
    return scene.judged(GOOD)


def _no_floor() -> AbstractContextManager[None]:
    def agree(listed: Listed, desired: Any, floor: int) -> None:
        reading.agree(listed, msgspec.structs.replace(desired, min_counter=0), 0)

    return replaced(installation, agree=agree)


async def _above_floor(scene: Scene) -> Outcome:
    await scene.install(GOOD)
    await scene.install(NEXT)
    await scene.cloud.assign(GOOD)
    await scene.settle()
    seen = scene.cloud.reports[-1].slots[0].current
    told = seen is not None and seen.version == GOOD.release.version
    return Outcome(scene.device.runs(GOOD), "the hub sees it in the device's report" if told else "")


async def _slots_without_end(scene: Scene) -> Outcome:
    """New slot names in every assignment, until the device's own record is too long to be read."""
    await scene.install(GOOD)
    for number in range(30):
        slots = [
            wanted(EVIL, f"execution-{number}", slot=f"s{number}-{one}" + "x" * 50) for one in range(SLOTS_AT_ONCE)
        ]
        await scene.cloud.desire(scene.cloud.assignment(*slots))
        await scene.wait(0.2)
    try:
        await scene.reboot()
    except DamagedRecordError as error:
        return Outcome(True, str(error))
    return Outcome(not scene.device.runs(GOOD), f"the device starts with {len(scene.device.record.slots)} slots")


def _unbounded_slots() -> AbstractContextManager[None]:
    return replaced(Record, forgetting=lambda self, names: self, check_room=lambda self, names: None)


# A stolen director key is replaced by a new root. What it signed before must not lock the device out.


def _replace_director(scene: Scene) -> None:
    scene.cloud.repository.director_keys = (NEW_DIRECTOR.public_hex,)
    scene.cloud.repository.rotate()
    scene.cloud.director, scene.cloud.sequence = NEW_DIRECTOR, 100


async def _enormous_sequence(scene: Scene) -> Outcome:
    await scene.install(GOOD)
    await scene.cloud.desire(scene.cloud.assignment(wanted(GOOD, "execution-2"), sequence=2**62))
    await scene.settle()
    _replace_director(scene)
    await scene.cloud.publish(NEXT)
    await scene.cloud.assign(NEXT)
    await scene.settle()
    return Outcome(not scene.device.runs(NEXT), "recovered" if scene.device.runs(NEXT) else scene.device.says())


async def _far_future(scene: Scene) -> Outcome:
    await scene.install(GOOD)
    scene.cloud.tell = lambda ask: scene.cloud.truly(ask, now_ns=scene.clock.now_ns() + 70 * YEAR_NS)
    await scene.reboot()
    await scene.wait(30)
    scene.cloud.tell = scene.cloud.truly
    _replace_director(scene)
    await scene.cloud.publish(NEXT)
    await scene.cloud.assign(NEXT)
    await scene.settle()
    return Outcome(not scene.device.runs(NEXT), "recovered" if scene.device.runs(NEXT) else scene.device.says())


async def _dead_director(scene: Scene) -> Outcome:
    """The thief goes on signing after the root has replaced the key."""
    await scene.install(GOOD)
    _replace_director(scene)
    await scene.cloud.publish(NEXT)
    await scene.reboot()
    await scene.wait(30)
    scene.cloud.sequence = 10
    await scene.cloud.assign(NEXT, signer=DIRECTOR)
    await scene.settle(120)
    return scene.judged(NEXT)


def _one_count_for_all_keys() -> AbstractContextManager[None]:
    def heard_of(self: Record, key: str) -> Heard:
        every = (*self.heard.values(), Heard())
        return Heard(sequence=max(one.sequence for one in every), time_ns=max(one.time_ns for one in every))

    return replaced(Record, heard_of=heard_of)


def _nothing_heard() -> AbstractContextManager[None]:
    return replaced(Record, heard_of=lambda self, key: Heard())


ATTACKS = (
    Attack(
        "assignment by a foreign key", FOREIGN, "director signature", "no trusted key signed",
        staged(_foreign_director), believing_anyone,
    ),
    Attack(
        "assignment under a borrowed key id", FOREIGN, "director signature", "does not match",
        staged(_borrowed_key_id), believing_anyone,
    ),
    Attack(
        "signed assignment with another release in it", FOREIGN, "director signature", "does not match",
        staged(_altered), believing_anyone,
    ),
    Attack(
        "older assignment again", "rollback by replay", "sequence floor", "is older than",
        staged(_older_one_again), _nothing_heard,
    ),
    Attack(
        "older assignment after a restart", "rollback by replay", "sequence floor", "is older than",
        staged(_older_one_after_restart), _nothing_heard,
    ),
    Attack(
        "assignment of another device", "wrong device", "device name in the assignment", "meant for device",
        staged(_of_another_device), _name_ignored,
    ),
    Attack(
        "assignment of fifty kilobytes", "endless data, metadata and model", "length cap of assignments", "at most",
        staged(_enormous), lambda: replaced(reading, MAX_ASSIGNMENT_BYTES=1 << 20),
    ),
    Attack(
        "stolen director key: model that nobody published", STOLEN, "listed target", "does not list",
        staged(_unlisted), lambda: _vouching_for(EVIL),
    ),
    Attack(
        "stolen director key: another file under a listed name", STOLEN, "equal length and hash", "is another file",
        staged(_other_hash), lambda: replaced(Listed, vouches_for=lambda self, ref: True),
    ),
    Attack(
        "stolen director key: model for other hardware", STOLEN, "compatibility on the device", "needs opset",
        staged(_other_hardware), lambda: replaced(installation, unmet_need=lambda needs, have: ""),
    ),
    Attack(
        "stolen director key: release below the floor", STOLEN, "release floor", "below the floor",
        staged(_below_floor), _no_floor,
    ),
    Attack(
        "stolen director key: older listed release above the floor",
        "director key stolen: older listed model above floor", "report of what runs", "the hub sees it",
        staged(_above_floor), lambda: replaced(Record, heard_of=Record.heard_of), residual=True,
    ),
    Attack(
        "stolen director key: slot names without end", STOLEN, "bound on slots", "the device starts with",
        staged(_slots_without_end), _unbounded_slots,
    ),
    Attack(
        "enormous sequence by a stolen director key, then a new one", FAST_FORWARD, "sequence belongs to its key",
        "recovered", staged(_enormous_sequence), _one_count_for_all_keys,
    ),
    Attack(
        "far future by a stolen director key, then a new one", FAST_FORWARD, "time floor belongs to its key",
        "recovered", staged(_far_future), lambda: replaced(Record, time_floor_ns=_latest_of_all()),
    ),
    Attack(
        "assignment by a director key that was replaced", "all keys but root stolen", "root names the director",
        "no trusted key signed", staged(_dead_director), believing_anyone,
    ),
)  # fmt: skip


def _latest_of_all() -> property:
    return property(lambda self: max((one.time_ns for one in self.heard.values()), default=0))
