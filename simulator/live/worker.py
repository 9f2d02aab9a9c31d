"""One process full of devices: `python -m simulator.live.worker`. Orders come line by line, snapshots go out likewise.

The first line is an `Order`; then a `Command` at a time. The end of the input means goodbye: every device leaves the
fleet in order. Nothing here outlives its parent.
"""

import asyncio
import gc
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import Literal

import msgspec

from simulator.live.device import Common, Habits, LiveDevice
from simulator.live.snapshot import Snapshot, pss_kib
from wire.adapters.parent import end_with_parent
from wire.codec import decode
from wire.identity import ClaimFile

TELL_EVERY_S = 1.0
CONNECTING_THREADS = 32
LEAVING_AT_ONCE = 200
TELLING_SHARE = 0.02
"""Of the processor at most: thousands of devices are many to count."""
LOOKING_FOR_GARBAGE = (100_000, 20, 20)
"""Once all have joined: their links to the enrolment desk were garbage, from then on there is hardly any."""
MAX_CRASHES = 10
MAX_REASONS = 100
"""A snapshot is a line, and thousands of devices may have a complaint each that names the device."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What devices there are. `claims` is a file of claims, one a line."""

    claims: str
    first: int
    count: int
    habits: Habits
    source_addresses: tuple[str, ...] = ("",)
    joining_at_once: int = 100


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done with all of them."""

    do: Literal["cut"]


class Worker:
    """The devices of this process."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._crashes: list[str] = []
        self._common = Common(order.habits, self._crashed)
        self._devices: list[LiveDevice] = []
        self._before_kib = 0

    async def run(self, commands: asyncio.StreamReader) -> None:
        """Until there are no more commands."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(CONNECTING_THREADS))
        gc.collect()
        gc.freeze()
        self._before_kib = pss_kib()
        self._devices = list(self._make())
        async with asyncio.TaskGroup() as group:
            work = [group.create_task(self._join_all()), group.create_task(self._tell_for_ever())]
            while line := await commands.readline():
                self._obey(msgspec.json.decode(line, type=Command))
            for task in work:
                task.cancel()
        await self._leave_all()
        self._tell()

    def snapshot(self) -> Snapshot:
        """How they stand."""
        running: Counter[str] = Counter()
        failed: Counter[str] = Counter()
        for device in self._devices:
            device.tell(running, failed)
        traffic, pool, judgements = self._common.traffic, self._common.pool, self._common.judgements
        return Snapshot(
            devices=len(self._devices),
            enrolled=sum(device.enrolled for device in self._devices),
            connected=sum(device.connected for device in self._devices),
            connects=traffic.connects,
            running=running,
            failed=dict(failed.most_common(MAX_REASONS)),
            crashes=tuple(self._crashes),
            sent_bytes=traffic.sent_bytes,
            received_bytes=traffic.received_bytes,
            predictions=traffic.predictions,
            disk_bytes=sum(device.disk.used_bytes for device in self._devices),
            shared_bytes=pool.held_bytes,
            judged=judgements.made,
            hashed=pool.hashed,
            grown_kib=pss_kib() - self._before_kib,
            cpu_s=time.process_time(),
        )

    def _make(self) -> Iterator[LiveDevice]:
        addresses = cycle(self._order.source_addresses)
        lines = Path(self._order.claims).read_bytes().splitlines()
        known: dict[object, object] = {}
        for line in lines[self._order.first :][: self._order.count]:
            yield LiveDevice(_sharing(decode(line, ClaimFile), known), self._common, next(addresses))

    async def _join_all(self) -> None:
        gate = asyncio.Semaphore(self._order.joining_at_once)

        async def one(device: LiveDevice) -> None:
            async with gate:
                await device.join()

        async with asyncio.TaskGroup() as group:
            for device in self._devices:
                group.create_task(one(device))
        gc.collect()
        gc.freeze()  # what lives as long as the process need not be looked through for garbage again and again
        gc.set_threshold(*LOOKING_FOR_GARBAGE)

    async def _leave_all(self) -> None:
        for start in range(0, len(self._devices), LEAVING_AT_ONCE):
            await asyncio.gather(*(device.leave() for device in self._devices[start:][:LEAVING_AT_ONCE]))

    async def _tell_for_ever(self) -> None:
        while True:
            began_s = time.thread_time()
            self._tell()
            await asyncio.sleep(max(TELL_EVERY_S, (time.thread_time() - began_s) / TELLING_SHARE))

    def _tell(self) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(self.snapshot()) + b"\n")
        sys.stdout.buffer.flush()

    def _obey(self, command: Command) -> None:
        if command.do == "cut":
            for device in self._devices:
                device.cut()

    def _crashed(self, error: BaseException) -> None:
        logging.getLogger(__name__).error("a device crashed", exc_info=error)
        if len(self._crashes) < MAX_CRASHES:
            self._crashes.append(repr(error))


def _sharing(claim: ClaimFile, known: dict[object, object]) -> ClaimFile:
    """The claim, with what is the same in all of them held once."""
    same = {
        name: known.setdefault(value, value)
        for name, value in msgspec.structs.asdict(claim).items()
        if name not in ("device", "token")
    }
    return msgspec.structs.replace(claim, **same)


async def _main() -> None:
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    await Worker(msgspec.json.decode(await commands.readline(), type=Order)).run(commands)


if __name__ == "__main__":
    end_with_parent()
    os.setpgid(0, 0)  # Ctrl-C is for who runs it
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(_main())
