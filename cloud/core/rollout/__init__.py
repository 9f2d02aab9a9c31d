"""How a version reaches a fleet: wave by wave, each behind the gates of the one before. Pure.

`plan` is what was ordered, `members` what is known of each device and adds up to counts, `waves` who comes when,
`windows` and `retry` when, and `machine` decides from all of it.
"""

from cloud.core.rollout.plan import Plan, Wave
from cloud.core.rollout.states import ACTIVE, Command, RolloutState

__all__ = ["ACTIVE", "Command", "Plan", "RolloutState", "Wave"]
