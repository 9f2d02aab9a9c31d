"""Attacks with trust metadata: by whoever answers in the cloud's place, with stolen keys and without."""

import itertools
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import msgspec
from tuf.api.metadata import Metadata, Root, Targets
from tuf.api.serialization.json import JSONDeserializer
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet

from bench.attack_cases.assignments import believing_anyone
from bench.attack_cases.attack import Attack, Outcome, replaced, together
from bench.attack_cases.scene import NEW_DIRECTOR, OTHER_STRANGER, STRANGER, Scene, key, piece, staged
from bench.crash_states.releases import ship
from bench.fuzzing.mutation import Mutator
from edge_agent import judging
from edge_agent.core.trust import Floors, Question, RoleFloor, Trusted
from edge_agent.service import trusting
from simulator.core.clock import EPOCH_NS
from simulator.fakes.tuf_repository import TufRepository
from wire.asks import AskMetadata, AskTime, MetadataPiece, Refused, TimeTold
from wire.ports import SECOND
from wire.trust import bin_of, target_path

GOOD, NEXT, EVIL = ship(1), ship(2), ship(9)
FOREIGN = "arbitrary model, foreign key"
REPLAY, LOST = "rollback by replay", "rollback after local state lost (power cut)"
FREEZE, CLOCK, ENDLESS, SLOW = "freeze", "wrong device clock", "endless data, metadata and model", "slow retrieval"
ONLINE, ONLINE_TARGETS = "snapshot + timestamp keys stolen", "model + snapshot + timestamp keys stolen"
ALARM = "the newest trust metadata expired"
DAY_S = 24 * 3600
SHORT_LIFE_S = 600


def unsigned() -> AbstractContextManager[None]:
    """Nobody counts signatures of metadata."""
    believe: Callable[..., None] = lambda self, role, payload, signatures: None  # noqa: E731
    return together(replaced(Root, verify_delegate=believe), replaced(Targets, verify_delegate=believe))


def timeless() -> AbstractContextManager[None]:
    """Nothing expires."""
    return _question_changed(lambda question: msgspec.structs.replace(question, now_ns=0))


def forgetful() -> AbstractContextManager[None]:
    """What was verified before is forgotten."""
    return _question_changed(lambda question: msgspec.structs.replace(question, files={}, floors=Floors()))


def without_floors() -> AbstractContextManager[None]:
    """Only what python-tuf holds in its cache is remembered."""
    return _question_changed(lambda question: msgspec.structs.replace(question, floors=Floors()))


def _question_changed(change: Callable[[Question], Question]) -> AbstractContextManager[None]:
    judge = judging.judge
    substitute = lambda question, fetch, folder: judge(change(question), fetch, folder)  # noqa: E731
    from simulator.fakes import trust

    return together(replaced(judging, judge=substitute), replaced(trust, judge=substitute))


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


# Replays: what was true once.


async def _withdrawn(scene: Scene) -> dict[str, bytes]:
    """Version 2 was published, seen by the device, and withdrawn; returns the files of before."""
    await scene.install(GOOD)
    repository = scene.cloud.repository
    await scene.cloud.publish(NEXT)
    await scene.reboot()
    await scene.wait(30)
    before = dict(repository.files)
    name = bin_of(target_path("watch", NEXT.release.version))
    del repository.bins[name][target_path("watch", NEXT.release.version)]
    repository.sign_bin(name)
    repository.refresh()
    await scene.reboot()
    await scene.wait(30)
    return before


async def _assigned_withdrawn(scene: Scene, files: dict[str, bytes]) -> Outcome:
    scene.cloud.serve = lambda ask: piece(files, ask)
    await scene.cloud.assign(NEXT)
    await scene.settle()
    return scene.judged(NEXT)


async def _replay(scene: Scene) -> Outcome:
    return await _assigned_withdrawn(scene, await _withdrawn(scene))


