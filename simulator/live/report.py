"""What a live run says at its end, for people and as JSON."""

from collections.abc import Iterator

import msgspec

from simulator.live.snapshot import Snapshot

MEMOISED = "verdicts on metadata (time told to the minute) and digests of equal contents are computed once per process"
TRANSPORTS = {
    "plain": "TCP on loopback without TLS; the broker believes names, access rules in force",
    "mtls": "mutual TLS (P-256)",
    "claims": "as the claims say",
}


class RolledOut(msgspec.Struct, frozen=True, kw_only=True):
    """One version, and how long it took until the hub knew it on every device."""

    version: int
    seconds: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The whole run."""

    passed: bool
    transport: str
    memoised: str = MEMOISED
    joined_s: float = 0.0
    rollouts: tuple[RolledOut, ...] = ()
    storm_s: float | None = None
    """From the storm until all were back."""
    met_s: float | None = None
    """From the storm until the hub heard from all of them again that nothing else is desired of them."""
    lost: int = 0
    """Devices that are not as they should be, or of which the hub does not know that they are."""
    trouble: str = ""
    """What was not done in time."""
    fleet: Snapshot
    kib_per_device: float = 0.0


def as_lines(report: Report) -> Iterator[str]:
    """The report for people."""
    now = report.fleet
    yield f"{now.devices} devices over {report.transport}"
    yield f"enrolled {now.enrolled}, connected {now.connected}, after {report.joined_s:.1f} s"
    for one in report.rollouts:
        yield f"version {one.version}: everywhere after {one.seconds:.1f} s"
    if report.storm_s is not None:
        yield f"storm: all back after {report.storm_s:.1f} s ({now.connects} connections in all)"
    if report.met_s is not None:
        yield f"storm: every desired state met, by new reports, after {report.met_s:.1f} s"
    for what, count in sorted(now.running.items()):
        yield f"running {what}: {count}"
    yield f"payload: {_mb(now.sent_bytes)} sent, {_mb(now.received_bytes)} received; {now.predictions} predictions"
    yield f"storage: {_mb(now.disk_bytes)} on the devices' disks, {_mb(now.shared_bytes)} different"
    yield f"memory: {report.kib_per_device:.1f} KiB a device; processor: {now.cpu_s:.0f} s"
    yield f"memoised: {report.memoised} ({now.judged} judged, {now.hashed} hashed)"
    for reason, count in sorted(now.failed.items(), key=lambda one: -one[1])[:10]:
        yield f"failed {count}: {reason}"
    yield from (f"crashed: {crash}" for crash in now.crashes)
    if report.trouble:
        yield f"FAIL {report.trouble}"
    yield f"{'ok  ' if report.passed else 'FAIL'} lost: {report.lost}"


def as_json(report: Report) -> str:
    """The report as one JSON object on one line."""
    return msgspec.json.encode(report).decode()


def _mb(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
