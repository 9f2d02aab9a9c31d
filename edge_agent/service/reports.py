"""The reported state: derived from the record whenever it is asked for, so a restart reports what is true."""

from edge_agent import VERSION
from edge_agent.core.pointer import Record
from edge_agent.core.slot import Deployed, State
from edge_agent.core.trust import Trusted
from edge_agent.ports import Ports
from edge_agent.service.courier import Uplink
from edge_agent.service.freshness import Freshness
from edge_agent.service.reconciler import Reconciler
from wire.codec import Document, encode
from wire.messages import Capabilities, Installed, Reported, SlotReport, TrustReport


async def build_reported(ports: Ports, reconciler: Reconciler, seq: int) -> bytes:
    """The payload of `up/{device}/reported`."""
    capabilities = ports.machine.capabilities(await ports.disk.free_bytes())
    return encode(reported(reconciler.record, reconciler.refused, capabilities, seq))


class DeviceStatus(Document, frozen=True, kw_only=True):
    """What `fleetloop agent status` shows."""

    device: str
    connected: bool
    boot: int
    reported: Reported
    trust_problem: str
    """Why there is no fresh trust metadata; empty while there is."""
    predictions: int
    captured: int
    federated_updates_sent: int
    peak_rss_bytes: int


async def build_status(ports: Ports, reconciler: Reconciler, uplink: Uplink, freshness: Freshness) -> bytes:
    """The answer to `GET /v1/status`."""
    record = reconciler.record
    counts = await ports.captures.counts()
    capabilities = ports.machine.capabilities(await ports.disk.free_bytes())
    status = DeviceStatus(
        device=uplink.device,
        connected=uplink.link.connected,
        boot=record.boot,
        reported=reported(record, reconciler.refused, capabilities, 0),
        trust_problem=freshness.problem,
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
        slots=tuple(_slot(name, record.slots[name]) for name in sorted(record.slots)),
        trust=_trust(record.trust),
        refused=refused,
    )


def _trust(trust: Trusted) -> TrustReport:
    floors = trust.floors
    return TrustReport(
        root=floors.root,
        timestamp=floors.timestamp.version,
        snapshot=floors.snapshot.version,
        verified_ns=trust.verified_ns,
    )


def _slot(name: str, state: State) -> SlotReport:
    execution = state.desired.execution if state.desired else None
    return SlotReport(
        slot=name,
        phase=state.phase,
        current=_installed(state.current),
        previous=_installed(state.previous),
        trial=_installed(state.trial),
        execution=execution.id if execution else "",
        attempt=execution.attempt if execution else 0,
        outcome=state.outcome,
        reason=state.reason,
        golden=state.golden,
        figures=state.figures,
    )


def _installed(deployed: Deployed | None) -> Installed | None:
    return deployed.installed if deployed else None