async def _replay_after_loss(scene: Scene, damage: str) -> Outcome:
    """The record of the held metadata is gone, empty or torn: what python-tuf remembers is nothing."""
    before = await _withdrawn(scene)
    scene.device.power_off()
    if damage == "absent":
        await scene.device.disk.unlink(trusting.METADATA)
    else:
        data = await scene.device.disk.read(trusting.METADATA)
        await scene.device.disk.create(trusting.METADATA, 0)
        await scene.device.disk.pwrite(trusting.METADATA, 0, b"" if damage == "empty" else data[: len(data) // 2])
    await scene.device.start()
    return await _assigned_withdrawn(scene, before)


async def _old_bin(scene: Scene) -> Outcome:
    """The newest snapshot, and under the name of the newest bin the one before."""
    before = await _withdrawn(scene)
    files, name = dict(scene.cloud.repository.files), bin_of(target_path("watch", NEXT.release.version))
    version = scene.cloud.repository.versions[name]
    files[f"{version}.{name}.json"] = before[f"{version - 1}.{name}.json"]
    scene.device.power_off()
    await scene.device.disk.unlink(trusting.METADATA)
    await scene.device.start()
    return await _assigned_withdrawn(scene, files)


def _any_version() -> AbstractContextManager[None]:
    def update(self: TrustedMetadataSet, data: bytes, role: str, delegator: str) -> Targets:
        signed = Metadata[Targets].from_bytes(data).signed
        self._add(role, signed, delegator)
        return signed

    def download(self: judging.RelayFetcher, url: str, max_length: int) -> bytes:
        return b"".join(self._fetch(url))

    return together(
        replaced(TrustedMetadataSet, update_delegated_targets=update),
        replaced(judging.RelayFetcher, download_bytes=download),
    )


# Freezes, and the clock.


async def _expired(scene: Scene) -> Outcome:
    """The set in which version 2 was still listed, long after its timestamp expired."""
    scene.cloud.repository.refresh(SHORT_LIFE_S)
    await scene.cloud.publish(GOOD)
    await scene.cloud.publish(NEXT)
    scene.cloud.repository.refresh(SHORT_LIFE_S)
    await scene.cloud.assign(GOOD)
    await scene.settle()
    await scene.wait(2 * SHORT_LIFE_S)
    await scene.cloud.assign(NEXT)
    await scene.settle()
    return scene.judged(NEXT)


async def _silence(scene: Scene) -> Outcome:
    """Nobody answers any more, for days: the attacker wants nobody to notice."""
    await scene.install(GOOD)
    scene.cloud.serve = lambda ask: None
    scene.cloud.tell = lambda ask: None
    await _days_later(scene, 3)
    return Outcome(ALARM not in scene.device.says(), scene.device.says())


async def _same_for_days(scene: Scene) -> Outcome:
    """The same set day after day: the attacker wants nobody to notice."""
    await scene.install(GOOD)
    await _days_later(scene, 3)
    return Outcome(ALARM not in scene.device.says(), scene.device.says())


async def _days_later(scene: Scene, days: int) -> None:
    scene.device.power_off()
    await scene.wait(days * DAY_S)
    await scene.device.start()
    await scene.wait(300)


async def _clock_at_1970(scene: Scene) -> Outcome:
    scene.device.skew_ns = -EPOCH_NS
    scene.cloud.tell = lambda ask: None
    return await _expired_for_a_device_that_is_wrong(scene)


async def _clock_set_back(scene: Scene) -> Outcome:
    """The device's clock goes back an hour while it is off, and nobody tells the time any more."""
    scene.device.skew_ns = -3600 * SECOND
    scene.cloud.tell = lambda ask: None
    return await _expired_for_a_device_that_is_wrong(scene)


async def _expired_for_a_device_that_is_wrong(scene: Scene) -> Outcome:
    await scene.cloud.publish(NEXT)
    scene.cloud.repository.refresh(SHORT_LIFE_S)
    scene.device.power_off()
    await scene.wait(2 * SHORT_LIFE_S)
    await scene.device.start()
    await scene.cloud.assign(NEXT)
    await scene.settle()
    return scene.judged(NEXT)


async def _clock_back_while_running(scene: Scene) -> Outcome:
    """The time was told once; then the wall clock is set back, and nobody tells the time any more."""
    await scene.install(GOOD)
    await scene.cloud.publish(NEXT)
    scene.cloud.repository.refresh(SHORT_LIFE_S)
    await scene.wait(2 * SHORT_LIFE_S)
    scene.cloud.tell = lambda ask: None
    clock = scene.device.clock
    clock.skew_ns = -2 * SHORT_LIFE_S * SECOND
    await scene.cloud.assign(NEXT)
    await scene.settle()
    return scene.judged(NEXT)


async def _clock_at_2099(scene: Scene) -> Outcome:
    """Everything looks expired to the device: the attacker wants it never to be updated again."""
    scene.device.power_off()
    scene.device.skew_ns = 72 * 365 * DAY_S * SECOND
    await scene.device.start()
    await scene.cloud.publish(GOOD)
    await scene.cloud.assign(GOOD)
    await scene.settle()
    return Outcome(not scene.device.runs(GOOD), "updated" if scene.device.runs(GOOD) else scene.device.says())


async def _time_by_a_stranger(scene: Scene) -> Outcome:
    return await _told_wrong(scene, lambda ask: scene.cloud.truly(ask, signer=STRANGER, now_ns=EPOCH_NS))


async def _time_told_before(scene: Scene) -> Outcome:
    """An old answer to an old question, again."""
    said: list[TimeTold] = []
    nonce = AskTime(nonce="0" * 32)
    said.append(scene.cloud.truly(nonce))
    return await _told_wrong(scene, lambda ask: said[0])


async def _told_wrong(scene: Scene, tell: Callable[[AskTime], TimeTold]) -> Outcome:
    await scene.cloud.publish(NEXT)
    scene.cloud.repository.refresh(SHORT_LIFE_S)
    scene.device.power_off()
    await scene.cloud.assign(NEXT)
    await scene.wait(2 * SHORT_LIFE_S)
    scene.cloud.tell = tell
    await scene.device.start()
    await scene.settle()
    return scene.judged(NEXT)


def _any_nonce() -> AbstractContextManager[None]:
    from edge_agent.core import reading
    from wire.asks import SignedTime
    from wire.dsse import TIME_TYPE

    def read_time(envelope: bytes, director: Any, device: str, nonce: str) -> tuple[int, str]:
        told, signer = reading._signed(envelope, SignedTime, TIME_TYPE, 1 << 16, director)
        return told.now_ns, signer

    return replaced(trusting, read_time=read_time)


def _raw_clock() -> AbstractContextManager[None]:
    return together(
        replaced(trusting, judging_time=lambda told_ns, clock_ns, floor_ns: clock_ns),
        replaced(trusting.Trusting, _floor_ns=lambda self: 0),
    )


# Endless data and slow answers.


async def _endless(scene: Scene) -> Outcome:
    """A timestamp without end."""
    most = 512 * 1024
    served = itertools.count()

    def serve(ask: AskMetadata) -> MetadataPiece:
        if ask.name != "timestamp.json" or ask.offset > most:
            return scene.cloud.honestly(ask)
        next(served)
        return MetadataPiece(found=True, total=1 << 40, offset=ask.offset, data=b" " * 24_000)

    scene.cloud.serve = serve
    await scene.cloud.publish(GOOD)
    await scene.cloud.assign(GOOD)
    await scene.settle(300)
    return Outcome(next(served) * 24_000 > most, scene.device.says())


async def _drip(scene: Scene) -> Outcome:
    """A byte at a time, each just before patience ends."""

    def serve(ask: AskMetadata) -> MetadataPiece | None:
        whole = scene.cloud.honestly(ask)
        if not whole.found:
            return whole
        return msgspec.structs.replace(whole, data=whole.data[:1])

    scene.cloud.serve, scene.cloud.delay_s = serve, 20.0
    return await _still_at_it(scene, 450)


async def _stall(scene: Scene) -> Outcome:
    """The answer never comes."""
    scene.cloud.serve = lambda ask: None
    return await _still_at_it(scene, 200)


async def _still_at_it(scene: Scene, seconds: float) -> Outcome:
    await scene.cloud.publish(GOOD)
    await scene.cloud.assign(GOOD)
    await scene.wait(seconds)
    return Outcome(scene.device.state.outcome is None, scene.device.says())


def _endless_patience() -> AbstractContextManager[None]:
    vouch = trusting.Trusting.vouch
    patient = partial(trusting.Deadlines, piece_s=1e6, total_s=1e6)
    return together(
        replaced(trusting.Trusting, vouch=lambda self, path, patience_s: vouch(self, path, 1e6)),
        replaced(trusting, Deadlines=patient),
    )


# Stolen keys that were replaced since.


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


# Bytes that are no metadata.


async def _hostile_bytes(scene: Scene) -> Outcome:
    """Every file damaged in many ways, while an installation asks for it."""
    await scene.install(GOOD)
    await scene.cloud.publish(NEXT)
    mutants = iter(Mutator([scene.cloud.repository.files["timestamp.json"], scene.cloud.repository.root], 1))

    def serve(ask: AskMetadata) -> MetadataPiece | Refused:
        data = b"[" * 30_000 if ask.name == "2.root.json" else next(mutants)[:4_000]
        return piece({ask.name: data}, ask)

    scene.cloud.serve = serve
    for _ in range(20):
        await scene.cloud.assign(NEXT)
        await scene.settle(100)
    return scene.judged(NEXT)


def _uncaught() -> AbstractContextManager[None]:
    from simulator.fakes import trust

    def parse(self: JSONDeserializer, raw_data: bytes) -> Metadata[Any]:
        return Metadata.from_dict(json.loads(raw_data))

    return together(replaced(trust, judge=judging._judge), replaced(JSONDeserializer, deserialize=parse))


def _case(
    name: str, row: str, guard: str, reason: str, script: Any, without: Callable[[], AbstractContextManager[object]]
) -> Attack:
    return Attack(name, row, guard, reason, staged(script), without)


def _forged(forge: Callable[[TufRepository], None]) -> Any:
    return lambda scene: _evil_repository(scene, forge)


SIGNED, HUB = "signature threshold of the role", "publisher's key is not on the hub"
ATTACKS = (
    _case("hub stolen: own model in a bin of a foreign key", FOREIGN, SIGNED, "was signed by 0/1",
          _forged(_with_bins_of(STRANGER)), unsigned),
    _case("bin without a signature", FOREIGN, SIGNED, "was signed by 0/1", _forged(_without_signatures), unsigned),
    _case("snapshot and timestamp by a foreign key", FOREIGN, SIGNED, "was signed by 0/1",
          _forged(_stranger_online), unsigned),
    _case("bin by the online key", ONLINE, HUB, "was signed by 0/1", _forged(_with_bins_of(None)), unsigned),
    _case("targets and bins by the online key", ONLINE, HUB, "was signed by 0/1", _forged(_own_targets), unsigned),
    _case("root by one key of three", "all keys but root stolen", "root needs two of three", "was signed by 1/2",
          _forged(_own_root(1)), unsigned),
    _case("root by one key under two names", "all keys but root stolen", "root needs two of three",
          "was signed by 1/2", _own_root_twice_by_one_key, unsigned),
    _case("model, snapshot and timestamp keys stolen", ONLINE_TARGETS, "director's assignment",
          "no trusted key signed", _own_publisher, believing_anyone),
    _case("earlier set again", REPLAY, "verified versions are remembered", "must be >=", _replay, forgetful),
    *(
        _case(f"earlier set again, held metadata {damage}", LOST, "version floors of our own", "is below",
              partial(_replay_after_loss, damage=damage), without_floors)
        for damage in ("absent", "empty", "torn")
    ),
    _case("old bin under the new snapshot", "mix-and-match", "snapshot names version and length of each bin",
          "longer than", _old_bin, _any_version),
    _case("expired set", FREEZE, "expiry", "expired", _expired, timeless),
    _case("nothing is answered for days", FREEZE, "alarm on stale metadata", ALARM,
          _silence, lambda: replaced(Trusted, stale_s=lambda self, now_ns: 0.0)),
    _case("the same set for days", FREEZE, "alarm on stale metadata", ALARM,
          _same_for_days, lambda: replaced(Trusted, stale_s=lambda self, now_ns: 0.0)),
    _case("clock at 1970", CLOCK, "time floor", "behind what was signed before", _clock_at_1970, _raw_clock),
    _case("clock set back while it was off", CLOCK, "time floor", "behind what was signed before",
          _clock_set_back, _raw_clock),
    _case("clock set back while it runs", CLOCK, "told time runs on the monotonic clock", "expired",
          _clock_back_while_running, _raw_clock),
    _case("clock at 2099", CLOCK, "director tells the time", "updated", _clock_at_2099, _raw_clock),
    _case("time told by a stranger", CLOCK, "director's signature on the time", "expired",
          _time_by_a_stranger, believing_anyone),
    _case("time told before", CLOCK, "nonce in the time", "expired", _time_told_before, _any_nonce),
    _case("timestamp without end", ENDLESS, "length cap of metadata", "longer than",
          _endless, lambda: replaced(judging, MAX_TIMESTAMP_BYTES=1 << 40)),
    _case("metadata drips", SLOW, "deadline of a judgement", "did not arrive within", _drip, _endless_patience),
    _case("metadata stalls", SLOW, "deadline of an answer", "did not answer within", _stall, _endless_patience),
    _case("enormous versions by a stolen online key, then a new one", "fast-forward by stolen key",
          "version floor belongs to its keys", "recovered", _enormous_version,
          lambda: replaced(RoleFloor, holds=lambda self, keys, threshold: True)),
    _case("all keys but root stolen, then replaced", "all keys but root stolen", "new root by the root keys",
          "no trusted key signed", _everything_stolen, lambda: together(believing_anyone(), unsigned(), forgetful())),
    _case("hostile bytes for metadata", "hostile metadata bytes", "a judgement is the only outcome", "",
          _hostile_bytes, _uncaught),
)  # fmt: skip
