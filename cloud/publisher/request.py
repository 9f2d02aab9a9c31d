"""What the publisher is shown: the exact release bytes to sign, and the report on what was measured before.

The report is advice, so unknown fields in it are passed over; the release is what gets signed, so there they are not.
"""

from typing import Literal

import msgspec

from wire.errors import MalformedError


class GroupResult(msgspec.Struct, frozen=True, kw_only=True):
    """What federated evaluation said of one group of devices."""

    name: str
    passed: bool
    text: str


class FederatedVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What federated evaluation said of the parent, on the devices' own held-out data."""

    passed: bool
    reason: str = ""
    groups: tuple[GroupResult, ...] = ()


class MeasuredFile(msgspec.Struct, frozen=True, kw_only=True):
    """The file that was measured."""

    sha256: str
    bytes: int


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate as the optimizer saw it; `model` and `metrics` are None when it could not be made or loaded."""

    name: str
    accepted: bool
    reasons: tuple[str, ...] = ()
    model: MeasuredFile | None = None
    metrics: dict[str, float] | None = None

    def metric(self, name: str) -> float | None:
        """One measured figure."""
        return (self.metrics or {}).get(name)


class GateReport(msgspec.Struct, frozen=True, kw_only=True):
    """Every candidate as measured, and the verdict of the devices if they made the parent (kind "derive").

    Of an import nothing was measured: its figures are its maker's.
    """

    kind: Literal["train", "derive", "import"]
    parent: str
    """Name of the fp32 candidate."""
    chosen: str
    candidates: tuple[Measured, ...]
    federated: FederatedVerdict | None = None

    def candidate(self, name: str) -> Measured | None:
        """The candidate called `name`, if there is one."""
        return next((candidate for candidate in self.candidates if candidate.name == name), None)


class SigningRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One version that waits for a signature. `payload` is the encoded `wire.release.Release`, base64 in JSON."""

    id: str
    model: str
    version: int
    payload: bytes
    gate_report: dict[str, object]

    def report(self) -> GateReport:
        """The gate report. Raises MalformedError naming what is missing."""
        try:
            return msgspec.convert(self.gate_report, GateReport)
        except msgspec.ValidationError as error:
            raise MalformedError(f"gate report: {error}") from error
