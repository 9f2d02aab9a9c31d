"""Attacks with trust metadata by whoever holds keys that others do not: forged, stolen, and replaced since."""

from collections.abc import Callable
from typing import Any

import msgspec

from bench.attack_cases.assignments import believing_anyone
from bench.attack_cases.attack import Outcome
from bench.attack_cases.guards import case, forgetful, unsigned
from bench.attack_cases.scene import NEW_DIRECTOR, OTHER_STRANGER, STRANGER, Scene, key, piece
from bench.crash_states.releases import ship
from bench.replacing import replaced, together
from edge_agent.core.trust import RoleFloor
from simulator.fakes.tuf_repository import TufRepository
from wire.trust import bin_of, target_path

GOOD, NEXT, EVIL = ship(1), ship(2), ship(9)
FOREIGN = "arbitrary model, foreign key"
ONLINE, ONLINE_TARGETS = "snapshot + timestamp keys stolen", "model + snapshot + timestamp keys stolen"
SIGNED, HUB = "signature threshold of the role", "publisher's key is not on the hub"


async def _evil_repository(scene: Scene, forge: Callable[[TufRepository], None]) -> Outcome:
    """The attacker has the director's key, and serves a repository that lists its own model."""
    await scene.install(GOOD)
    forged = scene.cloud.repository.fork()
    forge(forged)
    scene.cloud.serve = lambda ask: piece(forged.files, ask)
    await scene.cloud.retain(EVIL)
    await scene.cloud.assign(EVIL)
    await scene.settle()
    return scene.judged(EVIL)


def _with_bins_of(signer: Any) -> Callable[[TufRepository], None]:
    def forge(repository: TufRepository) -> None:
        repository.targets_key = signer or repository.online_key
        repository.publish(EVIL.document)

    return forge


def _stranger_online(repository: TufRepository) -> None:
    repository.online_key = STRANGER
    repository.publish(EVIL.document)


def _without_signatures(repository: TufRepository) -> None:
    name = bin_of(target_path("watch", EVIL.release.version))
    repository.publish(EVIL.document)
    document = msgspec.json.decode(repository.files[f"{repository.versions[name]}.{name}.json"])
    repository.amend(name, msgspec.json.encode({**document, "signatures": []}))


def _own_targets(repository: TufRepository) -> None:
    repository.targets_key = repository.online_key
    repository.sign_targets()
    repository.publish(EVIL.document)


def _own_root(signers: int) -> Callable[[TufRepository], None]:
    """A next root with the attacker's keys, signed by that many of the three present root keys."""

    def forge(repository: TufRepository) -> None:
        held = repository.root_keys[:signers]
        repository.root_keys = [STRANGER, OTHER_STRANGER, key(9)]
        repository.targets_key = repository.online_key = STRANGER
        repository.rotate(held)
        repository.sign_targets()
        repository.publish(EVIL.document)

    return forge


async def _own_root_twice_by_one_key(scene: Scene) -> Outcome:
    """The one root key that was stolen signs under its own name and under another's."""
    forged = scene.cloud.repository.fork()
    names = [signature["keyid"] for signature in _signatures(forged.root)]
    _own_root(1)(forged)
    document = msgspec.json.decode(forged.root)
    (by_thief,) = [one for one in document["signatures"] if one["keyid"] in names]
    document["signatures"] += [{**by_thief, "keyid": name} for name in names if name != by_thief["keyid"]]
    forged.files["2.root.json"] = msgspec.json.encode(document)
    scene.cloud.serve = lambda ask: piece(forged.files, ask)
    await scene.cloud.retain(EVIL)
    await scene.cloud.assign(EVIL)
    await scene.settle()
    return scene.judged(EVIL)


def _signatures(data: bytes) -> list[dict[str, str]]:
    found: list[dict[str, str]] = msgspec.json.decode(data)["signatures"]
    return found


