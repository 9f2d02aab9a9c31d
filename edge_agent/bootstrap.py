"""The only module that knows concrete classes: it puts an agent together from settings, claim and identity."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from edge_agent.adapters.child_installer import ChildInstaller
from edge_agent.adapters.dsse_trust import DsseTrust
from edge_agent.adapters.http_api import LocalApi
from edge_agent.adapters.machine import ThisMachine, read_overrides
from edge_agent.adapters.onnx_runtime import OnnxRuntime
from edge_agent.adapters.posix_disk import PosixDisk
from edge_agent.adapters.sqlite_captures import SqliteCaptures
from edge_agent.ports import Ports
from edge_agent.service.agent import Agent, Parts, offline_status
from edge_agent.service.asking import Asking
from edge_agent.service.claims import adopt_claim
from edge_agent.service.courier import Uplink
from edge_agent.service.downloads import Downloads
from edge_agent.service.durable import write_atomic
from edge_agent.service.enrolment import IDENTITY, Enrolment, Identity, prepare_identity
from edge_agent.service.inference import Inference
from edge_agent.service.installation import Installation
from edge_agent.service.learning import LearningHost
from edge_agent.service.objects import Objects
from edge_agent.service.outbox import DEFAULT_BYTES, Outbox
from edge_agent.service.reconciler import Reconciler
from edge_agent.service.reports import build_status
from edge_agent.service.tasks import Tasks
from edge_agent.service.telemetry import Known, TelemetryReporter
from edge_agent.settings import DEFAULT_SOCKET, Settings
from federated.device.client import FederatedClient
from wire.adapters.mqtt_link import Credentials, MqttLink, Will
from wire.adapters.system import SystemClock, SystemIds, ThreadOffload
from wire.codec import encode
from wire.identity import ClaimFile
from wire.ports import Offload
from wire.topics import Topics


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


async def identify(disk: PosixDisk, settings: Settings, given: ClaimFile | None) -> tuple[ClaimFile, Identity]:
    """Claim and identity of this device; enrols it when it is new.

    Raises:
        EnrolmentError: no claim, another device's claim, refused by the hub, or no answer.
        DamagedRecordError, DiskError: the data directory.
    """
    ids = SystemIds()
    claim = await adopt_claim(disk, given)
    identity = await prepare_identity(disk, ids, claim)
    if not identity.enrolled:
        client = f"enrol-{ids.new()[:16]}"
        link = MqttLink(claim.broker, Credentials(claim.enrol_username, claim.enrol_password, client))
        enrolment = Enrolment(link, SystemClock(), Topics(claim.topic_root), client)
        identity = await enrolment.run(claim, identity, settings.enrol_timeout_s)
        await write_atomic(disk, IDENTITY, encode(identity))
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
        ports = Ports(
            link=_link(claim, identity, topics, settings.keepalive_s),
            clock=SystemClock(),
            ids=SystemIds(),
            disk=disk,
            trust=DsseTrust(identity.username, claim.director_keys, claim.publisher_keys),
            installer=ChildInstaller(disk.locate),
            runtime=OnnxRuntime(disk.locate, offloads.inference),
            captures=captures,
            machine=ThisMachine(read_overrides(settings.capabilities)),
        )
        uplink = Uplink(identity.username, topics, ports.link, ports.clock, Tasks(on_crash))
        policy = TelemetryPolicy(settings.telemetry_interval_s, settings.outbox_bytes)
        agent, api = assemble(ports, uplink, disk.locate, offloads.training, policy)
        stack.push_async_callback(agent.stop)
        await agent.start()
        stack.push_async_callback(api.close)
        await api.listen_unix(Path(settings.socket) if settings.socket else root / DEFAULT_SOCKET)
        if settings.port:
            await api.listen_loopback(settings.port)
        yield


@dataclass(frozen=True, slots=True)
class TelemetryPolicy:
    """How often is measured, and how much of the disk may hold what the hub has not taken yet."""

    interval_s: float
    outbox_bytes: int = DEFAULT_BYTES


def assemble(
    ports: Ports, uplink: Uplink, locate: Callable[[str], str], training: Offload, policy: TelemetryPolicy
) -> tuple[Agent, LocalApi]:
    """The services of one device over any ports: real ones here, the simulator's and the tests' elsewhere."""
    objects = Objects(ports.disk, ports.trust)
    asking = Asking(uplink, ports.ids)
    downloads = Downloads(ports, uplink.topics, objects, asking)
    inference = Inference(ports, objects)
    installation = Installation(ports, objects, downloads)
    reconciler = Reconciler(ports, objects, installation, inference, uplink.tasks)
    downloads.policy = lambda: reconciler.record.transfer
    host = LearningHost(ports, objects, downloads, reconciler, locate)
    learner = FederatedClient(uplink.device, uplink.topics, uplink.link, uplink.clock, training, host)
    outbox = Outbox(ports.disk, ports.clock, uplink.tasks, policy.outbox_bytes)

    def known() -> Known:
        return Known(reconciler.durable_boot, reconciler.record.updates_accepted)

    telemetry = TelemetryReporter(ports, uplink, outbox, known, policy.interval_s)
    inference.on_answered = telemetry.changed
    agent = Agent(ports, uplink, Parts(reconciler, downloads, asking, learner, telemetry))
    return agent, LocalApi(inference, lambda: build_status(ports, reconciler, uplink))


def _link(claim: ClaimFile, identity: Identity, topics: Topics, keepalive_s: int) -> MqttLink:
    will = Will(topics.up(identity.username, "status"), offline_status())
    credentials = Credentials(identity.username, identity.password)
    return MqttLink(claim.broker, credentials, will=will, keepalive_s=keepalive_s)
