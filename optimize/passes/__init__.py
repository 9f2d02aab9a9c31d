"""Passes: functions from one candidate to another. A pipeline is a list of them; none judges its own result."""

from optimize.passes.candidate import Candidate, Pass, PassError, parent_candidate
from optimize.passes.half import half
from optimize.passes.prune import Prune
from optimize.passes.quantize import Activations, Quantize

__all__ = ["Activations", "Candidate", "Pass", "PassError", "Prune", "Quantize", "half", "parent_candidate"]
