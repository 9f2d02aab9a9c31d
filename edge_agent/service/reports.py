"""The reported state: derived from the record whenever it is asked for, so a restart reports what is true."""

from dataclasses import dataclass

import msgspec

from edge_agent import VERSION
from edge_agent.core.pointer import Record
from edge_agent.core.slot import Deployed, State
from edge_agent.ports import Ports
from edge_agent.service.courier import Uplink
from edge_agent.service.inference import Inference
from edge_agent.service.membership import Membership, Settled
from edge_agent.service.reconciler import Reconciler
from wire.codec import Document, encode
from wire.messages import Capabilities, Installed, Reported, SlotReport


async def build_reported(ports: Ports, reconciler: Reconciler, membership: Membership | Settled, seq: int) -> bytes:
    """The payload of `up/{device}/reported`."""
    capabilities = ports.machine.capabilities(await ports.disk.free_bytes())
    report = reported(reconciler.record, reconciler.refused, capabilities, seq)
    return encode(_with_membership(report, membership))


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
    serving: dict[str, str]
    """Slot -> the model that answers for it."""
    problem: str
    """What is wrong with its login or its connection, and what to do."""


@dataclass(frozen=True, slots=True)
class Told:
    """The services whose state is told."""

    reconciler: Reconciler
    inference: Inference
    membership: Membership | Settled


async def build_status(ports: Ports, uplink: Uplink, parts: Told) -> bytes:
    """The answer to `GET /v1/status`."""
    record, membership = parts.reconciler.record, parts.membership
    counts = await ports.captures.counts()
    capabilities = ports.machine.capabilities(await ports.disk.free_bytes())
    status = DeviceStatus(
        device=uplink.device,
        connected=uplink.link.connected,
        boot=record.boot,
        reported=_with_membership(reported(record, parts.reconciler.refused, capabilities, 0), membership),
        predictions=sum(tally.predictions for tally in counts.tallies),
        captured=counts.captured,
        federated_updates_sent=record.updates_accepted,
        peak_rss_bytes=ports.machine.peak_rss_bytes(),
        serving={slot: _name(parts.inference.live(slot)) for slot in parts.inference.slots},
        problem=membership.problem(),
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
        refused=refused,
    )


def _with_membership(report: Reported, membership: Membership | Settled) -> Reported:
    return msgspec.structs.replace(report, certificate_expires_ns=membership.certificate_expires_ns)


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


def _name(deployed: Deployed | None) -> str:
    return f"{deployed.installed.model} {deployed.installed.version} {deployed.installed.variant}" if deployed else ""


def _installed(deployed: Deployed | None) -> Installed | None:
    return deployed.installed if deployed else None
