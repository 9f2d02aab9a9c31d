"""Sending what the outbox holds: in order, at most WINDOW messages ahead of the hub's receipts; without one, again.

A message says which one went before it as long as that one has no receipt. The hub takes none whose predecessor it
lacks: whatever a broker drops, repeats or reorders, a receipt means everything up to it, and the gap is sent again.
The hub takes a message at once when another one follows it; one that stands alone waits for those of other devices.
"""

import msgspec

from edge_agent.core.spool import Frame
from edge_agent.service.courier import FIRST_RETRY_NS, LAST_RETRY_NS, Uplink
from edge_agent.service.outbox import Outbox
from wire.codec import decode, encode
from wire.errors import WireError
from wire.messages import Telemetry
from wire.ports import SECOND, Timer

WINDOW = 16
ALONE_NS = 15 * SECOND
"""Not before is a message that stands alone sent again: the hub may keep it for 10 s."""


class Delivery:
    """Empties the outbox. At rest there is no task; a timer exists only while a receipt is outstanding."""

    __slots__ = (
        "_more",
        "_outbox",
        "_outstanding",
        "_restarts",
        "_retry_ns",
        "_sending",
        "_stopped",
        "_timer",
        "_uplink",
    )

    def __init__(self, uplink: Uplink, outbox: Outbox) -> None:
        self._uplink = uplink
        self._outbox = outbox
        self._outstanding: list[int] = []
        self._sending = False
        self._restarts = 0
        self._more = False
        self._stopped = False
        self._retry_ns = FIRST_RETRY_NS
        self._timer: Timer | None = None

    async def send(self) -> None:
        """Send what there is, as far as the window and the link allow."""
        self._more = True
        if not self._sending and not self._stopped and self._uplink.link.connected:
            self._sending = True
            try:
                while self._more and self._uplink.link.connected:
                    self._more = False
                    await self._send_window()
            finally:
                self._sending = False
            if self._outstanding:
                self._arm()

    def on_up(self) -> None:
        """The link is up: what is not receipted may never have arrived."""
        self._retry_ns = FIRST_RETRY_NS
        self._start_over()

    def on_receipt(self, seq: int) -> None:
        """The hub has everything up to `seq`."""
        self._outbox.receipted(seq)
        if self._settle():
            self._retry_ns = FIRST_RETRY_NS
            self._disarm()
            if self._outstanding:
                self._arm()
            self._kick()

    def stop(self) -> None:
        """No more sending."""
        self._stopped = True
        self._disarm()

    def _kick(self) -> None:
        """There may be something to send, or room to send it."""
        sent = self._outstanding[-1] if self._outstanding else 0
        if self._uplink.link.connected and self._outbox.newest > max(sent, self._outbox.done):
            self._uplink.tasks.spawn(self.send(), "send-telemetry")

    async def _send_window(self) -> None:
        """As many as the window has room for; ends early when sending starts over from the oldest meanwhile."""
        restarts = self._restarts
        sent = self._outstanding[-1] if self._outstanding else 0
        for frame in await self._outbox.next(sent, WINDOW - len(self._outstanding)):
            if restarts != self._restarts:
                return
            self._settle()
            payload = _stamped(frame, self._outstanding[-1] if self._outstanding else 0)
            if payload is None:
                return
            self._outstanding.append(frame.seq)
            self._uplink.link.send(self._uplink.topics.up(self._uplink.device, "telemetry"), payload)

    def _settle(self) -> bool:
        """What is done, receipted or dropped, is no longer waited for. Was there any?"""
        before = len(self._outstanding)
        while self._outstanding and self._outstanding[0] <= self._outbox.done:
            self._outstanding.pop(0)
        return len(self._outstanding) < before

    def _start_over(self) -> None:
        self._restarts += 1
        self._outstanding.clear()
        self._disarm()
        self._kick()

    def _arm(self) -> None:
        if self._timer is None and not self._stopped:
            wait_ns = self._retry_ns if len(self._outstanding) > 1 else max(self._retry_ns, ALONE_NS)
            self._timer = self._uplink.clock.call_later(wait_ns, self._on_silence)

    def _on_silence(self) -> None:
        self._timer = None
        self._retry_ns = min(LAST_RETRY_NS, 2 * self._retry_ns)
        self._start_over()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _stamped(frame: Frame, after: int) -> bytes | None:
    """The message as it is sent behind `after`. None: another agent wrote it, and it waits until it is the oldest."""
    if not after:
        return frame.payload
    try:
        return encode(msgspec.structs.replace(decode(frame.payload, Telemetry), after=after))
    except WireError:
        return None
