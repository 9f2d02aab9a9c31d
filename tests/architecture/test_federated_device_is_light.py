"""A device needs neither flwr nor torch, and no numpy before it has a task."""

import subprocess
import sys

import pytest

ROOT_MODULES = "import sys; print(sorted({name.partition('.')[0] for name in sys.modules}))"


def loaded_by(*modules: str) -> set[str]:
    """Top-level modules in a fresh interpreter that imported these."""
    code = f"import {', '.join(modules)}\n{ROOT_MODULES}"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(eval(out.stdout))  # noqa: S307 - our own list of words


@pytest.mark.parametrize("banned", ["flwr", "torch", "grpc", "sqlalchemy", "fastapi"])
def test_device_side_is_free_of_the_hubs_world(banned: str) -> None:
    """Transitively, for everything that a device may load."""
    modules = ("client", "bench", "trainer", "ports")
    assert banned not in loaded_by(*(f"federated.device.{name}" for name in modules), "federated.records")


def test_waiting_for_tasks_needs_no_numpy() -> None:
    """An agent that never trains never pays for it."""
    assert loaded_by("federated.device.client").isdisjoint({"numpy", "onnxruntime", "safetensors"})
