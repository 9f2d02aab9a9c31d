"""The device as a whole: starts its parts in order, hands each message to the part it concerns, stops in order."""

import contextlib
import functools
from dataclasses import dataclass
from typing import Protocol

from edge_agent.ports import Ports
from edge_agent.service.asking import Asking
from edge_agent.service.courier import Courier, Uplink
from edge_agent.service.downloads import Downloads
from edge_agent.service.freshness import Freshness
from edge_agent.service.membership import Membership, Settled
from edge_agent.service.reconciler import Reconciler
from edge_agent.service.reports import Reports
from edge_agent.service.telemetry import TelemetryReporter
from wire.codec import decode, encode
from wire.errors import TopicError, WireError
from wire.messages import Receipt, Status
from wire.ports import Inbound
from wire.topics import DOWN_CHANNELS, Chunk, Downward, DownwardChunk


class Learner(Protocol):
    """The federated client, as far as messages go."""

    def on_fed(self, payload: bytes) -> None:
        """An instruction arrived."""

    def on_want(self, payload: bytes) -> None:
        """The cloud asks for chunks of an update."""

    def on_up(self) -> None:
        """The link is up (again)."""

    async def close(self) -> None:
        """Stop working."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The services that an agent starts, stops and hands messages to."""

    reconciler: Reconciler
    downloads: Downloads
    asking: Asking
    learner: Learner
    telemetry: TelemetryReporter
    freshness: Freshness
    membership: Membership | Settled


@functools.cache
def offline_status() -> bytes:
    """What the broker says for us when the connection breaks."""
    return encode(Status(online=False))


class Agent:
    """One device. Everything it does follows from messages, timers and the application's calls."""

    __slots__ = (
        "_asking",
        "_downloads",
        "_freshness",
        "_learner",
        "_reports",
        "_session",
        "_telemetry",
        "_uplink",
        "membership",
        "reconciler",
    )

    def __init__(self, ports: Ports, uplink: Uplink, parts: Parts) -> None:
        self._uplink = uplink
        self.reconciler = parts.reconciler
        self._downloads = parts.downloads
        self._asking = parts.asking
        self._learner = parts.learner
        self._telemetry = parts.telemetry
        self._freshness = parts.freshness
        self.membership = parts.membership
        self._session = ports.ids.new()
        reports = Reports(ports, parts.reconciler, parts.membership)
        self._reports = Courier(uplink, reports.build, reports.on_taken, reports.patience_ns)
        parts.reconciler.on_changed = self._on_changed
        parts.reconciler.on_unknown_director = parts.freshness.on_unknown_director
        parts.membership.on_changed = self._reports.changed

    async def start(self) -> None:
        """Serve what is committed, then connect. Raises what `Reconciler.boot` raises."""
        await self.reconciler.boot()
        self._reports.number_from(self.reconciler.known_boot)
        await self._telemetry.start()
        link, topics, device = self._uplink.link, self._uplink.topics, self._uplink.device
        link.on_message = self._on_message
        link.on_up = self._on_up
        await link.subscribe(*(topics.dn(device, channel) for channel in DOWN_CHANNELS), topics.all_dn_chunks(device))
        await link.start()
        self.membership.start()

    async def stop(self) -> None:
        """Say goodbye and end everything in order; what is not receipted is told after the next start.

        No broker is waited for, since it may be silent: what is sent goes before the link's own goodbye, and if it gets
        lost, the will says the same.
        """
        self._freshness.stop()
        self.reconciler.stop()
        self._reports.stop()
        await self._telemetry.stop()
        topic = self._uplink.topics.up(self._uplink.device, "status")
        self._uplink.link.send(topic, offline_status(), retain=True)
        await self._learner.close()
        await self._uplink.link.stop()
        self.membership.stop()
        await self._uplink.tasks.stop()

    def _on_up(self) -> None:
        self._greet()
        self._reports.on_up()
        self._telemetry.delivery.on_up()
        self._learner.on_up()
        self._freshness.on_up()

    def _greet(self) -> None:
        status = encode(Status(online=True, boot=self.reconciler.record.boot, session=self._session))
        self._uplink.link.send(self._uplink.topics.up(self._uplink.device, "status"), status, retain=True)

    def _on_changed(self) -> None:
        self._reports.number_from(self.reconciler.known_boot)
        self._reports.changed()
        self._telemetry.looked_at()

    def _on_message(self, message: Inbound) -> None:
        try:
            parsed = self._uplink.topics.parse(message.topic)
        except TopicError:
            message.ack()  # a stray topic is nobody's here
            return
        match parsed:
            case Chunk(sha256, index):
                self._downloads.on_chunk(sha256, index, message.payload)
                message.ack()
            case DownwardChunk(device, sha256, index) if device == self._uplink.device:
                self._downloads.on_chunk(sha256, index, message.payload, direct=True)
                message.ack()
            case Downward(device, channel) if device == self._uplink.device:
                self._on_downward(channel, message)
            case _:
                message.ack()

    def _on_downward(self, channel: str, message: Inbound) -> None:
        if channel == "desired":
            if message.payload:  # empty: the retained document was cleared, which says nothing
                self.reconciler.on_desired(message.payload, message.ack)
                return
        elif channel == "fed":
            self._learner.on_fed(message.payload)
        elif channel == "want":
            self._learner.on_want(message.payload)
        elif channel == "receipt":
            self._on_receipt(message.payload)
        elif channel == "answer":
            self._asking.on_answer(message.payload)
        message.ack()

    def _on_receipt(self, payload: bytes) -> None:
        with contextlib.suppress(WireError):  # a receipt that cannot be read is none; the report is sent again
            receipt = decode(payload, Receipt)
            if receipt.channel == "reported":
                self._reports.on_receipt(receipt.seq)
            elif receipt.channel == "telemetry":
                self._telemetry.on_receipt(receipt.seq)
