"""The runtime that we load keeps no identity of the device and reports to nobody."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HOME_OF = ("edge_agent.adapters.onnx_runtime", "federated.device.trainer", "optimize.session")


@pytest.mark.parametrize("module", HOME_OF)
def test_onnxruntime_leaves_nothing_in_the_home_directory(module: str, tmp_path: Path) -> None:
    """Loading it through any of our packages starts no uploader, which would keep its queue and a device id there."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "CI", "XDG_"))}
    code = f"import {module}, onnxruntime, threading, os; print(len(os.listdir('/proc/self/task')))"
    environ |= {"HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*onnxruntime*")) == []
