"""Learning with stock onnxruntime, as a `federated.device.ports.MakeTrainer`."""

from federated.device.ports import LearningFiles, Trainer


def onnx_trainer(files: LearningFiles) -> Trainer:
    """What learns with these graphs. onnxruntime is loaded by the first call: most devices learn seldom or never."""
    from federated.device.trainer import OnnxTrainer

    return OnnxTrainer(files)
