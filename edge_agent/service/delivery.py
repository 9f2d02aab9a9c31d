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
    """Empties the outbox. A task exists only while the disk is read, a timer only while a receipt is outstanding."""

    __slots__ = (
        "_more",
        "_outbox",
        "_outstanding",
        "_reading",
        "_restarts",
        "_retry_ns",
        "_stopped",
        "_timer",
        "_uplink",
    )

    def __init__(self, uplink: Uplink, outbox: Outbox) -> None:
        self._uplink = uplink
        self._outbox = outbox
        self._outstanding: list[int] = []
        self._reading = False
        self._restarts = 0
        self._more = False
        self._stopped = False
        self._retry_ns = FIRST_RETRY_NS
        self._timer: Timer | None = None

    def kick(self) -> None:
        """There may be something to send, or room to send it."""
        self._settle()
        sent = self._newest_sent
        if self._stopped or not self._uplink.link.connected or self._outbox.newest <= max(sent, self._outbox.done):
            return
        if self._reading:
            self._more = True
            return
        frames = self._outbox.at_hand(sent, self._room)
        if frames is None:
            self._reading = True
            self._uplink.tasks.spawn(self._read_and_send(), "send-telemetry")
        else:
            self._send_window(frames)

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
            self.kick()

    def stop(self) -> None:
        """No more sending."""
        self._stopped = True
        self._disarm()

    @property
    def _newest_sent(self) -> int:
        return self._outstanding[-1] if self._outstanding else 0

    @property
    def _room(self) -> int:
        return WINDOW - len(self._outstanding)

    async def _read_and_send(self) -> None:
        """Some of what is next is on the disk. When sending starts over meanwhile, it is read again from the oldest."""
        try:
            self._more = True
            while self._more and self._uplink.link.connected:
                self._more = False
                restarts = self._restarts
                frames = await self._outbox.next(self._newest_sent, self._room)
                if restarts == self._restarts:
                    self._send_window(frames)
        finally:
            self._reading = False

    def _send_window(self, frames: list[Frame]) -> None:
        """As many as the window has room for."""
        self._settle()
        for frame in frames:
            payload = _stamped(frame, self._newest_sent)
            if payload is None:
                break
            self._outstanding.append(frame.seq)
            self._uplink.link.send(self._uplink.topics.up(self._uplink.device, "telemetry"), payload)
        if self._outstanding:
            self._arm()

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
        self.kick()

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
