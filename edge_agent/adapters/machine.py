"""Facts about this computer, read without importing a single runtime."""

import importlib.metadata
import importlib.util
import os
import platform
import resource
from functools import cache
from pathlib import Path

from wire.compatibility import version_tuple
from wire.messages import Capabilities

_OPSETS = (((1, 22), 23), ((1, 21), 22), ((1, 18), 21), ((1, 17), 20), ((1, 15), 19), ((1, 14), 18), ((1, 13), 17))
"""onnxruntime version -> highest ai.onnx opset it runs."""
ENGINES = ("onnxruntime",)
"""Runtimes that this agent has an adapter for; a device never claims to run what it could only install."""
_MODULES = ("torch", "flwr", "onnx", "grpc")


class ThisMachine:
    """Implements `edge_agent.ports.Machine`."""

    def capabilities(self, free_bytes: int) -> Capabilities:
        """Engines, opset, memory; whether modules that a device should not need are importable."""
        engines = _engines()
        return Capabilities(
            engines=engines,
            max_opset=_max_opset(engines.get("onnxruntime", "0")),
            machine=platform.machine(),
            python=platform.python_version(),
            ram_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            disk_free_bytes=free_bytes,
            modules=_modules(),
        )

    def peak_rss_bytes(self) -> int:
        """High-water mark of this process."""
        return peak_rss_bytes()


def peak_rss_bytes() -> int:
    """High-water mark of this process. (`ru_maxrss` would count the process that started this one, too.)"""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):  # not every kernel has the file, or the line
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@cache
def _engines() -> dict[str, str]:
    found = {}
    for engine in ENGINES:
        try:
            found[engine] = importlib.metadata.version(engine)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@cache
def _modules() -> dict[str, bool]:
    return {name: importlib.util.find_spec(name) is not None for name in _MODULES}


def _max_opset(onnxruntime: str) -> int:
    version = version_tuple(onnxruntime)
    return next((opset for since, opset in _OPSETS if version >= since), 0)
