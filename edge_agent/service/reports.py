"""The reported state: derived from the record whenever it is asked for, so a restart reports what is true."""

from dataclasses import dataclass

import msgspec

from edge_agent import VERSION
from edge_agent.core.pointer import Record
from edge_agent.core.resume import ACTIVE
from edge_agent.core.slot import Deployed
from edge_agent.core.trust import Trusted
from edge_agent.ports import Ports
from edge_agent.service.courier import CALM_NS, PACE_NS, Uplink
from edge_agent.service.freshness import Freshness
from edge_agent.service.inference import Inference
from edge_agent.service.membership import Membership, Settled
from edge_agent.service.reconciler import Reconciler
from wire.codec import Document, encode
from wire.messages import Capabilities, Phase, Reported, SlotReport, TrustReport

UNDER_WAY = (*ACTIVE, Phase.TRIAL)
MAX_FINISHED = 16
"""Ended executions in one report; further ones are told in the next, once these are taken."""


class Reports:
    """What the hub is to know of the device, until it has taken it."""

    __slots__ = ("_gist", "_membership", "_ports", "_reconciler", "_told")

    def __init__(self, ports: Ports, reconciler: Reconciler, membership: Membership | Settled) -> None:
        self._ports = ports
        self._reconciler = reconciler
        self._membership = membership
        self._told: frozenset[str] = frozenset()
        self._gist: tuple[object, ...] = ()
        """Of the newest report: what somebody may wait for."""

    async def build(self, seq: int) -> bytes:
        """The payload of `up/{device}/reported`."""
        capabilities = self._ports.machine.capabilities(await self._ports.disk.free_bytes())
        report = reported(self._reconciler.record, self._reconciler.refused, capabilities, seq)
        self._gist = self._pressing()
        self._told = frozenset(one.execution for one in report.finished)
        return encode(_with_membership(report, self._membership))

    def patience_ns(self) -> int:
        """How long after the newest report what has changed since need not be told.

        That another assignment was accepted may not wait, how far an installation has come may a little, and that a
        known root was found fresh once more for long.
        """
        if self._pressing()[:1] != self._gist[:1]:
            return 0
        if any(state.phase in UNDER_WAY for state in self._reconciler.record.slots.values()):
            return PACE_NS
        return CALM_NS if self._pressing() == self._gist else 0

    def _pressing(self) -> tuple[object, ...]:
        record = self._reconciler.record
        trust = msgspec.structs.replace(_trust(record.trust), verified_ns=0)
        return record.sequence, record.slots, trust, self._reconciler.refused, self._membership.certificate_expires_ns

    def on_taken(self) -> None:
        """The hub has receipted the newest report: how those executions ended need not be told again."""
        self._reconciler.on_outcomes_taken(self._told)


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
    serving: dict[str, str]
    """Slot -> the model that answers for it."""
    problem: str
    """What is wrong with its login or its connection, and what to do."""


@dataclass(frozen=True, slots=True)
class Told:
    """The services whose state is told."""

    reconciler: Reconciler
    inference: Inference
    freshness: Freshness
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
        trust_problem=parts.freshness.problem,
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
        digest=record.digest,
        agent=VERSION,
        capabilities=capabilities,
        trust=_trust(record.trust),
        slots=tuple(record.slots[name].told(name) for name in sorted(record.slots)),
        finished=finished(record),
        refused=refused,
    )


def finished(record: Record) -> tuple[SlotReport, ...]:
    """How executions ended that their slots have left."""
    return tuple(one for name in sorted(record.slots) for one in record.slots[name].finished)[:MAX_FINISHED]


def _trust(trust: Trusted) -> TrustReport:
    floors = trust.floors
    return TrustReport(
        root=floors.root,
        timestamp=floors.timestamp.version,
        snapshot=floors.snapshot.version,
        verified_ns=trust.verified_ns,
    )


def _with_membership(report: Reported, membership: Membership | Settled) -> Reported:
    return msgspec.structs.replace(report, certificate_expires_ns=membership.certificate_expires_ns)


def _name(deployed: Deployed | None) -> str:
    return f"{deployed.installed.model} {deployed.installed.version} {deployed.installed.variant}" if deployed else ""
