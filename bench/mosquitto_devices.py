"""Devices for proofs on a real broker: agents' real services, and lean devices by the thousand, all in this process.

They enrol and log in with certificates of their own (mutual TLS). An agent has its disk and its models in memory; a
lean device says no more than that it is there.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.mosquitto_fleet import until
from edge_agent.adapters.broker_access import BrokerAccess, credentials
from edge_agent.adapters.onnx_trainer import onnx_trainer
from edge_agent.adapters.p256_keys import P256Keys
from edge_agent.bootstrap import AgentPolicy, assemble, open_desk
from edge_agent.errors import NoModelError
from edge_agent.ports import CanaryRequest, CanaryVerdict, Ports
from edge_agent.service.agent import offline_status
from edge_agent.service.courier import Uplink
from edge_agent.service.enrolment import Enrolment
from edge_agent.service.inference import Inference
from edge_agent.service.membership import Member
from edge_agent.service.tasks import Tasks
from simulator.fakes.device import FixedMachine, MemoryCaptures
from simulator.fakes.offload import InlineOffload
from simulator.fakes.runtime import LightRuntime, MemoryInstaller
from simulator.fakes.trust import InlineTrust
from simulator.memory_disk import MemoryDisk
from wire.adapters.mqtt_link import Credentials, MqttLink, Will
from wire.adapters.system import SystemClock, SystemIds
from wire.codec import decode, encode
from wire.identity import ClaimFile, EnrolReply, EnrolRequest
from wire.messages import Status
from wire.ports import Inbound, LinkError
from wire.topics import Topics

TELEMETRY_INTERVAL_S = 0.5
ENROL_TIMEOUT_S = 60.0
AT_ONCE = 200
PREDICT_EVERY_S = 0.1


class CountingInstaller(MemoryInstaller):
    """Counts how often each model was tried."""

    def __init__(self, disk: MemoryDisk, clock: SystemClock) -> None:
        super().__init__(disk, clock)
        self.tried: Counter[str] = Counter()

    async def canary(self, request: CanaryRequest) -> CanaryVerdict:
        """Count, then try."""
        self.tried[request.model] += 1
        return await super().canary(request)


@dataclass
class RealDevice:
    """An agent's services on a disk in memory, over a real link."""

    claim: ClaimFile
    predictions: int = 0
    installer: CountingInstaller = field(init=False)
    inference: Inference = field(init=False)
    application: asyncio.Task[None] = field(init=False)
    resting: bool = False

    @contextlib.asynccontextmanager
    async def working(self, on_crash: Callable[[BaseException], None]) -> AsyncIterator[None]:
        """Enrolled and at work, its application included."""
        disk, clock, ids = MemoryDisk(), SystemClock(), SystemIds()
        enrolment = Enrolment(disk, P256Keys(), ids, ENROL_TIMEOUT_S)
        identity = await enrolment.enrol_first(self.claim, open_desk(self.claim))
        topics = Topics(self.claim.topic_root)
        link = MqttLink(
            self.claim.broker,
            credentials(identity),
            will=Will(topics.up(identity.username, "status"), offline_status()),
        )
        self.installer = CountingInstaller(disk, clock)
        ports = Ports(
            link=link,
            clock=clock,
            ids=ids,
            disk=disk,
            trust=InlineTrust(self.claim.root),
            installer=self.installer,
            runtime=LightRuntime(disk, clock),
            captures=MemoryCaptures(),
            machine=FixedMachine(),
            make_trainer=onnx_trainer,
        )
        uplink = Uplink(identity.username, topics, link, clock, Tasks(on_crash))
        member = Member(self.claim, identity, P256Keys(), BrokerAccess(link), open_desk)
        agent, api = assemble(ports, uplink, str, InlineOffload(), AgentPolicy(TELEMETRY_INTERVAL_S), member)
        self.inference = api.inference
        await agent.start()
        self.application = asyncio.create_task(self._apply())
        try:
            yield
        finally:
            await self.rest()
            await agent.stop()

    async def rest(self) -> None:
        """The application predicts no more."""
        self.resting = True
        await self.application

    async def _apply(self) -> None:
        window = np.zeros(8, dtype=np.float32)
        while not self.resting:
            with contextlib.suppress(NoModelError):
                await self.inference.predict(window)
                self.predictions += 1
            await asyncio.sleep(PREDICT_EVERY_S)


class LeanDevice:
    """A device that connects and says that it is there, as often as it has to."""

    def __init__(self, claim: ClaimFile, login: Credentials) -> None:
        self.name = claim.device
        self.login = login
        self.claim = claim
        self.ups: list[float] = []
        """When it was connected."""
        self.boot = 1
        self._topic = Topics(claim.topic_root).up(self.name, "status")
        self._speaking: asyncio.Task[None] | None = None
        self.link = self.new_link()

    def new_link(self) -> MqttLink:
        """As after a restart."""
        link = MqttLink(self.claim.broker, self.login, will=Will(self._topic, offline_status()))
        link.on_up = self._up
        return link

    async def say(self, link: MqttLink | None = None) -> None:
        """Here I am."""
        status = Status(online=True, boot=self.boot, session=f"{self.name}-{self.boot}")
        with contextlib.suppress(LinkError):
            await (link or self.link).publish(self._topic, encode(status), retain=True)

    def _up(self) -> None:
        self.ups.append(asyncio.get_running_loop().time())
        self._speaking = asyncio.create_task(self.say())


async def lean_devices(claims: Sequence[ClaimFile]) -> list[LeanDevice]:
    """Enrolled one after the other over a single connection to the enrolment listener; not connected yet."""
    first, client = claims[0], f"enrol-{random.randbytes(8).hex()}"
    assert first.enrol is not None
    topics = Topics(first.topic_root)
    desk = MqttLink(first.enrol, Credentials(first.enrol_username, first.enrol_password, client))
    replies: asyncio.Queue[EnrolReply] = asyncio.Queue()

    def take(message: Inbound) -> None:
        message.ack()
        replies.put_nowait(decode(message.payload, EnrolReply))

    desk.on_message = take
    await desk.subscribe(topics.enrol("dn", client))
    await desk.start()
    await until("the enrolment listener answers", lambda: desk.connected, 20)
    made = {claim.device: P256Keys().make(claim.device) for claim in claims}
    found = {}
    for start in range(0, len(claims), AT_ONCE):
        part = claims[start : start + AT_ONCE]
        for claim in part:
            request = EnrolRequest(token=claim.token, csr=made[claim.device].csr)
            await desk.publish(topics.enrol("up", client), encode(request))
        for _ in part:
            reply = await asyncio.wait_for(replies.get(), ENROL_TIMEOUT_S)
            found[reply.username] = reply.certificate
    await desk.stop()
    logins = (Credentials(one.device, certificate=found[one.device], key=made[one.device].key) for one in claims)
    return [LeanDevice(claim, login) for claim, login in zip(claims, logins, strict=True)]
