"""Rollouts in the database: load the facts, let `core.rollout` decide, carry the decisions out, in one transaction.

`orders` is what people say, `tick` what follows from the facts, `ledger` the only way in which a member changes.
"""

from cloud.service.rollouts.ledger import counts_of_waves
from cloud.service.rollouts.orders import control, create
from cloud.service.rollouts.plans import NewRollout, plan_of, released, rollout_row
from cloud.service.rollouts.tick import Means, tick, under_way

__all__ = [
    "Means",
    "NewRollout",
    "control",
    "counts_of_waves",
    "create",
    "plan_of",
    "released",
    "rollout_row",
    "tick",
    "under_way",
]
