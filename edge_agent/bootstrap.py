"""The only module that knows concrete classes: it puts an agent together from settings, claim and identity."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from edge_agent.adapters.broker_access import BrokerAccess, credentials
from edge_agent.adapters.child_installer import ChildInstaller
from edge_agent.adapters.code_pages import give_back
from edge_agent.adapters.http_api import LocalApi
from edge_agent.adapters.machine import ThisMachine, read_overrides
from edge_agent.adapters.onnx_runtime import OnnxRuntime
from edge_agent.adapters.onnx_trainer import onnx_trainer
from edge_agent.adapters.p256_keys import P256Keys
from edge_agent.adapters.posix_disk import PosixDisk
from edge_agent.adapters.sqlite_captures import SqliteCaptures
from edge_agent.adapters.tuf_trust import TufTrust
from edge_agent.core.identity import Identity
from edge_agent.ports import Ports
from edge_agent.service.agent import Agent, Parts, offline_status
from edge_agent.service.asking import Asking
from edge_agent.service.claims import adopt_claim
from edge_agent.service.courier import Uplink
from edge_agent.service.downloads import Downloads
from edge_agent.service.enrolment import Desk, Enrolment
from edge_agent.service.freshness import Freshness
from edge_agent.service.identity import load_identity
from edge_agent.service.inference import Inference
from edge_agent.service.installation import Installation
from edge_agent.service.learning import LearningHost
from edge_agent.service.membership import Means, Member, Membership, Settled
from edge_agent.service.objects import Objects
from edge_agent.service.outbox import DEFAULT_BYTES, Outbox
from edge_agent.service.reconciler import Reconciler
from edge_agent.service.reports import Told, build_status
from edge_agent.service.tasks import Tasks
from edge_agent.service.telemetry import CLOSEST_S, INTERVAL_S, Known, Spacing, TelemetryReporter
from edge_agent.service.transfer import Line
from edge_agent.service.trusting import TRUST_WORK, Trusting
from edge_agent.settings import DEFAULT_SOCKET, REFRESH_TRUST_S, Settings
from federated.device.client import FederatedClient
from wire.adapters.mqtt_link import Credentials, MqttLink, Will
from wire.adapters.system import SystemClock, SystemIds, ThreadOffload
from wire.assignment import TransferPolicy
from wire.identity import ClaimFile
from wire.ports import Offload
from wire.topics import Topics
from wire.transfer.pace import Bucket

SETTLED_S = 5.0
"""By then a start is over: what it needed of the libraries' code is given back."""


@dataclass(frozen=True, slots=True)
class Offloads:
    """A thread each, so that a slow disk, a long training step and a prediction do not wait for one another."""

    disk: ThreadOffload
    captures: ThreadOffload
    inference: ThreadOffload
    training: ThreadOffload

    def close(self) -> None:
        """End the threads after what they are doing."""
        for one in (self.training, self.inference, self.captures, self.disk):
            one.close()


def make_offloads() -> Offloads:
    """Threads are started on first use."""
    return Offloads(*(ThreadOffload(name=name) for name in ("disk", "captures", "inference", "training")))


def open_desk(claim: ClaimFile) -> Desk:
    """A link to the enrolment listener of the claim's broker, for one exchange."""
    client = f"enrol-{SystemIds().new()[:16]}"
    link = MqttLink(claim.enrol or claim.broker, Credentials(claim.enrol_username, claim.enrol_password, client))
    return Desk(link, SystemClock(), Topics(claim.topic_root), client)


async def identify(disk: PosixDisk, settings: Settings, given: ClaimFile | None) -> tuple[ClaimFile, Identity]:
    """Claim and identity of this device; enrols it when it is new.

    A device that has an identity keeps it for now, even if the claim is another one: it must serve first.

    Raises:
        EnrolmentError: no claim, another device's claim, refused by the hub, or no answer.
        DamagedRecordError, DiskError: the data directory.
    """
    claim = await adopt_claim(disk, given)
    keys = P256Keys()
    identity = await load_identity(disk, keys, claim)
    if identity is None:
        enrolment = Enrolment(disk, keys, SystemIds(), settings.enrol_timeout_s)
        identity = await enrolment.enrol_first(claim, open_desk(claim))
    return claim, identity


