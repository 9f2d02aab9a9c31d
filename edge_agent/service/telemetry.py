"""Telling the hub what was measured: cumulative counters, at most every `interval_s`, when they changed.

A device at rest says so every HEARTBEAT_NS, because the hub takes long silence for absence.
"""

from collections.abc import Callable

import msgspec

from edge_agent.core.stats import MAX_STATS
from edge_agent.ports import Ports
from edge_agent.service.courier import Courier, Uplink
from wire.codec import MAX_CONTROL_BYTES, encode
from wire.messages import Telemetry
from wire.ports import SECOND, Timer

HEARTBEAT_NS = 60 * SECOND


class TelemetryReporter:
    """Owns the telemetry channel."""

    def __init__(self, ports: Ports, uplink: Uplink, updates_accepted: Callable[[], int], interval_s: float) -> None:
        self._ports = ports
        self._updates_accepted = updates_accepted
        self._interval_ns = int(interval_s * SECOND)
        self._timer: Timer | None = None
        self._heartbeat: Timer | None = None
        self.courier = Courier(uplink, "telemetry", self._build)

    def start(self, boot: int) -> None:
        """Number messages from here on, and begin to say that the device is there."""
        self.courier.start(boot)
        self._rest()

    def changed(self) -> None:
        """Something was counted: tell it with the next interval."""
        if self._timer is None:
            self._timer = self._ports.clock.call_later(self._interval_ns, self._due)

    def stop(self) -> None:
        """No more telling."""
        for timer in (self._timer, self._heartbeat):
            if timer is not None:
                timer.cancel()
        self.courier.stop()

    def _due(self) -> None:
        self._timer = None
        self._rest()
        self.courier.changed()

    def _rest(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        self._heartbeat = self._ports.clock.call_later(HEARTBEAT_NS, self.changed)

    async def _build(self, seq: int) -> bytes:
        counts = await self._ports.captures.counts()
        telemetry = Telemetry(
            seq=seq,
            stats=tuple(tally.told() for tally in counts.tallies[-MAX_STATS:]),
            captured=counts.captured,
            federated_updates_sent=self._updates_accepted(),
            peak_rss_bytes=self._ports.machine.peak_rss_bytes(),
        )
        while len(payload := encode(telemetry)) > MAX_CONTROL_BYTES:  # the hub would refuse it whole
            telemetry = msgspec.structs.replace(telemetry, stats=telemetry.stats[1:])
        return payload
