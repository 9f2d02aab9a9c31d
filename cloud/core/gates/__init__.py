"""Gates of a rollout: what devices measured, against what the plan demands, decided with declared error rates.

`catalogue` says what can be asked, `language` how it is asked, `evidence` what one device adds, `sequential` when it is
enough, and `judge` turns all of it into one verdict per gate.
"""

from cloud.core.gates.judge import Gate, Undecided

__all__ = ["Gate", "Undecided"]
