"""What may be signed. Pure: request, earlier signature and policy in, reasons against signing out.

Two kinds of reasons. `integrity` rules hold for everyone: the release is what the report describes, and its counter
never falls. `merit` rules are the policy's thresholds; a person who approves by hand may waive those, and only those.
"""

from collections.abc import Iterator
from hashlib import sha256

import msgspec

from cloud.publisher.request import GateReport, Measured, SigningRequest
from wire.codec import MAX_RELEASE_BYTES, decode
from wire.errors import WireError
from wire.release import Release, Variant


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Thresholds for signing without a person."""

    max_accuracy_drop: float = 0.01
    """Largest loss of accuracy against the fp32 parent, absolute, where the hub holds data to measure it."""
    min_agreement: float = 0.97
    """Least share of inputs on which a variant of a federated parent decides as the parent does."""
    max_bytes_ratio: float = 1.0
    """Largest size of a variant as a share of the fp32 parent."""


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """What was signed last for a model."""

    version: int
    counter: int
    payload_sha256: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Reasons against signing; none of either kind means: sign. `counter` is the release's, 0 when it is unreadable."""

    integrity: tuple[str, ...] = ()
    merit: tuple[str, ...] = ()
    counter: int = 0


def judge(request: SigningRequest, last: Signed | None, policy: Policy) -> Verdict:
    """Judge one request; `last` is what was signed last for its model."""
    try:
        release = decode(request.payload, Release, limit=MAX_RELEASE_BYTES)
        report = request.report()
    except WireError as error:
        return Verdict(integrity=(str(error),))
    return Verdict(
        integrity=(*_identity(request, release), *_counter(request, release, last), *_consistency(release, report)),
        merit=tuple(_merit(release, report, policy)),
        counter=release.counter,
    )


def _identity(request: SigningRequest, release: Release) -> Iterator[str]:
    if (release.model, release.version) != (request.model, request.version):
        asked = f"{request.model} version {request.version}"
        yield f"the request is for {asked}, the release says {release.model} version {release.version}"


def _counter(request: SigningRequest, release: Release, last: Signed | None) -> Iterator[str]:
    if last is None or last.payload_sha256 == sha256(request.payload).hexdigest():
        return
    if release.counter <= last.counter:
        yield f"counter {release.counter} is not above {last.counter}, which was signed for version {last.version}"


def _consistency(release: Release, report: GateReport) -> Iterator[str]:
    parent = report.candidate(report.parent)
    if parent is None or parent.model is None or parent.model.sha256 != release.parent.sha256:
        yield f"the parent {report.parent} that was measured is not the release's parent file"
    if release.variant(report.chosen) is None:
        yield f"the chosen variant {report.chosen} is not in the release"
    if release.companions.train_step is not None and release.learning is None:
        yield "the release has a train-step graph, but does not say how to feed it"
    for variant in release.variants:
        yield from _same(variant, report.candidate(variant.name))


def _same(variant: Variant, candidate: Measured | None) -> Iterator[str]:
    if candidate is None or candidate.model is None:
        yield f"variant {variant.name} was never measured"
        return
    if not candidate.accepted:
        yield f"variant {variant.name} was refused by a gate: {'; '.join(candidate.reasons) or 'no reason given'}"
    if (candidate.model.sha256, candidate.model.bytes) != (variant.file.sha256, variant.file.bytes):
        yield f"variant {variant.name} is not the file that was measured"
    for name, claimed in sorted(variant.metrics.items()):
        if claimed != candidate.metric(name):
            yield f"variant {variant.name} claims {name} {claimed}, but {candidate.metric(name)} was measured"


def _merit(release: Release, report: GateReport, policy: Policy) -> Iterator[str]:
    learned = report.kind == "derive"
    if learned and (report.federated is None or not report.federated.passed):
        why = report.federated.reason if report.federated else "there is none"
        yield f"federated evaluation did not approve the parent: {why}"
    imported = report.kind == "import"
    if imported:
        yield "it was made elsewhere and nothing was measured by the hub: a person has to approve it"
    for variant in release.variants:
        ratio = variant.file.bytes / release.parent.bytes
        if ratio > policy.max_bytes_ratio:
            allowed = f"at most {policy.max_bytes_ratio:.2f} allowed"
            yield f"variant {variant.name} is {ratio:.2f} times the parent's size, {allowed}"
        if not imported:
            yield from _agreement(variant, policy) if learned else _accuracy(variant, report, policy)


def _accuracy(variant: Variant, report: GateReport, policy: Policy) -> Iterator[str]:
    fp32 = report.candidate(report.parent)
    parent, own = fp32.metric("accuracy") if fp32 else None, variant.metrics.get("accuracy")
    if parent is None or own is None:
        yield f"accuracy of {'the parent' if parent is None else f'variant {variant.name}'} was not measured"
    elif not parent - own <= policy.max_accuracy_drop + 1e-9:
        allowed = f"at most {policy.max_accuracy_drop:.4f} allowed"
        yield f"variant {variant.name} loses {parent - own:.4f} accuracy, {allowed}"


def _agreement(variant: Variant, policy: Policy) -> Iterator[str]:
    own = variant.metrics.get("agreement")
    if own is None:
        yield f"agreement of variant {variant.name} with the parent was not measured"
    elif not own >= policy.min_agreement - 1e-9:
        required = f"at least {policy.min_agreement:.4f} required"
        yield f"variant {variant.name} agrees with the parent on {own:.4f}, {required}"
