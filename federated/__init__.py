"""Federated learning over MQTT: Flower's strategies on the hub's side, plain ONNX graphs on the devices'.

`core` decides without I/O, `flower` is the only home of flwr, `adapters` touch MQTT and the disk, `device` runs on the
agent's small base install and imports neither flwr nor torch.
"""

from wire.adapters import no_telemetry as no_telemetry
