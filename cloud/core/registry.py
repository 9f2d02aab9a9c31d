"""The life of a version: it waits for the publisher, then is released or refused. Only released ones roll out."""

from enum import StrEnum
from typing import Final


class VersionState(StrEnum):
    """Where a version stands. The strings are persisted and never change."""

    AWAITING_SIGNATURE = "awaiting_signature"
    RELEASED = "released"
    REFUSED = "refused"


class SigningDecision(StrEnum):
    """What the publisher said."""

    SIGNED = "signed"
    REFUSED = "refused"


DECISIONS: Final[dict[tuple[VersionState, SigningDecision], VersionState]] = {
    (VersionState.AWAITING_SIGNATURE, SigningDecision.SIGNED): VersionState.RELEASED,
    (VersionState.AWAITING_SIGNATURE, SigningDecision.REFUSED): VersionState.REFUSED,
    (VersionState.RELEASED, SigningDecision.SIGNED): VersionState.RELEASED,
    (VersionState.REFUSED, SigningDecision.REFUSED): VersionState.REFUSED,
}
"""Repeating a decision is harmless; a missing key contradicts an earlier one."""


def why_not_rolled_out(state: VersionState, reason: str, retired: str) -> str:
    """Why a version in `state`, `retired` for some reason, cannot be rolled out or learned from; empty when it can."""
    if retired:
        return f"it was retired: {retired}"
    match state:
        case VersionState.RELEASED:
            return ""
        case VersionState.AWAITING_SIGNATURE:
            return "it is not signed yet: the publisher has to approve it first"
        case VersionState.REFUSED:
            return f"the publisher refused it: {reason}"
