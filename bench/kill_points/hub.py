"""Just enough of a hub on a real broker: admits devices, retains what they shall fetch, receipts what they say."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bench.crash_states.repository import Repository, tell_time
from wire.adapters.mqtt_link import Credentials, MqttLink
from wire.asks import Answer, Ask, AskMetadata, AskTime, MetadataPiece, TimeTold
from wire.codec import decode, encode
from wire.identity import Broker, ClaimFile, EnrolReply, EnrolRequest
from wire.messages import Receipt, Reported, Telemetry
from wire.ports import Inbound
from wire.topics import Enrolment, Topics, Upward

TOPICS = Topics("fl/kill")
CONNECT_S = 10.0
SILENCE = b"silence"
"""Published after an agent is dead: what it said has arrived when this has."""


@dataclass(slots=True)
class Talk:
    """What one device has said since `begin`."""

    device: str
    reports: list[Reported] = field(default_factory=list)
    verifiers: set[str] = field(default_factory=set)
    seqs: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    quiet: asyncio.Event = field(default_factory=asyncio.Event)

    def begin(self) -> None:
        """Another device under the same name: nothing was said yet."""
        self.reports.clear()
        self.verifiers.clear()
        self.seqs.clear()
        self.broken.clear()

    def count(self, channel: str, seq: int) -> None:
        """A message with this number came; the same one may come twice, a lower one never."""
        highest = self.seqs.get(channel, 0)
        if seq < highest:
            self.broken.append(f"{channel}: number {seq:x} comes after {highest:x}")
        self.seqs[channel] = max(seq, highest)

    async def until(self, good: Callable[[Reported], bool], timeout_s: float) -> bool:
        """Has it reported, or does it within this time, something that is `good`? Looks at new reports only."""
        seen = len(self.reports)
        try:
            async with asyncio.timeout(timeout_s), self.news:
                await self.news.wait_for(lambda: any(good(report) for report in self.reports[seen:]))
        except TimeoutError:
            return False
        return True


class Hub:
    """The far side of some devices."""

    def __init__(self, broker: Broker, repository: Repository) -> None:
        self.broker = broker
        self.repository = repository
        self.link = MqttLink(broker, Credentials("hub", ""))
        self.link.on_message = self._on_message
        self.talks: dict[str, Talk] = {}
        self._sending: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect."""
        up = asyncio.Event()
        self.link.on_up = up.set
        channels = [TOPICS.all_up(channel) for channel in ("status", "reported", "telemetry", "ask")]
        await self.link.subscribe(f"{TOPICS.root}/enrol/up/+", *channels)
        await self.link.start()
        await asyncio.wait_for(up.wait(), CONNECT_S)

    async def retain(self, retained: Mapping[str, bytes]) -> None:
        """Have the broker keep this."""
        for topic, payload in retained.items():
            await self.link.publish(topic, payload, retain=True)

    async def desire(self, device: str, envelope: bytes) -> None:
        """What this device shall run."""
        await self.link.publish(TOPICS.dn(device, "desired"), envelope, retain=True)

    def claim(self, device: str) -> ClaimFile:
        """A claim file. Its token says whose it is."""
        self.talks[device] = Talk(device)
        return ClaimFile(
            device=device,
            broker=self.broker,
            topic_root=TOPICS.root,
            token=device.ljust(40, "-"),
            enrol_username="enrol",
            enrol_password="enrol",  # noqa: S106 - this broker lets anybody in
            root=self.repository.root,
        )

    async def forget(self, device: str) -> None:
        """End the session that the broker keeps for this client, with what is queued in it, and hear what is on its
        way from an agent that is dead by now."""
        await self._end_session(device)
        talk = self.talks[device]
        talk.quiet.clear()
        await self.link.publish(TOPICS.up(device, "status"), SILENCE)
        await asyncio.wait_for(talk.quiet.wait(), CONNECT_S)

    async def _end_session(self, device: str) -> None:
        reader, writer = await asyncio.open_connection(self.broker.host, self.broker.port)
        name = device.encode()
        head = b"\x00\x04MQTT\x04\x02\x00\x0a" + len(name).to_bytes(2, "big") + name  # MQTT 3.1.1, clean session
        writer.write(bytes((0x10, len(head))) + head)
        await reader.readexactly(4)
        writer.write(b"\xe0\x00")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    def _on_message(self, message: Inbound) -> None:
        task = asyncio.create_task(self._handle(message.topic, message.payload))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        message.ack()

    async def _handle(self, topic: str, payload: bytes) -> None:
        match TOPICS.parse(topic):
            case Enrolment(client=client):
                reply = self._admit(decode(payload, EnrolRequest))
                await self.link.publish(TOPICS.enrol("dn", client), encode(reply))
            case Upward(device=device, channel="status") if payload == SILENCE:
                self.talks[device].quiet.set()
            case Upward(device=device, channel="reported"):
                report = decode(payload, Reported)
                talk = self.talks[device]
                talk.reports.append(report)
                await self._take(talk, "reported", report.seq)
            case Upward(device=device, channel="ask"):
                await self._answer(device, decode(payload, Ask))
            case Upward(device=device, channel="telemetry"):
                await self._take(self.talks[device], "telemetry", decode(payload, Telemetry).seq)

    async def _answer(self, device: str, ask: Ask) -> None:
        match ask.what:
            case AskMetadata():
                what: MetadataPiece | TimeTold = self.repository.piece(ask.what)
            case AskTime():
                what = tell_time(ask.what, device, time.time_ns())
            case _:
                return
        await self.link.publish(TOPICS.dn(device, "answer"), encode(Answer(id=ask.id, what=what)))

    async def _take(self, talk: Talk, channel: str, seq: int) -> None:
        talk.count(channel, seq)
        async with talk.news:
            talk.news.notify_all()
        await self.link.publish(TOPICS.dn(talk.device, "receipt"), encode(Receipt(channel=channel, seq=seq)))

    def _admit(self, request: EnrolRequest) -> EnrolReply:
        talk = self.talks[request.token.rstrip("-")]
        talk.verifiers.add(request.verifier or "")
        if len(talk.verifiers) > 1:
            talk.broken.append("identity: the token is used again with another secret")
            return EnrolReply(ok=False, reason="the token was used")
        return EnrolReply(ok=True, username=talk.device)
