"""Devices at rest say nothing but that they are there. It is written down for all of them together, once a minute.

What tells nothing new needs no receipt and is acknowledged at once: with this hub, at most a minute of it is lost, of
the 45 for which a silent device counts as present. A last will that came after it is the newer word.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, null, select, true

from cloud.errors import StoreError
from cloud.many import among, updating
from cloud.ports import Store
from cloud.service import history
from cloud.service.alarm import Alarm
from cloud.tables import ENROLLED, devices
from wire.ports import SECOND, Clock, Inbound
from wire.topics import Topics

log = logging.getLogger(__name__)

CHANNEL = "heartbeat"
GATHER_NS = 60 * SECOND
MAX_BATCH = 500
"""Devices in one transaction: nobody else should have to wait long for theirs."""

_KNOWN = select(devices.c.name, devices.c.seen_ns, devices.c.gone_ns).where(among(devices.c.name, "names"), ENROLLED)
_PRESENT = updating(devices, ("name",), ("seen_ns",), gone_ns=null(), online=true())


class Heartbeats:
    """What devices at rest send, until it is written."""

    def __init__(self, store: Store, clock: Clock, topics: Topics) -> None:
        self._store = store
        self._clock = clock
        self._filter = topics.all_up(CHANNEL)
        self._prefix, self._suffix = self._filter.split("+")
        self._heard: dict[str, int] = {}
        self._due = asyncio.Event()
        self._alarm = Alarm(clock, self._due.set)

    def filters(self) -> tuple[str, ...]:
        """What every hub subscribes to."""
        return (self._filter,)

    def take(self, message: Inbound) -> bool:
        """The link's callback. Was it a heartbeat? Its payload says nothing, whatever it is."""
        topic = message.topic
        if not topic.endswith(self._suffix):
            return False
        self._heard[topic[len(self._prefix) : -len(self._suffix)]] = self._clock.now_ns()
        message.ack()
        self._alarm.within(GATHER_NS)
        return True

    async def run(self) -> None:
        """Write for ever."""
        while True:
            await self._due.wait()
            self._due.clear()
            heard, self._heard = list(self._heard.items()), {}
            for start in range(0, len(heard), MAX_BATCH):
                await self._write(dict(heard[start : start + MAX_BATCH]))

    async def _write(self, heard: Mapping[str, int]) -> None:
        try:
            await self._store.write(lambda conn: note(conn, heard))
        except StoreError as error:
            log.warning("that devices are there has to wait: %s", error)
            self._heard = {**heard, **self._heard}
            self._alarm.within(GATHER_NS)


def note(conn: Connection, heard: Mapping[str, int]) -> None:
    """These devices were heard of at these moments (wall clock, ns), unless there is later word of them."""
    rows: Sequence[Any] = conn.execute(_KNOWN, {"names": sorted(heard)}).all()
    news = [row for row in rows if max(row.seen_ns or 0, row.gone_ns or 0) < heard[row.name]]
    for row in news:
        history.back(conn, row, heard[row.name])
    _PRESENT.run(conn, [{"name": row.name, "seen_ns": heard[row.name]} for row in news])
