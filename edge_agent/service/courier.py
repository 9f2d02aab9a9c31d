"""Telling the hub how things stand: the newest report is sent until the hub says that it has it.

A report replaces the one before, so nothing piles up while the device is offline. How far an installation has come is
told at most every PACE_NS, how it ended at once, and what nobody waits for with the next report or after CALM_NS. At
rest there is no task; a timer exists only while a report waits for its moment or its receipt. What cannot be measured
now is tried again, and stops nobody.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from edge_agent.errors import DiskError
from edge_agent.service.tasks import Tasks
from wire.ports import SECOND, Clock, Link, Timer
from wire.topics import Topics
from wire.trust import TIMESTAMP_LIFE_S

log = logging.getLogger(__name__)

FIRST_RETRY_NS = 4 * SECOND
LAST_RETRY_NS = 60 * SECOND
PACE_NS = 10 * SECOND
"""What takes longer is worth a word; ten thousand that install at the same time need not say each step of theirs."""
CALM_NS = TIMESTAMP_LIFE_S // 2 * SECOND
"""By then the hub's knowledge of when metadata was found fresh is half as old as the metadata may be."""
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


def _at_once() -> int:
    return 0


def _nothing() -> None:
    pass


class Courier:
    """Delivers reports. `build(seq)` makes one from how things stand at that moment; `on_taken` follows its receipt.

    `patience`: for how long after the last report (ns) need it not be told what has changed since?
    """

    __slots__ = (
        "_build",
        "_dirty",
        "_on_taken",
        "_outstanding",
        "_patience",
        "_retry_ns",
        "_sending",
        "_sent_ns",
        "_seq",
        "_timer",
        "_uplink",
    )

    def __init__(
        self,
        uplink: Uplink,
        build: Callable[[int], Awaitable[bytes]],
        on_taken: Callable[[], None] = _nothing,
        patience: Callable[[], int] = _at_once,
    ) -> None:
        self._uplink = uplink
        self._build = build
        self._on_taken = on_taken
        self._patience = patience
        self._seq = 0
        self._dirty = False
        self._outstanding = False
        self._sending = False
        self._sent_ns = -CALM_NS
        self._retry_ns = FIRST_RETRY_NS
        self._timer: Timer | None = None

    def number_from(self, boot: int) -> None:
        """No report has a number below this start from here on. One that is not on the disk yet could come twice."""
        self._seq = max(self._seq, boot << BOOT_SHIFT)

    def changed(self) -> None:
        """Something in the report is different now."""
        self._dirty = True
        self._retry_ns = FIRST_RETRY_NS
        self._soon()

    def on_up(self) -> None:
        """The link is up: say again what was not receipted, or how things stand."""
        self._anew()

    def on_receipt(self, seq: int) -> None:
        """The hub has everything up to `seq`.

        If that is more than was ever sent, this device has lost its place: an earlier start could not write its boot
        number down, or the record is an old one. Numbers go on above, or the hub would take every report for stale.
        """
        if seq == self._seq and self._outstanding:
            self._outstanding = False
            self._disarm()
            if self._dirty:
                self._soon()
            self._on_taken()
        elif self._seq < seq < SEQ_LIMIT:
            self._seq = seq
            self._anew()

    def stop(self) -> None:
        """No more sending."""
        self._dirty = self._outstanding = False
        self._disarm()

    def _anew(self) -> None:
        """Whatever was told so far may not be known."""
        self._dirty = True
        self._retry_ns = FIRST_RETRY_NS
        self._kick()

    def _soon(self) -> None:
        """As soon as `patience` wants it; but a report without its receipt is about to be sent again, anyway."""
        wait_ns = self._sent_ns + self._patience() - self._uplink.clock.monotonic_ns()
        if wait_ns <= 0:
            self._kick()
        elif not self._outstanding:
            self._arm(wait_ns, self._kick)

    def _kick(self) -> None:
        if self._dirty and not self._sending and self._uplink.link.connected:
            self._sending = True
            self._uplink.tasks.spawn(self._send(), "send-report")

    async def _send(self) -> None:
        """A report of how things stand when it is made; what changes meanwhile makes the next one."""
        try:
            while self._dirty and self._uplink.link.connected:
                self._dirty = False
                self._outstanding = True
                self._seq += 1
                payload = await self._build(self._seq)
                self._sent_ns = self._uplink.clock.monotonic_ns()
                self._uplink.link.send(self._uplink.topics.up(self._uplink.device, "reported"), payload)
        except DiskError as error:
            log.debug("the report is sent later: %s", error)
            self._dirty = True  # the timer below, or the next `on_up`, sends it again
        finally:
            self._sending = False
        if self._outstanding or self._dirty:
            self._arm(self._retry_ns, self._again)

    def _arm(self, ns: int, call: Callable[[], None]) -> None:
        self._disarm()
        self._timer = self._uplink.clock.call_later(ns, call)

    def _again(self) -> None:
        self._timer = None
        self._dirty = True
        self._retry_ns = min(LAST_RETRY_NS, 2 * self._retry_ns)
        self._kick()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
