"""The far side of everything, in one piece and without delay: broker, hub and the memory of what the device has said.

A device may lose power at any moment; what it said before cannot be unsaid. `Promises` is that: reports that the hub
took, acknowledgements, the secret that was admitted. Whoever breaks one is noted in `broken`.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from bench.crash_states.releases import DEVICE, DIRECTOR, PUBLISHER
from edge_agent.core.pointer import Record
from wire.codec import decode, encode
from wire.identity import Broker, ClaimFile, EnrolReply, EnrolRequest
from wire.messages import Receipt, Reported, Telemetry
from wire.ports import Inbound
from wire.topics import Enrolment, Topics, Upward

TOPICS = Topics("fl/1")
CLAIM = ClaimFile(
    device=DEVICE,
    broker=Broker(host="broker", port=1883),
    topic_root=TOPICS.root,
    token="t" * 40,
    enrol_username="enrol",
    enrol_password="enrol",  # noqa: S106 - of a broker that does not exist
    director_keys=(DIRECTOR.public_hex,),
    publisher_keys=(PUBLISHER.public_hex,),
)


@dataclass(frozen=True, slots=True)
class Promises:
    """What the world outside was told, and relies on."""

    verifier: str = ""
    """Of the secret that the hub admitted."""
    record: Record = field(default_factory=Record)
    """What the device knew when it last said something, or acknowledged."""
    reported: Reported | None = None
    seqs: Mapping[str, int] = field(default_factory=dict)
    """Highest number that was used on each channel."""
    measured: Mapping[int, int] = field(default_factory=dict)
    """Number of each telemetry message that the hub has -> when it was measured."""
    dropped: int = 0
    """So many telemetry messages were dropped, says the device."""
    owed: tuple[int, ...] = ()
    """Telemetry messages that have to reach the hub, because they were measured so long ago."""
    answers: Mapping[str, bytes] = field(default_factory=dict)
    """Federated answers that were given: the same question gets the same answer."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong between device and hub whenever a device starts."""

    away_s: float = 0.0
    """Nobody can be reached for so long."""
    loses: int = 0
    """The broker acknowledges so many telemetry messages that the hub never gets."""


class Cloud:
    """Holds `retained`; `promises` grows while devices talk to it."""

    def __init__(self, retained: Mapping[str, bytes], promises: Promises, faults: Faults) -> None:
        self.retained = retained
        self.promises = promises
        self.faults = faults
        self._to_lose = faults.loses
        self.broken: list[str] = []
        self.record: Callable[[], Record] = Record
        """The device's record now: set by whoever starts it."""
        self.link: CloudLink | None = None

    def take(self, topic: str, payload: bytes) -> None:
        """The device published."""
        match TOPICS.parse(topic):
            case Enrolment(client=client):
                self._send(TOPICS.enrol("dn", client), encode(self._admit(decode(payload, EnrolRequest))))
            case Upward(channel="reported"):
                report = decode(payload, Reported)
                self._count("reported", report.seq)
                self.promises = replace(self.promises, record=self.record(), reported=report)
            case Upward(channel="telemetry") if self._to_lose:
                self._to_lose -= 1
            case Upward(channel="telemetry"):
                self._measured(decode(payload, Telemetry))

    def acknowledged(self, topic: str) -> None:
        """The device said that the effects of what came on `topic` are durable."""
        if topic == TOPICS.dn(DEVICE, "desired"):
            self.promises = replace(self.promises, record=self.record())

    def owe(self, seq: int) -> None:
        """From now on this telemetry message may not get lost."""
        self.promises = replace(self.promises, owed=(*self.promises.owed, seq))

    def _measured(self, message: Telemetry) -> None:
        """As the hub does it: in order, each once, none whose predecessor is not there."""
        taken, highest = self.promises.measured, self.promises.seqs.get("telemetry", 0)
        if taken.get(message.seq, message.at_ns) != message.at_ns:
            self.broken.append(f"telemetry: number {message.seq:x} is given twice")
        if message.after <= highest < message.seq:
            taken = {**taken, message.seq: message.at_ns}
            highest = message.seq
        if message.seq == highest and message.dropped < self.promises.dropped:
            self.broken.append(f"telemetry: {message.dropped} were dropped, after {self.promises.dropped}")
        seqs, dropped = {**self.promises.seqs, "telemetry": highest}, max(message.dropped, self.promises.dropped)
        self.promises = replace(self.promises, measured=taken, seqs=seqs, dropped=dropped)
        self._send(TOPICS.dn(DEVICE, "receipt"), encode(Receipt(channel="telemetry", seq=highest)))

    def _count(self, channel: str, seq: int) -> None:
        highest = self.promises.seqs.get(channel, 0)
        if seq <= highest:
            self.broken.append(f"{channel}: number {seq:x} comes after {highest:x}")
        self.promises = replace(self.promises, seqs={**self.promises.seqs, channel: max(seq, highest)})
        self._send(TOPICS.dn(DEVICE, "receipt"), encode(Receipt(channel=channel, seq=seq)))

    def _admit(self, request: EnrolRequest) -> EnrolReply:
        """The token works once: for the secret that came with it first."""
        verifier = request.verifier or ""
        if self.promises.verifier not in ("", verifier):
            self.broken.append("identity: the token is used again with another secret")
            return EnrolReply(ok=False, reason="the token was used")
        self.promises = replace(self.promises, verifier=verifier)
        return EnrolReply(ok=True, username=DEVICE)

    def _send(self, topic: str, payload: bytes) -> None:
        if self.link is not None:
            self.link.deliver(topic, payload, retained=False)


class CloudLink:
    """The `wire.ports.Link` to it: immediate and in order."""

    def __init__(self, cloud: Cloud) -> None:
        self.on_message: Callable[[Inbound], None] = lambda message: message.ack()
        self.on_up: Callable[[], None] = lambda: None
        self.on_down: Callable[[str], None] = lambda reason: None
        self._cloud = cloud
        self._connected = False
        self._filters: dict[str, None] = {}
        cloud.link = self

    @property
    def connected(self) -> bool:
        """Is it up?"""
        return self._connected

    async def start(self) -> None:
        """Come up with the next turn of the loop, or when the cloud is there."""
        asyncio.get_running_loop().call_later(self._cloud.faults.away_s, self._up)

    async def stop(self) -> None:
        """Go down."""
        self._connected = False

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Bring it to the cloud."""
        self._cloud.take(topic, payload)

    async def subscribe(self, *filters: str) -> None:
        """Get what is retained."""
        self._filters.update(dict.fromkeys(filters))
        if self._connected:
            self._send_retained(filters)

    async def unsubscribe(self, *filters: str) -> None:
        """Forget."""
        for one in filters:
            self._filters.pop(one, None)

    def deliver(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """Bring it to the device, if it subscribed."""
        if self._connected and topic in self._filters:
            message = Inbound(topic, payload, retained, lambda: self._cloud.acknowledged(topic))
            asyncio.get_running_loop().call_soon(self.on_message, message)

    def _up(self) -> None:
        self._connected = True
        self._send_retained(tuple(self._filters))
        self.on_up()

    def _send_retained(self, filters: tuple[str, ...]) -> None:
        for one in filters:
            if one in self._cloud.retained:
                self.deliver(one, self._cloud.retained[one], retained=True)
