"""Measuring: cumulative counters go into the outbox as they stand, closely after the news and rarely at rest.

What was counted is told once it is a quarter as old as the news, which is a start or another model in use: seconds
after an installation, when a rollout waits for figures, and with the interval at rest. A connected device that has
nothing to tell says as often that it is there, because the hub takes long silence for absence: a heartbeat, which
nobody keeps, receipts or sends again. Numbers come from the boot number in the record: nothing is numbered before that
is durable, so none is ever given twice.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from edge_agent.core.stats import MAX_STATS
from edge_agent.errors import DiskError
from edge_agent.ports import Counts, Ports
from edge_agent.service.courier import BOOT_SHIFT, SEQ_LIMIT, Uplink
from edge_agent.service.delivery import Delivery
from edge_agent.service.outbox import Outbox
from wire.assignment import CapturePolicy
from wire.codec import MAX_CONTROL_BYTES, encode
from wire.messages import Telemetry
from wire.ports import SECOND, Timer

log = logging.getLogger(__name__)

INTERVAL_S: Final = 900.0
CLOSEST_S: Final = 5.0
TOLD_AGAIN_NS: Final = 12 * 3600 * SECOND
"""Counters that stand where they stood are told so often all the same: a hub may have been restored from a backup."""
SHARE: Final = 4
"""The age of the news over that time, until it is the interval."""
MAX_STAMP_BYTES: Final = 20
"""What sending adds: `after` in place of its 0."""


@dataclass(frozen=True, slots=True)
class Spacing:
    """Seconds between what is counted and the message that tells it: at rest, and right after the news."""

    interval_s: float = INTERVAL_S
    closest_s: float = CLOSEST_S

    def wait_ns(self, age_ns: int) -> int:
        """How long to wait when the news is so old."""
        return min(int(self.interval_s * SECOND), max(int(self.closest_s * SECOND), age_ns // SHARE))


@dataclass(frozen=True, slots=True)
class Known:
    """What the record says that telemetry needs. `boot` is 0 until the number of this start is durable."""

    boot: int
    updates_accepted: int
    capture: CapturePolicy
    """It bounds what is kept, and so what is counted."""


class TelemetryReporter:
    """Owns the telemetry channel. One timer: to the next measurement, which comes earlier once something is counted."""

    __slots__ = (
        "_counted",
        "_counts",
        "_current",
        "_dropped",
        "_known",
        "_news_ns",
        "_outbox",
        "_ports",
        "_seq",
        "_spacing",
        "_stopped",
        "_timer",
        "_told",
        "_told_ns",
        "_uplink",
        "delivery",
    )

    def __init__(
        self, ports: Ports, uplink: Uplink, outbox: Outbox, known: Callable[[], Known], spacing: Spacing
    ) -> None:
        self._ports = ports
        self._uplink = uplink
        self._outbox = outbox
        self._known = known
        self._spacing = spacing
        self._seq = 0
        self._news_ns = 0
        self._counted = False
        self._counts: Counts | None = None
        self._current = False
        self._told: Known | None = None
        self._told_ns = 0
        self._dropped = 0
        self._timer: Timer | None = None
        self._stopped = False
        self.delivery = Delivery(uplink, outbox)

    async def start(self) -> None:
        """Find what earlier runs left, and begin to say that the device is there."""
        await self._outbox.open()
        self.renewed()
        self.changed()

    def changed(self) -> None:
        """Something was counted."""
        self._current = False
        if not self._counted:
            self._counted = True
            self._arm(self._spacing.wait_ns(self._ports.clock.monotonic_ns() - self._news_ns))

    def looked_at(self) -> None:
        """The record has changed: is there anything in it that telemetry has to do with?"""
        if self._known() != self._told:
            self.changed()

    def renewed(self) -> None:
        """Another model answers from now on."""
        self._news_ns = self._ports.clock.monotonic_ns()
        if self._counted:
            self._counted = False
            self.changed()

    def on_receipt(self, seq: int) -> None:
        """The hub has everything up to `seq`; numbers go on above, should that be more than was ever sent."""
        if seq < SEQ_LIMIT:
            self._seq = max(self._seq, seq)
            self.delivery.on_receipt(seq)

    async def stop(self) -> None:
        """No more measuring; what is not receipted goes to the disk."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        self.delivery.stop()
        await self._outbox.spool()
        self._outbox.stop()

    def _arm(self, ns: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if self._stopped else self._ports.clock.call_later(ns, self._due)

    def _due(self) -> None:
        """Nobody takes a silent device that is not connected for present."""
        if self._counted or self._uplink.link.connected:
            if self._has_news():
                self._measure()
            else:
                self._uplink.link.send(self._uplink.topics.up(self._uplink.device, "heartbeat"), b"")
        self._counted = False
        self._arm(int(self._spacing.interval_s * SECOND))

    def _has_news(self) -> bool:
        """Is there anything that the hub was not told, or was told long ago?"""
        if self._counted or self._known() != self._told or self._outbox.dropped != self._dropped:
            return True
        return self._ports.clock.monotonic_ns() - self._told_ns >= TOLD_AGAIN_NS

    def _measure(self) -> None:
        """Nobody is asked for counters that stand where they stood."""
        if self._current and self._counts is not None:
            self._tell(self._counts)
        else:
            self._uplink.tasks.spawn(self._count(), "measure")

    async def _count(self) -> None:
        self._current = True  # unless there is news meanwhile
        try:
            self._counts = await self._ports.captures.counts()
        except DiskError as error:
            log.debug("nothing can be measured now: %s", error)
            self.changed()
            return
        self._tell(self._counts)

    def _tell(self, counts: Counts) -> None:
        known = self._known()
        if not known.boot:
            return  # measured once the start is written down
        self._told, self._dropped = known, self._outbox.dropped
        self._told_ns = self._ports.clock.monotonic_ns()
        self._seq = max(self._seq, known.boot << BOOT_SHIFT) + 1
        self._outbox.put(self._seq, self._build(counts, known))
        self.delivery.kick()

    def _build(self, counts: Counts, known: Known) -> bytes:
        telemetry = Telemetry(
            seq=self._seq,
            at_ns=self._ports.clock.now_ns(),
            dropped=self._outbox.dropped,
            stats=tuple(tally.told() for tally in counts.tallies[-MAX_STATS:]),
            captured=counts.captured,
            federated_updates_sent=known.updates_accepted,
            peak_rss_bytes=self._ports.machine.peak_rss_bytes(),
        )
        while len(payload := encode(telemetry)) > MAX_CONTROL_BYTES - MAX_STAMP_BYTES:  # the hub would refuse it whole
            telemetry = msgspec.structs.replace(telemetry, stats=telemetry.stats[1:])
        return payload
