"""Attacks with the chunks of a model that is on its way, or that lies on the disk."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from bench.attack_cases.attack import Attack, Outcome
from bench.attack_cases.scene import Scene, staged
from bench.crash_states.releases import Shipped, ship
from bench.replacing import replaced, together
from edge_agent.core.patience import Patience, Watch
from edge_agent.core.slot import State
from edge_agent.service import installation
from edge_agent.service.objects import FOLDER, Objects, path_of
from edge_agent.service.part_file import PartFile
from wire.assignment import Execution
from wire.messages import Outcome as Ended
from wire.messages import SlotReport
from wire.transfer.chunks import HEADER, MAGIC
from wire.transfer.receiver import Receiver

GOOD, OTHER = ship(1), ship(2)
SWAPPED, SLOW, DENIED = "model bytes swapped in transit or store", "slow retrieval", "deny install, partial bundle"
LAST = 2
"""Index of the model's last chunk."""

Change = Callable[[int, bytes], bytes | None]


def flipped(index: int, payload: bytes) -> bytes:
    """One byte of each chunk is another."""
    data = bytearray(payload)
    data[HEADER.size + (len(data) - HEADER.size) // 2] ^= 0x40
    return bytes(data)


def shortened(index: int, payload: bytes) -> bytes:
    """The last chunk lacks its end."""
    return payload[:-100] if index == LAST else payload


def lengthened(index: int, payload: bytes) -> bytes:
    """The last chunk goes on."""
    return payload + b"more" if index == LAST else payload


def of_another(index: int, payload: bytes) -> bytes:
    """Chunks of another model."""
    data = OTHER.files[OTHER.model.sha256]
    start, size = index * (len(payload) - HEADER.size), len(payload) - HEADER.size
    part = data[start : start + size] if index != LAST else data[-size:]
    return HEADER.pack(MAGIC, index, LAST + 1) + part


def without_the_last(index: int, payload: bytes) -> bytes | None:
    """Everything comes but the last chunk."""
    return None if index == LAST else payload


async def _tampered(scene: Scene, change: Change) -> Outcome:
    """Whoever may publish chunks changes those of the model."""
    scene.cloud.repository.publish(GOOD.document)
    await scene.cloud.retain(
        GOOD, lambda sha256, index, payload: change(index, payload) if sha256 == GOOD.model.sha256 else payload
    )
    await scene.cloud.assign(GOOD)
    await scene.settle(200)
    return Outcome(scene.device.runs(GOOD) and not await _whole(scene, GOOD), scene.device.says())


async def _whole(scene: Scene, shipped: Shipped) -> bool:
    return await scene.device.disk.digest(path_of(shipped.model.sha256)) == shipped.model.sha256


async def _swapped_on_disk(scene: Scene) -> Outcome:
    """After it was verified and committed, the file is changed where it lies; then the device starts again."""
    await scene.install(GOOD)
    scene.device.power_off()
    await scene.device.disk.pwrite(path_of(GOOD.model.sha256), 50_000, b"other weights")
    await scene.device.start()
    await scene.settle(60)
    serving = scene.device.state.current is not None
    return Outcome(serving and not await _whole(scene, GOOD), "fetched again" if serving else scene.device.says())


async def _stalled(scene: Scene) -> Outcome:
    scene.cloud.repository.publish(GOOD.document)
    await scene.cloud.retain(
        GOOD,
        lambda sha256, index, payload: without_the_last(index, payload) if sha256 == GOOD.model.sha256 else payload,
    )
    await scene.cloud.assign(GOOD)
    await scene.wait(150)
    return Outcome(scene.device.state.outcome is None, scene.device.says())


async def _dripping(scene: Scene) -> Outcome:
    """A step may take hours, and the chunks take them: each comes long after the one before."""
    scene.cloud.repository.publish(GOOD.document)
    await scene.cloud.retain(
        GOOD, lambda sha256, index, payload: payload if sha256 != GOOD.model.sha256 or index == 0 else None
    )
    slow = Execution(id="execution-1", step_timeout_s=1e5, total_timeout_s=1e6)
    await scene.cloud.assign(GOOD, execution=slow)
    await scene.wait(400)
    return Outcome(scene.device.state.outcome is None, scene.device.says())


async def _kept_from_installing(scene: Scene, change: Callable[[Scene], None]) -> Outcome:
    """A class of messages never arrives. Nothing on the device can help that; the hub must see it."""
    change(scene)
    await scene.cloud.assign(GOOD)
    await scene.settle(200)
    reports = [slot for report in scene.cloud.reports for slot in report.slots]
    seen = next((slot.outcome for slot in reversed(reports) if slot.outcome is not None), None)
    return Outcome(seen is not Ended.TIMED_OUT, f"the hub hears {seen}")


def _no_chunks(scene: Scene) -> None:
    scene.cloud.repository.publish(GOOD.document)


def _no_answers(scene: Scene) -> None:
    scene.cloud.repository.publish(GOOD.document)
    scene.cloud.serve = lambda ask: None


def _unverified() -> AbstractContextManager[None]:
    """Neither chunks nor the whole are compared with what was promised."""

    async def finish(self: PartFile) -> None:
        await self._disk.rename(self.path, path_of(self._ref.sha256))

    return together(
        replaced(Receiver, _check=lambda self, *arguments: ""), replaced(PartFile, finish=finish),
    )  # fmt: skip


def _believing_the_disk() -> AbstractContextManager[None]:
    async def holds(self: Objects, sha256: str) -> bool:
        return sha256 in await self._disk.list(FOLDER)

    return replaced(Objects, holds=holds)


def _patient() -> AbstractContextManager[None]:
    return together(replaced(installation, _patience=lambda desired: Patience(1e6)), _any_rate())


def _any_rate() -> AbstractContextManager[None]:
    return replaced(Watch, _too_slow=lambda self, received, counted_ns: "")


def _unreported() -> AbstractContextManager[None]:
    """A device that keeps its outcome to itself."""
    told = State.told

    def tell(self: State, name: str) -> SlotReport:
        return told(State(phase=self.phase, desired=self.desired), name)

    return replaced(State, told=tell)


DIGESTS = "digests of chunks and of the whole"
ATTACKS = (
    Attack("a byte of each chunk flipped", SWAPPED, DIGESTS, "does not match its digest",
           staged(lambda scene: _tampered(scene, flipped)), _unverified),
    Attack("last chunk shortened", SWAPPED, DIGESTS, "bytes, expected",
           staged(lambda scene: _tampered(scene, shortened)), _unverified),
    Attack("last chunk lengthened", SWAPPED, DIGESTS, "bytes, expected",
           staged(lambda scene: _tampered(scene, lengthened)), _unverified),
    Attack("chunks of another model", SWAPPED, DIGESTS, "does not match its digest",
           staged(lambda scene: _tampered(scene, of_another)), _unverified),
    Attack("committed file changed on the disk", SWAPPED, "files are hashed at every start", "fetched again",
           staged(_swapped_on_disk), _believing_the_disk),
    Attack("last chunk never comes", SLOW, "step deadline", "nothing new for", staged(_stalled), _patient),
    Attack("chunks drip", SLOW, "minimum rate", "only", staged(_dripping), _any_rate),
    Attack("chunks never arrive", DENIED, "the device reports its outcome", "the hub hears timed_out",
           staged(lambda scene: _kept_from_installing(scene, _no_chunks)), _unreported),
    Attack("answers never arrive", DENIED, "the device reports its outcome", "the hub hears timed_out",
           staged(lambda scene: _kept_from_installing(scene, _no_answers)), _unreported),
)  # fmt: skip
