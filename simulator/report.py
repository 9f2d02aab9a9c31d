"""What a simulated run says at its end: what was expected, what happened, and the digest that proves a repetition."""

import msgspec

from simulator.fleet import Fleet


class Expectation(msgspec.Struct, frozen=True, kw_only=True):
    """Something that had to be so, and whether it was."""

    name: str
    passed: bool
    detail: str


class RolloutReport(msgspec.Struct, frozen=True, kw_only=True):
    """How one rollout went. `seconds` is virtual time from its start to its end."""

    version: int
    state: str
    reason: str
    waves_opened: int
    assigned: int
    committed: int
    failed: int
    seconds: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The whole run. `digest` covers every message on the broker in order, and is the same for the same settings."""

    seed: int
    devices: int
    passed: bool
    expectations: tuple[Expectation, ...]
    rollouts: tuple[RolloutReport, ...]
    virtual_s: float
    wall_s: float
    events: int
    published: int
    delivered: int
    transactions: int
    faults: dict[str, int]
    digest: str


def count_faults(fleet: Fleet) -> dict[str, int]:
    """Every fault that was fired, by kind."""
    faults = fleet.world.faults
    return {
        "lost_publishes": faults.lost_publishes,
        "lost_acks": faults.lost_acks,
        "lost_deliveries": faults.lost_deliveries,
        "duplicates": faults.duplicates,
        "reconnects": fleet.reconnects,
        "power_cuts": fleet.reboots,
        "hub_and_broker_kills": fleet.kills,
    }


def as_lines(report: Report) -> list[str]:
    """The report for people."""
    lines = [f"{report.devices} devices, seed {report.seed}"]
    for rollout in report.rollouts:
        reason = f" ({rollout.reason})" if rollout.reason else ""
        lines.append(
            f"version {rollout.version}: {rollout.state}{reason} after {rollout.seconds:.0f} s; "
            f"{rollout.committed} of {rollout.assigned} assigned committed, {rollout.failed} failed"
        )
    faults = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in report.faults.items())
    lines.append(f"faults: {faults}")
    lines.append(
        f"{report.virtual_s:.0f} s of virtual time in {report.wall_s:.1f} s: {report.events} events, "
        f"{report.published} messages in, {report.delivered} out, {report.transactions} transactions"
    )
    lines += [f"{'ok  ' if one.passed else 'FAIL'} {one.name}: {one.detail}" for one in report.expectations]
    lines.append(f"digest {report.digest}")
    return lines


def as_json(report: Report) -> str:
    """The report as one JSON object on one line."""
    return msgspec.json.encode(report).decode()
