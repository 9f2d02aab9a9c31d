"""How a live fleet stands at a moment, as its processes tell it once a second."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Counts over the devices of a process, or of all."""

    devices: int = 0
    enrolled: int = 0
    connected: int = 0
    connects: int = 0
    """Times that a broker has accepted a device."""
    running: Mapping[str, int] = {}
    """Model and version -> devices on which it is committed."""
    failed: Mapping[str, int] = {}
    """Reason -> devices; of a process, the most frequent ones."""
    crashes: tuple[str, ...] = ()
    """Exceptions that nobody caught: defects."""
    sent_bytes: int = 0
    received_bytes: int = 0
    predictions: int = 0
    disk_bytes: int = 0
    """Of the devices' files: what they would take if nothing were shared."""
    shared_bytes: int = 0
    """Of the different contents behind them."""
    judged: int = 0
    """Judgements of metadata that were made; all others were the same as one of these."""
    hashed: int = 0
    """Contents that were hashed; all others were known."""
    grown_kib: int = 0
    """Proportional set size of the processes, without what they had before their first device."""
    cpu_s: float = 0.0

    @property
    def kib_per_device(self) -> float:
        """What one device costs."""
        return self.grown_kib / max(1, self.devices)


def together(snapshots: Iterable[Snapshot]) -> Snapshot:
    """All of them as one."""
    total = Snapshot()
    for one in snapshots:
        added = {name: _sum(getattr(total, name), value) for name, value in msgspec.structs.asdict(one).items()}
        total = Snapshot(**added)
    return total


def _sum(one: Any, other: Any) -> Any:
    """Of counts, of tallies, of tuples."""
    return Counter(one) + Counter(other) if isinstance(other, Mapping) else one + other


def pss_kib() -> int:
    """Proportional set size of this process, KiB (Linux); 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
