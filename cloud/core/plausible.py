"""What a device may say of itself: figures that cannot be true are refused before they reach the database or a sum.

An enrolled device can still be broken or hostile. One absurd number must not overflow a column, a sequence that the hub
counts on from, or a mean over the whole fleet.
"""

from collections.abc import Collection
from typing import Final

from wire.errors import MalformedError
from wire.histogram import bucket
from wire.messages import ModelStats, Reported, SlotReport, Status, Telemetry

MAX_COUNT: Final = 2**53
"""Counters and sequence numbers: what JSON readers everywhere keep exactly, far below the database's 2**63."""
MAX_SEQ: Final = 2**63 - 1
"""Of a message: boot number in the high half, so it needs all bits of a signed column."""
MAX_BOOT: Final = 2**31 - 1
MAX_VERSION: Final = 2**31 - 1
MAX_GOLDEN: Final = 10_000
"""Golden outputs of one execution; a larger number would outweigh the rest of its wave."""
MAX_BUCKET: Final = bucket(24 * 3600 * 1e6)
"""A prediction that took a day."""


def check_status(status: Status) -> None:
    """Raises MalformedError."""
    _within("boot", status.boot, MAX_BOOT)


def check_reported(reported: Reported) -> None:
    """Raises MalformedError."""
    _within("seq", reported.seq, MAX_SEQ)
    _within("sequence", reported.sequence, MAX_COUNT)
    if "\0" in reported.agent:
        raise MalformedError("agent: a text holds a NUL character, which no database keeps")
    for slot in (*reported.slots, *reported.finished):
        _check_slot(slot)


def check_telemetry(telemetry: Telemetry) -> None:
    """Raises MalformedError."""
    _within("seq", telemetry.seq, MAX_SEQ)
    _within("at_ns", telemetry.at_ns, MAX_SEQ)
    _within("dropped", telemetry.dropped, MAX_COUNT)
    for one in telemetry.stats:
        _check_stats(one)


def _check_slot(slot: SlotReport) -> None:
    if "\0" in slot.reason + slot.execution:
        raise MalformedError(f"slot {slot.slot}: a text holds a NUL character, which no database keeps")
    if slot.current is not None:
        _within(f"version in slot {slot.slot}", slot.current.version, MAX_VERSION)
    golden = slot.golden
    if golden is not None and not 0 <= golden.matched <= golden.total <= MAX_GOLDEN:
        raise MalformedError(f"slot {slot.slot}: {golden.matched} of {golden.total} golden outputs cannot be")


def _check_stats(one: ModelStats) -> None:
    _within("version", one.version, MAX_VERSION)
    if not 0 <= one.correct <= one.feedback <= one.predictions <= MAX_COUNT:
        raise MalformedError(f"counters of {one.model} version {one.version} contradict each other")
    if not 0.0 <= one.confidence_sum <= one.predictions * (1 + 1e-6):
        raise MalformedError(f"confidence of {one.model} version {one.version} lies outside 0 to 1")
    _all_within("latency bucket", one.latency_us, MAX_BUCKET)
    _all_within("latency count", one.latency_us.values(), MAX_COUNT)


def _all_within(what: str, values: Collection[int], highest: int) -> None:
    if values:
        _within(what, min(values), highest)
        _within(what, max(values), highest)


def _within(what: str, value: int, highest: int) -> None:
    if not 0 <= value <= highest:
        raise MalformedError(f"{what} {value} lies outside 0 to {highest}")
