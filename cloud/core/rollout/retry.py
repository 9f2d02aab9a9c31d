"""What an ended execution means for its device: final, or another attempt after a while in the penalty box."""

from cloud.core.rollout.machine import SECOND
from cloud.core.rollout.plan import Plan
from wire.messages import Outcome

MAX_DELAY_S = 7 * 24 * 3600.0


def next_try_ns(plan: Plan, outcome: Outcome, attempt: int, used: int, now_ns: int) -> int | None:
    """When the device may be asked again after its `attempt` ended so; None = that was final.

    `used`: attempts that the rollout has repeated so far, of its whole budget.
    """
    retry = plan.retry
    if outcome not in retry.outcomes or attempt >= retry.attempts or used >= retry.budget:
        return None
    return now_ns + int(min(MAX_DELAY_S, retry.delay_s * 2 ** min(attempt - 1, 30)) * SECOND)
