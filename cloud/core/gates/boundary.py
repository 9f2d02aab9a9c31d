"""Where the ratio test refuses, so that the declared chance of a false halt is used up rather than merely kept.

Wald's bound, 1 / error, counts on a ratio that stops exactly there. A failure carries it beyond: by up to the weight
of one failure, and what lies beyond is certainty that nobody asked for, paid for in devices. How far it is carried on
average can be computed exactly: the chance of ever getting to the bound, under the good rate, is the mean of 1 / ratio
where it gets there, under the bad one (Wald's identity), and that takes a walk over the counts of failures.
"""

import functools
import math

import numpy as np

_STEPS = 4_000
"""Executions that are looked at; rates so close that they take more have steps so small that little lies beyond."""
_DECISIONS = 8
"""A decision that takes a bad version so many times the executions it takes on average is too rare to matter."""
_ROUNDS = 4
_CLOSE = 0.005
"""Relative error of the rate that is good enough."""


@functools.lru_cache(maxsize=256)
def refuse_from(good: float, bad: float, error: float) -> float:
    """The least log ratio that refuses. Looked at after every execution, for ever, a good version gets there with a
    chance of at most `error`."""
    wald = -math.log(error)
    bound = best = wald
    for _ in range(_ROUNDS):
        chance = _ever(bound, good, bad)
        if chance is None:
            return wald
        if chance <= error:
            best = min(best, bound)
            if chance > (1 - _CLOSE) * error:
                break
        bound += math.log(chance / error) + (_CLOSE / 2 if chance > error else 0.0)
    return best


def _ever(bound: float, good: float, bad: float) -> float | None:
    """The chance that the ratio ever gets to `bound` under the good rate, from above; None = it would take too long."""
    if good >= 1 or bad <= 0 or bound <= 0:
        return None
    success, failure = math.log(bad / good), math.log((1 - bad) / (1 - good))
    drift = bad * success + (1 - bad) * failure
    if _DECISIONS * bound / drift > _STEPS:
        return None
    reached, left = 0.0, np.ones(1)  # by the number of failures: the chance of being there, the bound not reached
    for n in range(1, _STEPS):
        moved = np.zeros(len(left) + 1)
        moved[:-1] = bad * left
        moved[1:] += (1 - bad) * left
        over = max(0, math.ceil((bound - n * success) / (failure - success)))
        failures = np.arange(over, len(moved))
        reached += float((moved[over:] * np.exp(-n * success - failures * (failure - success))).sum())
        left = moved[:over]
        if left.sum() < _CLOSE / 10:
            return reached + float(left.sum()) * math.exp(-bound)
    return None
