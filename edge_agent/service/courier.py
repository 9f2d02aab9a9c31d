"""Telling the hub how things stand: the newest report is sent until the hub says that it has it.

A report replaces the one before, so nothing piles up while the device is offline. At rest there is no task; a timer
exists only while a receipt is outstanding. What cannot be measured or sent now is tried again, and stops nobody.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from edge_agent.errors import DiskError
from edge_agent.service.tasks import Tasks
from wire.ports import SECOND, Clock, Link, LinkError, Timer
from wire.topics import Topics

log = logging.getLogger(__name__)

FIRST_RETRY_NS = 4 * SECOND
LAST_RETRY_NS = 60 * SECOND
BOOT_SHIFT = 32
"""`seq` = boot number in the high bits, so it grows over the whole life of the device."""
SEQ_LIMIT = 1 << 62
"""Nobody has sent so much: a receipt for more is none."""


@dataclass(frozen=True, slots=True)
class Uplink:
    """What every channel to the hub shares."""

    device: str
    topics: Topics
    link: Link
    clock: Clock
    tasks: Tasks


class Courier:
    """Delivers reports. `build(seq)` makes one from how things stand at that moment; `on_taken` follows its receipt."""

    def __init__(
        self, uplink: Uplink, build: Callable[[int], Awaitable[bytes]], on_taken: Callable[[], None] = lambda: None
    ) -> None:
        self._uplink = uplink
        self._build = build
        self._on_taken = on_taken
        self._seq = 0
        self._dirty = False
        self._outstanding = False
        self._sending = False
        self._retry_ns = FIRST_RETRY_NS
        self._timer: Timer | None = None

    def start(self, boot: int) -> None:
        """Number reports from here on."""
        self._seq = boot << BOOT_SHIFT

    def changed(self) -> None:
        """Something in the report is different now."""
        self._dirty = True
        self._retry_ns = FIRST_RETRY_NS
        self._kick()

    def on_up(self) -> None:
        """The link is up: say again what was not receipted, or how things stand."""
        self.changed()

    def on_receipt(self, seq: int) -> None:
        """The hub has everything up to `seq`.

        If that is more than was ever sent, this device has lost its place: an earlier start could not write its boot
        number down, or the record is an old one. Numbers go on above, or the hub would take every report for stale.
        """
        if seq == self._seq and self._outstanding:
            self._outstanding = False
            self._disarm()
            self._on_taken()
            self._kick()  # what changed meanwhile, where sending it failed: the timer for that is gone
        elif self._seq < seq < SEQ_LIMIT:
            self._seq = seq
            self.changed()

    def stop(self) -> None:
        """No more sending."""
        self._dirty = self._outstanding = False
        self._disarm()

    def _kick(self) -> None:
        if self._dirty and not self._sending and self._uplink.link.connected:
            self._sending = True
            self._uplink.tasks.spawn(self._send(), "send-report")

    async def _send(self) -> None:
        try:
            while self._dirty and self._uplink.link.connected:
                self._dirty = False
                self._outstanding = True
                self._seq += 1
                payload = await self._build(self._seq)
                topic = self._uplink.topics.up(self._uplink.device, "reported")
                await self._uplink.link.publish(topic, payload)
        except (LinkError, DiskError) as error:
            log.debug("the report is sent later: %s", error)
            self._dirty = True  # the timer below, or the next `on_up`, sends it again
        finally:
            self._sending = False
        self._arm()

    def _arm(self) -> None:
        self._disarm()
        if self._outstanding or self._dirty:
            self._timer = self._uplink.clock.call_later(self._retry_ns, self._again)

    def _again(self) -> None:
        self._timer = None
        self._dirty = True
        self._retry_ns = min(LAST_RETRY_NS, 2 * self._retry_ns)
        self._kick()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
