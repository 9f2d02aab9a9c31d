"""The far side of everything, in one piece and without delay: broker, hub and the memory of what the device has said.

A device may lose power at any moment; what it said before cannot be unsaid. `Promises` is that: reports that the hub
took, acknowledgements, the secret that was admitted. Whoever breaks one is noted in `broken`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from bench.crash_states.identities import FIRST, RENEWED, certify
from bench.crash_states.releases import DEVICE
from bench.crash_states.repository import Repository, publish, tell_time
from edge_agent.core.pointer import Record
from simulator.core.clock import EPOCH_NS
from wire.asks import Answer, Ask, AskMetadata, AskRenewal, AskTime, MetadataPiece, Renewed, TimeTold
from wire.codec import decode, encode
from wire.identity import Broker, ClaimFile, EnrolReply, EnrolRequest
from wire.messages import Receipt, Reported, Telemetry
from wire.ports import SECOND
from wire.topics import Enrolment, Topics, Upward

TOPICS = Topics("fl/1")
STARTS_EVERY_NS = 100 * SECOND
"""By the hub's clock. During a life it stands still, so that the same life is the same twice."""
CLAIM = ClaimFile(
    device=DEVICE,
    broker=Broker(host="broker", port=1883),
    topic_root=TOPICS.root,
    token="t" * 40,
    enrol_username="enrol",
    enrol_password="enrol",  # noqa: S106 - of a broker that does not exist
    root=publish(()).root,
)


@dataclass(frozen=True, slots=True)
class Promises:
    """What the world outside was told, and relies on."""

    admitted: tuple[str, ...] = ()
    """Secrets that the hub lets log in, by what it knows of them: for a claim first, then by renewal."""
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


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong between device and hub whenever a device starts."""

    away_s: float = 0.0
    """Nobody can be reached for so long."""
    loses: int = 0
    """The broker acknowledges so many telemetry messages that the hub never gets."""
    renews: bool = True
    """Does the hub answer who asks for another certificate?"""


@dataclass(frozen=True, slots=True)
class Far:
    """What there is on the far side: retained messages by topic, what is vouched for, and what goes wrong."""

    retained: Mapping[str, bytes]
    repository: Repository
    claim: ClaimFile = CLAIM
    faults: Faults = field(default_factory=Faults)


class Cloud:
    """Serves what is `far`; `promises` grows while devices talk to it."""

    def __init__(self, far: Far, promises: Promises) -> None:
        self.far = far
        self.promises = promises
        self._to_lose = far.faults.loses
        self.broken: list[str] = []
        self.record: Callable[[], Record] = Record
        """The device's record now: set by whoever starts it."""
        self.deliver: Callable[[str, bytes], None] = lambda topic, payload: None
        """Brings a message to the device: set by its link."""

    def take(self, topic: str, payload: bytes) -> None:
        """The device published."""
        match TOPICS.parse(topic):
            case Enrolment(client=client):
                self.deliver(TOPICS.enrol("dn", client), encode(self._admit(decode(payload, EnrolRequest))))
            case Upward(channel="reported"):
                report = decode(payload, Reported)
                self._count("reported", report.seq)
                self.promises = replace(self.promises, record=self.record(), reported=report)
            case Upward(channel="ask"):
                self._answer(decode(payload, Ask))
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
        self.deliver(TOPICS.dn(DEVICE, "receipt"), encode(Receipt(channel="telemetry", seq=highest)))

    def _answer(self, ask: Ask) -> None:
        match ask.what:
            case AskMetadata():
                self._say(ask, self.far.repository.piece(ask.what))
            case AskTime():
                now_ns = EPOCH_NS + self.record().boot * STARTS_EVERY_NS
                self._say(ask, tell_time(ask.what, DEVICE, now_ns))
            case AskRenewal(csr=csr) if self.far.faults.renews:
                if csr not in self.promises.admitted:
                    self.promises = replace(self.promises, admitted=(*self.promises.admitted, csr))
                self._say(ask, Renewed(certificate=certify(csr, RENEWED)))

    def _say(self, ask: Ask, what: MetadataPiece | TimeTold | Renewed) -> None:
        self.deliver(TOPICS.dn(DEVICE, "answer"), encode(Answer(id=ask.id, what=what)))

    def _count(self, channel: str, seq: int) -> None:
        highest = self.promises.seqs.get(channel, 0)
        if seq <= highest:
            self.broken.append(f"{channel}: number {seq:x} comes after {highest:x}")
        self.promises = replace(self.promises, seqs={**self.promises.seqs, channel: max(seq, highest)})
        self.deliver(TOPICS.dn(DEVICE, "receipt"), encode(Receipt(channel=channel, seq=seq)))

    def _admit(self, request: EnrolRequest) -> EnrolReply:
        """The token works once: for the secret that came with it first."""
        secret = request.csr or request.verifier or ""
        if self.promises.admitted and secret != self.promises.admitted[0]:
            self.broken.append("identity: the token is used again with another secret")
            return EnrolReply(ok=False, reason="the token was used")
        if not self.promises.admitted:
            self.promises = replace(self.promises, admitted=(secret,))
        return EnrolReply(ok=True, username=DEVICE, certificate=certify(request.csr, FIRST) if request.csr else "")
