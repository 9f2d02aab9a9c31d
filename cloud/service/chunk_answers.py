"""Chunks for the devices that ask for them: what the broker does not retain comes to each device by itself.

A device may ask for what its assignment or federated run names, and for nothing else. Devices take turns, each at its
own rate, so that one that asks for everything at once waits for itself. A newer question replaces the one before.
"""

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass

from cloud.ports import ObjectMissingError, Objects, Store
from cloud.service.needs import objects_of
from wire.asks import AskChunks, Refused
from wire.ports import Clock, Link, LinkError
from wire.topics import Topics
from wire.transfer.chunks import CHUNK_BYTES, count, wrap
from wire.transfer.pace import Bucket

log = logging.getLogger(__name__)

DEVICE_RATE = 2 * 1024 * 1024
"""Bytes per second that one device may cost."""
MAX_WAITING = 1_000
MAX_BUCKETS = 10_000
AT_ONCE = 8


@dataclass(slots=True)
class _Wanted:
    sha256: str
    total: int
    indices: list[int]


def _wanted(question: AskChunks, total: int) -> _Wanted:
    return _Wanted(question.sha256, total, [index for index in dict.fromkeys(question.indices) if index < total])


class ChunkAnswers:
    """Answers `AskChunks`, in turns."""

    def __init__(self, store: Store, objects: Objects, link: Link, clock: Clock, topics: Topics) -> None:
        self._store = store
        self._objects = objects
        self._link = link
        self._clock = clock
        self._topics = topics
        self._waiting: dict[str, _Wanted] = {}
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self._woken = asyncio.Event()

    async def answer(self, device: str, question: AskChunks) -> Refused | None:
        """Take the question; the chunks are the answer."""
        lengths = await self._store.read(lambda conn: objects_of(conn, device))
        length = lengths.get(question.sha256)
        if length is None:
            return Refused(reason=f"object {question.sha256[:12]} is nothing that this device was told to fetch")
        if device in self._waiting or len(self._waiting) < MAX_WAITING:
            self._waiting[device] = _wanted(question, count(length))
            self._woken.set()
        return None

    async def run(self) -> None:
        """Answer for ever."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._waiting:
                pauses_ns = [await self._turn(device) for device in tuple(self._waiting)]
                await self._clock.sleep(min(pauses_ns, default=0))

    async def _turn(self, device: str) -> int:
        """Send a device what it may have now; returns for how long it has to wait for more (ns)."""
        wanted = self._waiting[device]
        pause_ns, now = self._ration(device, wanted)
        try:
            await self._send(device, wanted, now)
        except (LinkError, ObjectMissingError) as error:
            log.info("chunks for %s were not sent, it will ask again: %s", device, error)
            wanted.indices.clear()
        if not wanted.indices and self._waiting.get(device) is wanted:
            del self._waiting[device]
        return pause_ns if wanted.indices else 0

    def _ration(self, device: str, wanted: _Wanted) -> tuple[int, list[int]]:
        bucket = self._buckets.pop(device, None) or Bucket(self._clock.monotonic_ns())
        self._buckets[device] = bucket
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        now: list[int] = []
        pause_ns = 0
        while wanted.indices and len(now) < AT_ONCE and not pause_ns:
            pause_ns = bucket.wait_ns(DEVICE_RATE, self._clock.monotonic_ns())
            if not pause_ns:
                bucket.spend()
                now.append(wanted.indices.pop(0))
        return pause_ns, now

    async def _send(self, device: str, wanted: _Wanted, indices: list[int]) -> None:
        async def send(index: int) -> None:
            part = await self._objects.piece(wanted.sha256, index * CHUNK_BYTES, CHUNK_BYTES)
            topic = self._topics.dn_chunk(device, wanted.sha256, index)
            await self._link.publish(topic, wrap(part, index, wanted.total))

        await asyncio.gather(*map(send, indices))
