"""The reported state: derived from the record whenever it is asked for, so a restart reports what is true."""

from edge_agent import VERSION
from edge_agent.core.pointer import Record
from edge_agent.ports import Ports
from edge_agent.service.courier import Uplink
from edge_agent.service.reconciler import Reconciler
from wire.codec import Document, encode
from wire.messages import Capabilities, Reported, SlotReport

MAX_FINISHED = 16
"""Ended executions in one report; further ones are told in the next, once these are taken."""


class Reports:
    """What the hub is to know of the device, until it has taken it."""

    def __init__(self, ports: Ports, reconciler: Reconciler) -> None:
        self._ports = ports
        self._reconciler = reconciler
        self._told: frozenset[str] = frozenset()

    async def build(self, seq: int) -> bytes:
        """The payload of `up/{device}/reported`."""
        capabilities = self._ports.machine.capabilities(await self._ports.disk.free_bytes())
        report = reported(self._reconciler.record, self._reconciler.refused, capabilities, seq)
        self._told = frozenset(one.execution for one in report.finished)
        return encode(report)

    def on_taken(self) -> None:
        """The hub has receipted the newest report: how those executions ended need not be told again."""
        self._reconciler.on_outcomes_taken(self._told)


class DeviceStatus(Document, frozen=True, kw_only=True):
    """What `fleetloop agent status` shows."""

    device: str
    connected: bool
    boot: int
    reported: Reported
    predictions: int
    captured: int
    federated_updates_sent: int
    peak_rss_bytes: int


async def build_status(ports: Ports, reconciler: Reconciler, uplink: Uplink) -> bytes:
    """The answer to `GET /v1/status`."""
    record = reconciler.record
    counts = await ports.captures.counts()
    capabilities = ports.machine.capabilities(await ports.disk.free_bytes())
    status = DeviceStatus(
        device=uplink.device,
        connected=uplink.link.connected,
        boot=record.boot,
        reported=reported(record, reconciler.refused, capabilities, 0),
        predictions=sum(tally.predictions for tally in counts.tallies),
        captured=counts.captured,
        federated_updates_sent=record.updates_accepted,
        peak_rss_bytes=ports.machine.peak_rss_bytes(),
    )
    return encode(status)


def reported(record: Record, refused: str, capabilities: Capabilities, seq: int) -> Reported:
    """How things stand."""
    return Reported(
        seq=seq,
        sequence=record.sequence,
        agent=VERSION,
        capabilities=capabilities,
        slots=tuple(record.slots[name].told(name) for name in sorted(record.slots)),
        finished=finished(record),
        refused=refused,
    )


def finished(record: Record) -> tuple[SlotReport, ...]:
    """How executions ended that their slots have left."""
    return tuple(one for name in sorted(record.slots) for one in record.slots[name].finished)[:MAX_FINISHED]
