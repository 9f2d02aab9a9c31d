"""Measuring: cumulative counters, at most every `interval_s` and when they changed, go into the outbox as they stand.

A connected device at rest says so every `heartbeat_s`, because the hub takes long silence for absence. Numbers come
from the boot number in the record: nothing is numbered before that is durable, so none is ever given twice.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from edge_agent.core.stats import MAX_STATS
from edge_agent.errors import DiskError
from edge_agent.ports import Ports
from edge_agent.service.courier import BOOT_SHIFT, SEQ_LIMIT, Uplink
from edge_agent.service.delivery import Delivery
from edge_agent.service.outbox import Outbox
from wire.codec import MAX_CONTROL_BYTES, encode
from wire.messages import Telemetry
from wire.ports import SECOND, Timer

log = logging.getLogger(__name__)

HEARTBEAT_S = 60.0
MAX_STAMP_BYTES = 20
"""What sending adds: `after` in place of its 0."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the record says that telemetry needs. `boot` is 0 until the number of this start is durable."""

    boot: int
    updates_accepted: int


class TelemetryReporter:
    """Owns the telemetry channel."""

    def __init__(
        self,
        ports: Ports,
        uplink: Uplink,
        outbox: Outbox,
        known: Callable[[], Known],
        interval_s: float,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._ports = ports
        self._uplink = uplink
        self._outbox = outbox
        self._known = known
        self._interval_ns = int(interval_s * SECOND)
        self._heartbeat_ns = int(heartbeat_s * SECOND)
        self._seq = 0
        self._timer: Timer | None = None
        self._heartbeat: Timer | None = None
        self._stopped = False
        self.delivery = Delivery(uplink, outbox)

    async def start(self) -> None:
        """Find what earlier runs left, and begin to say that the device is there."""
        await self._outbox.open()
        self._rest()

    def changed(self) -> None:
        """Something was counted: measure with the next interval."""
        if self._timer is None and not self._stopped:
            self._timer = self._ports.clock.call_later(self._interval_ns, self._due)

    def on_receipt(self, seq: int) -> None:
        """The hub has everything up to `seq`; numbers go on above, should that be more than was ever sent."""
        if seq < SEQ_LIMIT:
            self._seq = max(self._seq, seq)
            self.delivery.on_receipt(seq)

    async def stop(self) -> None:
        """No more measuring; what is not receipted goes to the disk."""
        self._stopped = True
        for timer in (self._timer, self._heartbeat):
            if timer is not None:
                timer.cancel()
        self.delivery.stop()
        await self._outbox.spool()
        self._outbox.stop()

    def _due(self) -> None:
        self._timer = None
        self._rest()
        self._uplink.tasks.spawn(self._measure(), "measure")

    def _rest(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        self._heartbeat = self._ports.clock.call_later(self._heartbeat_ns, self._on_rest)

    def _on_rest(self) -> None:
        if self._uplink.link.connected:
            self.changed()
        else:  # nobody takes a silent device that is not connected for present
            self._rest()

    async def _measure(self) -> None:
        known = self._known()
        if not known.boot:
            return  # measured again with the next change or heartbeat
        try:
            payload = await self._build(known)
        except DiskError as error:
            log.debug("nothing can be measured now: %s", error)
            return
        self._outbox.put(self._seq, payload)
        self.delivery.kick()

    async def _build(self, known: Known) -> bytes:
        counts = await self._ports.captures.counts()
        self._seq = max(self._seq, known.boot << BOOT_SHIFT) + 1
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
