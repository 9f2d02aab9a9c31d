"""Learning on a device without torch: a model's training step as a plain ONNX graph.

The rule this package owns: whatever leaves it uses operators of the standard `ai.onnx` set only, so that the stock
onnxruntime of any device runs it. See docs/optimize.md for the names of inputs and outputs.
"""

from optimize.train_step.export import TrainStep, export_eval, export_train_step
from optimize.train_step.step import NotTrainableError

__all__ = ["NotTrainableError", "TrainStep", "export_eval", "export_train_step"]
