"""Gates of a rollout wave: what the devices measured against what the plan demands, each verdict with its evidence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

COMMIT_RATE: Final = "commit_rate"
GOLDEN_AGREEMENT: Final = "golden_agreement"


@dataclass(frozen=True, slots=True)
class Gates:
    """Least shares (0..1) to pass, and how many ended executions a share "of completed" needs to mean anything."""

    commit_rate: float = 1.0
    golden_agreement: float = 1.0
    minimum_sample: int = 1


@dataclass(frozen=True, slots=True)
class Tally:
    """What is known of one wave. Failures that a person acknowledged are in none of the counts."""

    planned: int
    committed: int
    failed: int
    golden_matched: int
    golden_total: int

    @property
    def completed(self) -> int:
        """Executions that ended, either way."""
        return self.committed + self.failed


@dataclass(frozen=True, slots=True)
class Verdict:
    """One gate of one wave. `value` is None while there is nothing to judge."""

    gate: str
    passed: bool
    value: float | None
    threshold: float
    sample: int
    text: str


def judge(tally: Tally, gates: Gates) -> tuple[Verdict, ...]:
    """Has the wave earned its successor?"""
    return (_commit_rate(tally, gates), _golden_agreement(tally, gates))


def breach(tally: Tally, gates: Gates) -> str:
    """Why the wave can no longer be let go on; empty when it can. Errors are judged before successes.

    Two denominators at once: of the completed executions (once the sample is large enough), so that a large wave fails
    early, and of the whole wave, so that a small one cannot fail by chance of order.
    """
    allowed = 1.0 - gates.commit_rate
    for what, total, enough in (
        ("completed", tally.completed, tally.completed >= gates.minimum_sample),
        ("planned", tally.planned, tally.planned > 0),
    ):
        if enough and total and tally.failed / total > allowed + 1e-12:
            return f"gate {COMMIT_RATE}: {tally.failed} of {total} {what} executions failed, at most {allowed:.1%} may"
    golden = _golden_agreement(tally, gates)
    if golden.value is not None and tally.completed >= gates.minimum_sample and not golden.passed:
        return f"gate {GOLDEN_AGREEMENT}: {golden.text}"
    return ""


def passed(verdicts: Sequence[Verdict]) -> bool:
    """Did every gate pass?"""
    return all(verdict.passed for verdict in verdicts)


def _commit_rate(tally: Tally, gates: Gates) -> Verdict:
    value = tally.committed / tally.planned if tally.planned else None
    return Verdict(
        COMMIT_RATE,
        value is None or value >= gates.commit_rate - 1e-12,
        value,
        gates.commit_rate,
        tally.planned,
        f"{tally.committed} of {tally.planned} committed, {tally.failed} failed",
    )


def _golden_agreement(tally: Tally, gates: Gates) -> Verdict:
    value = tally.golden_matched / tally.golden_total if tally.golden_total else None
    needs_evidence = tally.planned > 0 and gates.golden_agreement > 0
    return Verdict(
        GOLDEN_AGREEMENT,
        value >= gates.golden_agreement - 1e-12 if value is not None else not needs_evidence,
        value,
        gates.golden_agreement,
        tally.golden_total,
        f"{tally.golden_matched} of {tally.golden_total} golden outputs reproduced on the devices",
    )
