"""The reported state: derived from the record whenever it is asked for, so a restart reports what is true.

That the metadata was looked at again and found fresh is told along with other news; by itself only once what the hub
knows of it is SEEN_FRESH_NS old.
"""

from dataclasses import dataclass

import msgspec

from edge_agent import VERSION
from edge_agent.core.pointer import Record
from edge_agent.core.resume import ACTIVE
from edge_agent.core.slot import Deployed
from edge_agent.core.trust import Trusted
from edge_agent.ports import Ports
from edge_agent.service.courier import Uplink
from edge_agent.service.freshness import Freshness
from edge_agent.service.inference import Inference
from edge_agent.service.membership import Membership, Settled
from edge_agent.service.reconciler import Reconciler
from wire.codec import Document, encode
from wire.messages import Capabilities, Reported, SlotReport, TrustReport
from wire.ports import SECOND
from wire.trust import TIMESTAMP_LIFE_S

SEEN_FRESH_NS = TIMESTAMP_LIFE_S // 2 * SECOND
MAX_FINISHED = 16
"""Ended executions in one report; further ones are told in the next, once these are taken."""


class Reports:
    """What the hub is to know of the device, until it has taken it."""

    __slots__ = ("_membership", "_ports", "_reconciler", "_said", "_told")

    def __init__(self, ports: Ports, reconciler: Reconciler, membership: Membership | Settled) -> None:
        self._ports = ports
        self._reconciler = reconciler
        self._membership = membership
        self._told: frozenset[str] = frozenset()
        self._said: TrustReport | None = None

    async def build(self, seq: int) -> bytes:
        """The payload of `up/{device}/reported`."""
        capabilities = self._ports.machine.capabilities(await self._ports.disk.free_bytes())
        report = reported(self._reconciler.record, self._reconciler.refused, capabilities, seq)
        self._told = frozenset(one.execution for one in report.finished)
        self._said = report.trust
        return encode(_with_membership(report, self._membership))

    def news(self) -> bool:
        """Of what is known of trust, is there anything that cannot wait for the next report?"""
        now, said = _trust(self._reconciler.record.trust), self._said
        if said is None or now.verified_ns - said.verified_ns >= SEEN_FRESH_NS:
            return True
        return now != msgspec.structs.replace(said, verified_ns=now.verified_ns)

    def pressing(self) -> bool:
        """Is there more to tell than how far an installation has come?"""
        return all(state.phase not in ACTIVE for state in self._reconciler.record.slots.values())

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
