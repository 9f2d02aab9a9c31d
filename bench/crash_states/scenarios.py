"""What devices go through: each scenario is a way to begin, one assignment, and where it has to end.

To add one, add it to `SCENARIOS`: everything else follows from the record of what the services did to the disk.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import msgspec

from bench.crash_states.cloud import CLAIM, TOPICS, Far, Faults
from bench.crash_states.life import Hazards
from bench.crash_states.promises import Ending, Rules
from bench.crash_states.releases import DEVICE, LARGE_BYTES, SLOT, Shipped, assign, revise, ship, wanted
from bench.crash_states.repository import publish
from edge_agent.service.durable import STATE
from edge_agent.service.objects import path_of
from wire.assignment import Delta
from wire.messages import Outcome
from wire.release import object_ref
from wire.transfer.chunks import frames

Files = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Stage:
    """Something the device is to get to, with all there is on the far side; recoveries find that there at once.

    With `cut_after` the power goes once a record of which the name ends so is durable, and what is not is lost.
    """

    far: Far
    rules: Rules
    hazards: Hazards = field(default_factory=Hazards)
    cut_after: str = ""
    outbox_bytes: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class Scenario:
    """The `last` stage is explored; those `before` bring the device there, and then `damage` is done to its files."""

    name: str
    last: Stage
    before: tuple[Stage, ...] = ()
    damage: Callable[[Files], Files] = dict


def _retained(desired: bytes, *stock: Shipped) -> Far:
    held = {TOPICS.dn(DEVICE, "desired"): desired}
    for shipped in stock:
        for sha256, data in shipped.files.items():
            held |= {TOPICS.blob(sha256, index): payload for index, payload in enumerate(frames(data))}
    return Far(held, VOUCHED)


def _to(shipped: Shipped, sequence: int, previous: int | None = None) -> Stage:
    """Get to this version."""
    ending = Ending(shipped.release.version, previous)
    return Stage(_retained(assign(sequence, wanted(shipped)), shipped), _rules({SLOT: ending}, shipped))


def _far(stage: Stage, **changes: Any) -> Stage:
    return replace(stage, far=replace(stage.far, **changes))


def _by_delta(shipped: Shipped, delta: bytes) -> Stage:
    """From version 1, and the whole model is not there to be had."""
    file = object_ref(delta)
    wish = msgspec.structs.replace(wanted(shipped), deltas=(Delta(base=ONE.model.sha256, file=file.brief()),))
    rest = {sha256: data for sha256, data in shipped.files.items() if sha256 != shipped.model.sha256}
    far = _retained(assign(2, wish), Shipped(shipped.release, {**rest, file.sha256: delta}))
    return Stage(far, _rules({SLOT: Ending(shipped.release.version, 1)}, shipped))


def _rules(endings: dict[str, Ending], *shipped: Shipped, **more: bool) -> Rules:
    versions = {one.release.version for one in shipped}
    return Rules(endings, trials=versions, companions=_companions(shipped), **more)


def _companions(shipped: tuple[Shipped, ...]) -> set[str]:
    return {one.release.companions.golden.sha256 for one in (*_ALL, *shipped)}


def _failing(name: str, shipped: Shipped, hazards: Hazards, outcome: Outcome) -> Scenario:
    """Version 1 is there, `shipped` does not make it."""
    rules = _rules({SLOT: Ending(1, outcomes=(outcome,))}, shipped)
    stage = Stage(_retained(assign(2, wanted(shipped)), shipped), rules, hazards)
    return Scenario(name, stage, (_to(ONE, 1),))


def _rot(path: str, files: Files) -> Files:
    """One byte of the file is another."""
    data = bytearray(files[path])
    data[len(data) // 2] ^= 1
    return {**files, path: bytes(data)}


ONE, TWO, THREE = ship(1), ship(2), ship(3)
LARGE = ship(4, LARGE_BYTES)
REVISED, DELTA = revise(6, ONE)
"""As `ONE`, but for a little of it."""
_ALL = (ONE, TWO, THREE, LARGE, REVISED)
VOUCHED = publish(one.release for one in _ALL)
RENEWED = publish((one.release for one in _ALL), renewed=True)
UNKNOWN = ship(5)
"""The publisher does not vouch for it."""
CERTIFIED = msgspec.structs.replace(CLAIM, credential="certificate")
_TWO = {TWO.model.sha256}
CUT = replace(_to(LARGE, 2, previous=1), cut_after=".have")
"""Some chunks of the large version are durable, and most are not."""

SCENARIOS = (
    Scenario("first install", _to(ONE, 1)),
    Scenario("update", _to(TWO, 2, previous=1), (_to(ONE, 1),)),
    Scenario("update that collects garbage", _to(THREE, 3, previous=2), (_to(ONE, 1), _to(TWO, 2, previous=1))),
    Scenario(
        "back to the version before",
        Stage(_retained(assign(3, wanted(ONE, attempt=2)), ONE), _rules({SLOT: Ending(1, 2)}, ONE)),
        (_to(ONE, 1), _to(TWO, 2, previous=1)),
    ),
    Scenario("large update", _to(LARGE, 2, previous=1), (_to(ONE, 1),)),
    Scenario("update by a delta", _by_delta(REVISED, DELTA), (_to(ONE, 1),)),
    Scenario("resume of a cut transfer", _to(LARGE, 2, previous=1), (_to(ONE, 1), CUT)),
    Scenario("another update instead of a cut one", _to(THREE, 3, previous=1), (_to(ONE, 1), CUT)),
    Scenario(
        "cut update that is wanted no longer",
        Stage(_retained(assign(3)), _rules({SLOT: Ending(1, outcomes=(Outcome.CANCELLED,))})),
        (_to(ONE, 1), CUT),
    ),
    _failing("bad canary", TWO, Hazards(unfit=_TWO), Outcome.REJECTED),
    _failing("failed health window", TWO, Hazards(sick=_TWO), Outcome.ROLLED_BACK),
    _failing("trial cannot be loaded", TWO, Hazards(unloadable=_TWO), Outcome.ROLLED_BACK),
    _failing("trial takes the device down", TWO, Hazards(deadly=_TWO), Outcome.ROLLED_BACK),
    _failing("release that nobody vouches for", UNKNOWN, Hazards(), Outcome.REJECTED),
    Scenario(
        "two slots",
        Stage(
            _retained(assign(2, wanted(TWO), wanted(THREE, slot="spare")), TWO, THREE),
            _rules({SLOT: Ending(2, 1), "spare": Ending(3)}, TWO, THREE),
        ),
        (_to(ONE, 1),),
    ),
    Scenario(
        "current model rotten",
        Stage(_retained(assign(1, wanted(ONE)), ONE), _rules({SLOT: Ending(1)}, ONE, rotten=True)),
        (_to(ONE, 1),),
        partial(_rot, path_of(ONE.model.sha256)),
    ),
    Scenario(
        "new root and new keys",
        replace(_far(_to(ONE, 1), repository=RENEWED), rules=replace(_to(ONE, 1).rules, root=2)),
        (_to(ONE, 1),),
    ),
    Scenario("first install with a certificate", _far(_to(ONE, 1), claim=CERTIFIED, faults=Faults(renews=False))),
    Scenario(
        "renewal of the certificate",
        replace(_far(_to(ONE, 1), claim=CERTIFIED), rules=replace(_to(ONE, 1).rules, renewed=True)),
        (_far(_to(ONE, 1), claim=CERTIFIED, faults=Faults(renews=False)),),
    ),
    Scenario("offline for minutes", _far(_to(ONE, 1), faults=Faults(100.0, loses=3)), (_to(ONE, 1),)),
    Scenario(
        "offline until the outbox is full",
        replace(_far(_to(ONE, 1), faults=Faults(150.0)), outbox_bytes=24_000),
        (_to(ONE, 1),),
    ),
    Scenario("record rotten", _to(TWO, 2, previous=1), (_to(ONE, 1),), partial(_rot, STATE)),
)
