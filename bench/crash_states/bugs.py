"""Ways to get it wrong, each of which the exploration has to find: what is never seen to fail proves nothing.

A bug is a disk that leaves something out or does it in another order, or a small function of the agent that is replaced
while a scenario is explored. Nothing in the agent knows of them.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import msgspec

import edge_agent.service.objects as objects_module
from bench.crash_states.recording import RecordingDisk
from bench.replacing import replaced, together
from edge_agent.core import resume, update
from edge_agent.core.decision import Decision, Moved, changed
from edge_agent.core.identity import Identity
from edge_agent.core.pointer import Record, dump
from edge_agent.core.slot import Booted, State
from edge_agent.core.spool import Frame
from edge_agent.ports import Disk
from edge_agent.service import durable, identity, outbox, reconciler
from edge_agent.service.delivery import Delivery
from edge_agent.service.durable import STATE, Journal
from edge_agent.service.identity import CANDIDATE
from edge_agent.service.part_file import PartFile
from wire.codec import encode
from wire.messages import Phase

_SEND = Delivery._send_window
_COLLECT = objects_module.Objects.collect


class NoFileSync(RecordingDisk):
    """Contents are never made durable."""

    async def fsync(self, path: str) -> None:
        """Leave it out."""


class NoFolderSync(RecordingDisk):
    """Names are never made durable."""

    async def fsync_dir(self, path: str) -> None:
        """Leave it out."""


class NoSync(NoFileSync, NoFolderSync):
    """Nothing is."""


class UnlinkFirst(RecordingDisk):
    """What a rename would replace is removed before."""

    async def rename(self, source: str, target: str) -> None:
        """Remove, then rename."""
        if self.peek(target) is not None:
            await self.unlink(target)
        await super().rename(source, target)


class RecordsInPlace(RecordingDisk):
    """Records are overwritten, not replaced."""

    async def create(self, path: str, size: int) -> None:
        """The record itself."""
        await super().create(path.removesuffix(".tmp"), size)

    async def pwrite(self, path: str, offset: int, data: bytes) -> None:
        """Into the record."""
        await super().pwrite(path.removesuffix(".tmp"), offset, data)

    async def fsync(self, path: str) -> None:
        """The record itself."""
        await super().fsync(path.removesuffix(".tmp"))

    async def rename(self, source: str, target: str) -> None:
        """It has its name."""
        if not source.endswith(".tmp"):
            await super().rename(source, target)


class NoObjectSync(RecordingDisk):
    """The contents of objects are never made durable."""

    async def fsync(self, path: str) -> None:
        """Leave theirs out."""
        if not path.startswith(objects_module.FOLDER):
            await super().fsync(path)


class PointerBeforeObject(RecordingDisk):
    """Objects get their names for good only after the record that points to them."""

    late = 0

    async def fsync_dir(self, path: str) -> None:
        """That of the objects waits for both copies of "verifying" and one of "trial"."""
        if path == objects_module.FOLDER:
            self.late = 3
            return
        await super().fsync_dir(path)
        self.late -= path == ""
        if self.late == 0:
            await super().fsync_dir(objects_module.FOLDER)


class HaveBeforeData(RecordingDisk):
    """The record of the chunks that are held is written before they are."""

    late = ""

    async def fsync(self, path: str) -> None:
        """That of a part waits for that of its record."""
        if path.endswith(".part") and self._last[0] == "pwrite":
            self.late = path
            return
        await super().fsync(path)

    async def fsync_dir(self, path: str) -> None:
        """Now the data."""
        await super().fsync_dir(path)
        await self._catch_up()

    async def rename(self, source: str, target: str) -> None:
        """A part that is complete needs no record."""
        if source == self.late:
            await self._catch_up()
        await super().rename(source, target)

    async def _catch_up(self) -> None:
        late, self.late = self.late, ""
        if late:
            await super().fsync(late)


class SaveLate(Journal):
    """Writes a record down when the next one comes."""

    waiting: bytes | None = None

    async def save(self, record: Record) -> None:
        """Save the one before."""
        self.waiting, before = dump(record), self.waiting
        if before is not None:
            await durable.write_atomic(self._disk, STATE, before)


async def _unsaved(disk: Disk, candidate: Identity) -> None:
    """The hub hears of a secret before the disk does."""
    if candidate.enrolled:
        await durable.write_atomic(disk, CANDIDATE, encode(candidate))


async def _unseen(self: PartFile) -> None:
    await self._disk.fsync(self.path)
    await self._disk.rename(self.path, objects_module.path_of(self._ref.sha256))
    await self._disk.fsync_dir(objects_module.FOLDER)


async def _by_name(self: objects_module.Objects, sha256: str) -> bool:
    return sha256 in await self._disk.list(objects_module.FOLDER)


async def _takes_previous(self: objects_module.Objects, record: Record) -> int:
    slots = {name: msgspec.structs.replace(state, previous=None) for name, state in record.slots.items()}
    return await _COLLECT(self, record.with_slots(slots))


def _uncounted(state: State, event: Any) -> Decision:
    decision = resume.booted_in_trial(state, event)
    if isinstance(decision, Moved) and decision.state.phase is Phase.TRIAL:
        return Moved(changed(decision.state, tries=state.tries), decision.effects)
    return decision


class NoOutboxSync(RecordingDisk):
    """Telemetry is written, but not made durable."""

    async def fsync(self, path: str) -> None:
        """Leave it out there."""
        if not path.startswith(outbox.FOLDER):
            await super().fsync(path)


def _hasty(self: Delivery, frames: list[Frame]) -> None:
    _SEND(self, frames)
    if self._outstanding:
        self._outbox.receipted(self._outstanding[-1])


async def _forgetful(self: outbox.Outbox) -> None:
    for name in await self._disk.list(outbox.FOLDER):
        await self._disk.unlink(f"{outbox.FOLDER}/{name}")


@dataclass(frozen=True)
class Bug:
    """What is wrong, and the scenario that shows it. `replaced`: (owner, name of its attribute, what is there now)."""

    name: str
    scenario: str
    disk: type[RecordingDisk] = RecordingDisk
    replaced: tuple[tuple[Any, str, object], ...] = ()

    def seeded(self) -> AbstractContextManager[None]:
        """The agent with the bug, until the context is left."""
        return together(*(replaced(owner, **{name: by}) for owner, name, by in self.replaced))


OFFLINE = "offline for minutes"
BUGS = (
    Bug("contents not synced", "update", NoFileSync),
    Bug("names not synced", "update", NoFolderSync),
    Bug("nothing synced", "update", NoSync),
    Bug("removed before replaced", "first install", UnlinkFirst),
    Bug("records written in place", "first install", RecordsInPlace),
    Bug("object taken for whole by its name", "update", NoObjectSync, ((objects_module.Objects, "holds", _by_name),)),
    Bug("record before the object it points to", "update", PointerBeforeObject),
    Bug(
        "have-record before its chunks, and nobody looks at the whole",
        "large update",
        HaveBeforeData,
        ((PartFile, "finish", _unseen),),
    ),
    Bug("record saved one step late", "update", replaced=((reconciler, "Journal", SaveLate),)),
    Bug("starts are not counted", "update", replaced=((Record, "next_boot", lambda record: record),)),
    Bug(
        "starts with a trial are not counted",
        "trial takes the device down",
        replaced=((update, "TABLE", {**update.TABLE, (Phase.TRIAL, Booted): _uncounted}),),
    ),
    Bug(
        "garbage collection takes the previous model",
        "update",
        replaced=((objects_module.Objects, "collect", _takes_previous),),
    ),
    Bug("telemetry is not synced", OFFLINE, NoOutboxSync),
    Bug("telemetry trimmed when it is sent", OFFLINE, replaced=((Delivery, "_send_window", _hasty),)),
    Bug("telemetry of the last start forgotten", OFFLINE, replaced=((outbox.Outbox, "open", _forgetful),)),
    Bug("identity used before it is durable", "first install", replaced=((identity, "save_candidate", _unsaved),)),
)
