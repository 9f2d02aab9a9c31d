"""Attacks with trust metadata that was true once."""

from contextlib import AbstractContextManager
from functools import partial

from tuf.api.metadata import Metadata, Targets
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet

from bench.attack_cases.attack import Outcome
from bench.attack_cases.guards import case, forgetful, without_floors
from bench.attack_cases.scene import Scene, piece
from bench.crash_states.releases import ship
from bench.replacing import replaced, together
from edge_agent import judging
from edge_agent.service import trusting
from wire.trust import bin_of, target_path

GOOD, NEXT = ship(1), ship(2)
REPLAY, LOST = "rollback by replay", "rollback after local state lost (power cut)"


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


ATTACKS = (
    case("earlier set again", REPLAY, "verified versions are remembered", "must be >=", _replay, forgetful),
    *(
        case(f"earlier set again, held metadata {damage}", LOST, "version floors of our own", "is below",
             partial(_replay_after_loss, damage=damage), without_floors)
        for damage in ("absent", "empty", "torn")
    ),
    case("old bin under the new snapshot", "mix-and-match", "snapshot names version and length of each bin",
         "longer than", _old_bin, _any_version),
)  # fmt: skip
