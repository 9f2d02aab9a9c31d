"""What the device has to tell and the hub has not receipted: in memory for a moment, then on the disk, never unbounded.

A message that the hub receipts within SPOOL_NS never touches the disk, so a device with a good link wears no flash. All
others are appended to a segment file, one write and one fsync for all that gathered: a power cut or a kill loses at
most what was measured in the last SPOOL_NS. When the disk's share is used up, the oldest segment goes and its messages
count as dropped; while the disk refuses to be written, memory holds the newest messages and drops the oldest of those.
"""

import asyncio
import logging
from array import array
from dataclasses import dataclass, field, replace

from edge_agent.core.spool import Frame, dump, parse
from edge_agent.errors import DiskError, FileMissingError
from edge_agent.ports import Disk
from edge_agent.service.tasks import Tasks
from wire.ports import SECOND, Clock, Timer

log = logging.getLogger(__name__)

FOLDER = "outbox"
SPOOL_NS = 30 * SECOND
SEGMENTS = 16
"""Into so many files the disk's share is divided: one of them is what a full outbox drops at once."""
MAX_MEMORY_BYTES = 128 * 1024
"""Messages that are not on the disk; half of it makes them go there at once."""
DEFAULT_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class Segment:
    """One file: which messages are in it, and how long its good part is."""

    path: str
    size: int = 0
    seqs: "array[int]" = field(default_factory=lambda: array("Q"))

    @property
    def last(self) -> int:
        """Number of its newest message."""
        return self.seqs[-1]

    def after(self, seq: int) -> int:
        """How many of its messages are newer than `seq`."""
        return sum(one > seq for one in self.seqs)