async def _own_publisher(scene: Scene) -> Outcome:
    """The publisher's and the online keys are stolen, the director's is not."""
    await scene.install(GOOD)
    scene.cloud.repository.publish(EVIL.document)
    await scene.cloud.retain(EVIL)
    await scene.cloud.assign(EVIL, signer=STRANGER)
    await scene.settle(200)
    return scene.judged(EVIL)


async def _enormous_version(scene: Scene) -> Outcome:
    """The stolen online key signs enormous versions; the root replaces it; versions begin at 1 again."""
    await scene.install(GOOD)
    forged = scene.cloud.repository.fork()
    forged.versions["timestamp"] = forged.versions["snapshot"] = 1 << 40
    forged.refresh()
    scene.cloud.serve = lambda ask: piece(forged.files, ask)
    await scene.reboot()
    await scene.wait(30)
    scene.cloud.serve = scene.cloud.honestly
    repository = scene.cloud.repository
    repository.online_key = key(11)
    repository.rotate()
    await scene.cloud.publish(NEXT)
    await scene.cloud.assign(NEXT)
    await scene.settle()
    return Outcome(not scene.device.runs(NEXT), "recovered" if scene.device.runs(NEXT) else scene.device.says())


async def _everything_stolen(scene: Scene) -> Outcome:
    """All keys but root's. A new root replaces them, and what the thief signs is worth nothing from then on."""
    await scene.install(GOOD)
    stolen = scene.cloud.repository.fork()
    repository = scene.cloud.repository
    repository.targets_key, repository.online_key = key(11), key(12)
    repository.director_keys = (NEW_DIRECTOR.public_hex,)
    repository.rotate()
    repository.sign_targets()
    repository.refresh()
    stolen.files["2.root.json"] = repository.root  # once a device has seen it, hiding it does not help
    thief = scene.cloud.director
    scene.cloud.director = NEW_DIRECTOR
    await scene.reboot()
    await scene.wait(90)
    stolen.publish(EVIL.document)
    scene.cloud.director = thief
    scene.cloud.serve = lambda ask: piece(stolen.files, ask)
    await scene.cloud.retain(EVIL)
    await scene.cloud.assign(EVIL)
    await scene.settle(200)
    return scene.judged(EVIL)


def _forged(forge: Callable[[TufRepository], None]) -> Any:
    return lambda scene: _evil_repository(scene, forge)


ATTACKS = (
    case("hub stolen: own model in a bin of a foreign key", FOREIGN, SIGNED, "was signed by 0/1",
         _forged(_with_bins_of(STRANGER)), unsigned),
    case("bin without a signature", FOREIGN, SIGNED, "was signed by 0/1", _forged(_without_signatures), unsigned),
    case("snapshot and timestamp by a foreign key", FOREIGN, SIGNED, "was signed by 0/1",
         _forged(_stranger_online), unsigned),
    case("bin by the online key", ONLINE, HUB, "was signed by 0/1", _forged(_with_bins_of(None)), unsigned),
    case("targets and bins by the online key", ONLINE, HUB, "was signed by 0/1", _forged(_own_targets), unsigned),
    case("root by one key of three", "all keys but root stolen", "root needs two of three", "was signed by 1/2",
         _forged(_own_root(1)), unsigned),
    case("root by one key under two names", "all keys but root stolen", "root needs two of three",
         "was signed by 1/2", _own_root_twice_by_one_key, unsigned),
    case("model, snapshot and timestamp keys stolen", ONLINE_TARGETS, "director's assignment",
         "no trusted key signed", _own_publisher, believing_anyone),
    case("enormous versions by a stolen online key, then a new one", "fast-forward by stolen key",
         "version floor belongs to its keys", "recovered", _enormous_version,
         lambda: replaced(RoleFloor, holds=lambda self, keys, threshold: True)),
    case("all keys but root stolen, then replaced", "all keys but root stolen", "new root by the root keys",
         "no trusted key signed", _everything_stolen, lambda: together(believing_anyone(), unsigned(), forgetful())),
)  # fmt: skip
