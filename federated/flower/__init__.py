"""Flower: the only package that imports flwr. Its telemetry is switched off before flwr is loaded."""

import os

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