class Outbox:
    """Messages in order of their number, kept until `receipted`, within `max_bytes` of the disk."""

    __slots__ = (
        "_appending",
        "_clock",
        "_disk",
        "_doomed",
        "_fresh",
        "_fresh_bytes",
        "_lock",
        "_max_bytes",
        "_page",
        "_segment_bytes",
        "_segments",
        "_tasks",
        "_timer",
        "done",
        "dropped",
    )

    def __init__(self, disk: Disk, clock: Clock, tasks: Tasks, max_bytes: int = DEFAULT_BYTES) -> None:
        self._disk = disk
        self._clock = clock
        self._tasks = tasks
        self._segment_bytes = max(1, max_bytes // SEGMENTS)
        self._max_bytes = max_bytes
        self._segments: list[Segment] = []
        self._appending = False
        self._doomed: list[str] = []
        self._fresh: list[Frame] = []  # both mostly empty, when a deque would take 600 bytes
        self._fresh_bytes = 0
        self._page: tuple[str, tuple[Frame, ...]] = ("", ())
        self._lock = asyncio.Lock()
        self._timer: Timer | None = None
        self.done = 0
        """Everything up to this number was receipted or dropped."""
        self.dropped = 0
        """Messages dropped since the device began to count."""

    @property
    def newest(self) -> int:
        """Number of the newest message; 0: there is none."""
        if self._fresh:
            return self._fresh[-1].seq
        return self._segments[-1].last if self._segments else 0

    async def open(self) -> None:
        """Find what earlier runs left. A disk that cannot be read starts an empty outbox: nobody waits for it."""
        try:
            for name in await self._disk.list(FOLDER):
                await self._find(f"{FOLDER}/{name}")
        except DiskError as error:
            log.error("the outbox cannot be read: %s", error)
        await self._tidy()

    def put(self, seq: int, payload: bytes) -> None:
        """Take a message; `seq` is above all before."""
        self._fresh.append(Frame(seq, payload))
        self._fresh_bytes += self._fresh[-1].size
        self._bound_memory()
        if self._timer is None:
            self._timer = self._clock.call_later(SPOOL_NS, self._spool_soon)
        if self._fresh_bytes > MAX_MEMORY_BYTES // 2 and not self._lock.locked():
            self._spool_soon()

    def receipted(self, seq: int) -> None:
        """The hub has everything up to `seq`."""
        self.done = max(self.done, seq)
        while self._fresh and self._fresh[0].seq <= seq:
            self._fresh_bytes -= self._fresh.pop(0).size
        if not self._fresh:
            self.stop()
        if len(self._segments) > 1 and self._segments[0].last <= seq:
            self._tasks.spawn(self._tidy_alone(), "outbox-tidy")

    def at_hand(self, after: int, most: int) -> list[Frame] | None:
        """As `next`, if no disk has to be waited for; None: one has."""
        after = max(after, self.done)
        if self._lock.locked() or (self._segments and self._segments[-1].last > after):
            return None
        return [frame for frame in self._fresh if frame.seq > after][:most]

    async def next(self, after: int, most: int) -> list[Frame]:
        """At most `most` messages above `after` that are not done, the oldest first."""
        async with self._lock:
            after = max(after, self.done)
            found: list[Frame] = []
            for segment in tuple(self._segments):
                if len(found) < most and segment.last > after:
                    found += [frame for frame in await self._frames(segment) if frame.seq > after]
            found += [frame for frame in self._fresh if frame.seq > after]
            return found[:most]

    async def spool(self) -> None:
        """Put what is in memory on the disk; if that is refused, it stays and is tried again later."""
        self.stop()
        async with self._lock:
            newest = self._fresh[-1].seq if self._fresh else 0  # what comes meanwhile has its own time
            try:
                while self._fresh and self._fresh[0].seq <= newest:
                    await self._append()
            except DiskError as error:
                log.warning("telemetry stays in memory for now: %s", error)
                if self._timer is None:
                    self._timer = self._clock.call_later(SPOOL_NS, self._spool_soon)

    def stop(self) -> None:
        """No timer any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _spool_soon(self) -> None:
        self.stop()
        self._tasks.spawn(self.spool(), "outbox-spool")

    def _bound_memory(self) -> None:
        while self._fresh_bytes > MAX_MEMORY_BYTES and len(self._fresh) > 1:
            oldest = self._fresh.pop(0)
            self._fresh_bytes -= oldest.size
            self.dropped += 1

    # Reading.

    async def _find(self, path: str) -> None:
        """A file of an earlier run. Nothing is appended to it: its end may be torn."""
        frames = await self._read(path)
        if frames:
            self.done, self.dropped = max(self.done, frames[-1].done), max(self.dropped, frames[-1].dropped)
        last = self._segments[-1].last if self._segments else 0
        seqs = array("Q", (frame.seq for frame in frames if frame.seq > last))
        if seqs:
            self._segments.append(Segment(path, sum(frame.size for frame in frames), seqs))
        else:
            self._doomed.append(path)

    async def _frames(self, segment: Segment) -> tuple[Frame, ...]:
        """The messages of a segment. What rotted away of it counts as dropped."""
        if self._page[0] != segment.path or len(self._page[1]) < len(segment.seqs):
            frames = tuple(one for one in await self._read(segment.path) if one.seq >= segment.seqs[0])
            lost = segment.seqs[len(frames) :]
            if lost:
                log.error("%s is damaged: %d messages are lost", segment.path, len(lost))
                self.dropped += sum(seq > self.done for seq in lost)
                del segment.seqs[len(frames) :]
                if not frames:
                    self._segments.remove(segment)
                    self._doomed.append(segment.path)
            self._page = (segment.path, frames)
        return self._page[1]

    async def _read(self, path: str) -> tuple[Frame, ...]:
        try:
            return parse(await self._disk.read(path))
        except DiskError as error:
            log.error("%s cannot be read: %s", path, error)
            return ()

    # Writing.

    async def _append(self) -> None:
        """Write as much of what is in memory as one segment takes, durably."""
        segment = self._segments[-1] if self._appending and self._segments else None
        if segment is None or segment.size + self._fresh[0].size > self._segment_bytes:
            segment = Segment(f"{FOLDER}/{self._fresh[0].seq:020d}")
            self._make_room()
        frames = self._take(self._segment_bytes - segment.size)
        try:
            await self._write(segment, b"".join(map(dump, frames)))
        except DiskError:
            self._fresh[:0] = frames
            self._fresh_bytes += sum(frame.size for frame in frames)
            self._bound_memory()
            raise
        if not segment.seqs:
            self._segments.append(segment)
            self._appending = True
        segment.size += sum(frame.size for frame in frames)
        segment.seqs.extend(frame.seq for frame in frames)
        await self._tidy()

    def _take(self, room: int) -> list[Frame]:
        """From memory, the messages that fit into `room`, but at least one."""
        frames: list[Frame] = []
        while self._fresh and (not frames or self._fresh[0].size <= room):
            frame = self._fresh.pop(0)
            self._fresh_bytes -= frame.size
            room -= frame.size
            frames.append(replace(frame, done=self.done, dropped=self.dropped))
        return frames

    async def _write(self, segment: Segment, data: bytes) -> None:
        """Append durably. What a failed attempt left at the end is written over by the next one."""
        new = not segment.size
        try:
            if new:
                await self._disk.create(segment.path, 0)
            await self._disk.pwrite(segment.path, segment.size, data)
            await self._disk.fsync(segment.path)
            if new:
                await self._disk.fsync_dir(FOLDER)
        except DiskError:
            if new:
                await self._remove(segment.path)
            raise

    def _make_room(self) -> None:
        """Drop the oldest segments until one more fits. They go once the new one, which says so, is durable."""
        room = self._max_bytes - 2 * self._segment_bytes  # the new one, and the oldest until it is gone
        while self._segments and sum(one.size for one in self._segments) > room:
            oldest = self._segments.pop(0)
            self.dropped += oldest.after(self.done)
            self.done = max(self.done, oldest.last)
            self._doomed.append(oldest.path)

    async def _tidy_alone(self) -> None:
        async with self._lock:
            await self._tidy()

    async def _tidy(self) -> None:
        """Remove what is done, but never the newest segment: the counters stand in it."""
        while len(self._segments) > 1 and self._segments[0].last <= self.done:
            self._doomed.append(self._segments.pop(0).path)
        doomed, self._doomed = self._doomed, []
        self._doomed = [path for path in doomed if not await self._remove(path)]

    async def _remove(self, path: str) -> bool:
        try:
            await self._disk.unlink(path)
        except FileMissingError:
            return True
        except DiskError as error:
            log.warning("%s stays for now: %s", path, error)
            return False
        return True
