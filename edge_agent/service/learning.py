"""What federated learning may use of this device: policy, captured samples, the committed release's graphs, a memory.

Global arrays are needed once and stay in memory; companions are kept as objects; answers are kept until the cloud no
longer needs them, so that a restart repeats an answer instead of training again. Graphs are loaded here only once the
installer child has learnt with them: one that takes its process down ends that child, and the cloud is told why this
device does not take part.
"""

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edge_agent.core.patience import Patience
from edge_agent.core.pointer import Record
from edge_agent.errors import AgentError, DiskError, FileMissingError
from edge_agent.ports import Ports, RehearsalRequest
from edge_agent.service.downloads import Downloads
from edge_agent.service.durable import read_if_there, write_atomic
from edge_agent.service.objects import Objects, path_of
from edge_agent.service.reconciler import Reconciler
from federated.device.ports import HostError, LearningFiles, Remembered, Samples, Trainer
from wire.assignment import FederatedPolicy
from wire.release import ObjectRef

FOLDER: Final = "federated"
MAX_REMEMBERED: Final = 16
REHEARSAL_S: Final = 60.0
REHEARSALS: Final = 2
"""Graphs that fail so often, for whatever reason, are not tried again before the agent is started anew."""
PATIENCE: Final = Patience(30.0, offline_counts=True)
_LENGTH: Final = struct.Struct("<Q")


@dataclass(slots=True)
class _Rehearsal:
    """What came of trying the graphs of one release. `reason` is empty when they did their work."""

    release: str
    tries: int
    reason: str


class LearningHost:
    """Implements `federated.device.ports.Host`."""

    __slots__ = ("_downloads", "_locate", "_objects", "_ports", "_reconciler", "_rehearsal", "now_ns")

    def __init__(
        self,
        ports: Ports,
        objects: Objects,
        downloads: Downloads,
        reconciler: Reconciler,
        locate: Callable[[str], str],
        now_ns: Callable[[], int],
    ) -> None:
        """`locate` turns a path in the data directory into one that a runtime can open; `now_ns` is the time as it was
        told, since the device's own clock may be wrong."""
        self.now_ns = now_ns
        self._ports = ports
        self._objects = objects
        self._downloads = downloads
        self._reconciler = reconciler
        self._locate = locate
        self._rehearsal: _Rehearsal | None = None

    def policy(self) -> FederatedPolicy:
        """The newest accepted assignment's policy; disabled before the first."""
        return self._record.federated

    async def fetch(self, ref: ObjectRef) -> bytes:
        """An object into memory. Raises HostError."""
        try:
            return await self._downloads.fetch_bytes(ref, PATIENCE)
        except AgentError as error:
            raise HostError(str(error)) from error

    async def learning(self, model: str, version: int) -> LearningFiles | None:
        """The graphs of the committed release, if it is this one and can learn; the child has tried them.

        Raises HostError: they cannot be had, or the child failed with them, and why.
        """
        try:
            return await self._learning(model, version)
        except AgentError as error:
            raise HostError(str(error)) from error

    def trainer(self, files: LearningFiles) -> Trainer:
        """What learns on this device."""
        return self._ports.make_trainer(files)

    async def samples(self, model: str) -> Samples:
        """Labelled windows of this model. Raises HostError."""
        try:
            x, y = await self._ports.captures.samples(model)
        except AgentError as error:
            raise HostError(str(error)) from error
        return Samples(x, y)

    async def remember(self, task: str, reply: bytes, arrays: bytes) -> None:
        """Keep an answer. Raises HostError."""
        try:
            await self._make_room()
            await write_atomic(self._ports.disk, _path(task), _LENGTH.pack(len(reply)) + reply + arrays)
        except DiskError as error:
            raise HostError(f"the answer cannot be kept: {error}") from error

    async def recall(self, task: str) -> Remembered | None:
        """An answer kept earlier. Raises HostError."""
        try:
            data = await read_if_there(self._ports.disk, _path(task))
        except DiskError as error:
            raise HostError(str(error)) from error
        if data is None or len(data) < _LENGTH.size:
            return None
        end = _LENGTH.size + _LENGTH.unpack_from(data)[0]
        return Remembered(data[_LENGTH.size : end], data[end:])

    async def forget(self, task: str, *, update_accepted: bool) -> None:
        """Count it if it was an update that the cloud took, which is remembered, and drop the answer."""
        if update_accepted:
            await self._reconciler.remember(lambda record: record.with_update_accepted(task))
        try:
            await self._ports.disk.unlink(_path(task))
        except FileMissingError:
            return
        except DiskError as error:
            raise HostError(str(error)) from error

    @property
    def _record(self) -> Record:
        return self._reconciler.record

    async def _learning(self, model: str, version: int) -> LearningFiles | None:
        for state in self._record.slots.values():
            current = state.current
            if current is None or (current.installed.model, current.installed.version) != (model, version):
                continue
            release = await self._objects.release(current)
            step, evaluation = release.companions.train_step, release.companions.eval
            if step is None or evaluation is None or release.learning is None:
                return None
            for ref in (step, evaluation):
                await self._downloads.fetch(ref, PATIENCE)
            paths = [path_of(ref.sha256) for ref in (step, evaluation)]
            shape, classes = release.input.shape, len(release.classes)
            request = RehearsalRequest(paths[0], paths[1], release.learning, shape, classes, REHEARSAL_S)
            await self._rehearse(current.release, request)
            return LearningFiles(self._locate(paths[0]), self._locate(paths[1]), release.learning)
        return None

    async def _rehearse(self, release: str, request: RehearsalRequest) -> None:
        """See that the child can learn with the graphs of this release (digest). Raises HostError."""
        seen = self._rehearsal
        if seen is None or seen.release != release:
            seen = self._rehearsal = _Rehearsal(release, 0, "they were not tried")
        if seen.reason and seen.tries < REHEARSALS:
            seen.tries += 1
            seen.reason = await self._ports.installer.rehearse(request)
        if seen.reason:
            raise HostError(f"rehearsal of the graphs: {seen.reason}")

    async def _make_room(self) -> None:
        """Answers that nobody asked back for are bounded in number; losing one only means to train again."""
        names = await self._ports.disk.list(FOLDER)
        for name in names[: max(0, len(names) - MAX_REMEMBERED + 1)]:
            await self._ports.disk.unlink(f"{FOLDER}/{name}")


def _path(task: str) -> str:
    return f"{FOLDER}/{hashlib.sha256(task.encode()).hexdigest()[:32]}"