@contextlib.asynccontextmanager
async def running_agent(
    settings: Settings, given: ClaimFile | None, on_crash: Callable[[BaseException], None]
) -> AsyncIterator[None]:
    """An agent that runs until the context is left. Errors at the start are raised; later ones go to `on_crash`."""
    root = Path(settings.data_dir).resolve()  # noqa: ASYNC240 - once, before anything is served
    offloads = make_offloads()
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(offloads.close)
        disk = PosixDisk(root, offloads.disk)
        claim, identity = await identify(disk, settings, given)
        captures = SqliteCaptures(root / "capture" / "captures.sqlite", offloads.captures)
        stack.callback(captures.close)
        stack.callback(offloads.close)  # its thread must be done with the file before the file is closed
        topics = Topics(claim.topic_root)
        link = _link(claim, identity, topics, settings.keepalive_s)
        ports = Ports(
            link=link,
            clock=SystemClock(),
            ids=SystemIds(),
            disk=disk,
            trust=TufTrust(claim.root, disk.locate(TRUST_WORK)),
            installer=ChildInstaller(disk.locate),
            runtime=OnnxRuntime(disk.locate, offloads.inference),
            captures=captures,
            machine=ThisMachine(read_overrides(settings.capabilities)),
            make_trainer=onnx_trainer,
        )
        uplink = Uplink(identity.username, topics, ports.link, ports.clock, Tasks(on_crash))
        policy = AgentPolicy(settings.telemetry_interval_s, settings.outbox_bytes, settings.refresh_trust_s)
        member = Member(claim, identity, P256Keys(), BrokerAccess(link), open_desk)
        agent, api = assemble(ports, uplink, disk.locate, offloads.training, policy, member)
        stack.push_async_callback(agent.stop)
        await agent.start()
        stack.push_async_callback(api.close)
        await api.listen_unix(Path(settings.socket) if settings.socket else root / DEFAULT_SOCKET)
        if settings.port:
            await api.listen_loopback(settings.port)
        settling = asyncio.get_running_loop().call_later(SETTLED_S, give_back)
        stack.callback(settling.cancel)
        yield


@dataclass(frozen=True, slots=True)
class AgentPolicy:
    """How often is measured and looked, and how much of the disk may hold what the hub has not taken yet."""

    telemetry_interval_s: float = INTERVAL_S
    outbox_bytes: int = DEFAULT_BYTES
    refresh_trust_s: float = REFRESH_TRUST_S
    telemetry_closest_s: float = CLOSEST_S


def assemble(
    ports: Ports,
    uplink: Uplink,
    locate: Callable[[str], str],
    training: Offload,
    policy: AgentPolicy,
    member: Member | None = None,
) -> tuple[Agent, LocalApi]:
    """The services of one device over any ports: real ones here, the simulator's and the tests' elsewhere.

    Without a `member`, its identity is the business of whoever calls.
    """
    objects = Objects(ports.disk)
    asking = Asking(uplink, ports.ids)
    bucket = Bucket(ports.clock.monotonic_ns())

    def transfer_policy() -> TransferPolicy:
        return reconciler.record.transfer

    line = Line(uplink.link, uplink.clock, ports.ids, uplink.topics, asking.put, transfer_policy, bucket)
    downloads = Downloads(ports.disk, objects, line)
    inference = Inference(ports, objects)
    trusting = Trusting(ports, uplink.device, asking)
    installation = Installation(ports, objects, downloads, trusting)
    reconciler = Reconciler(ports, objects, installation, inference, uplink.tasks)
    host = LearningHost(ports, objects, downloads, reconciler, locate)
    learner = FederatedClient(uplink.device, uplink.topics, uplink.link, uplink.clock, training, host)
    outbox = Outbox(ports.disk, ports.clock, uplink.tasks, policy.outbox_bytes)

    def known() -> Known:
        record = reconciler.record
        return Known(reconciler.durable_boot, record.updates_accepted, record.capture)

    spacing = Spacing(policy.telemetry_interval_s, policy.telemetry_closest_s)
    telemetry = TelemetryReporter(ports, uplink, outbox, known, spacing)
    inference.on_answered, inference.on_renewed = telemetry.changed, telemetry.renewed
    freshness = Freshness(trusting, uplink, ports.ids, policy.refresh_trust_s)
    membership = (
        Membership(member, Means(ports.disk, ports.ids, uplink, asking, trusting.now_ns)) if member else Settled()
    )
    told = Told(reconciler, inference, freshness, membership)
    parts = Parts(reconciler, downloads, asking, learner, telemetry, freshness, membership)
    agent = Agent(ports, uplink, parts)
    return agent, LocalApi(inference, lambda: build_status(ports, uplink, told))


def _link(claim: ClaimFile, identity: Identity, topics: Topics, keepalive_s: int) -> MqttLink:
    will = Will(topics.up(identity.username, "status"), offline_status())
    return MqttLink(claim.broker, credentials(identity), will=will, keepalive_s=keepalive_s)
