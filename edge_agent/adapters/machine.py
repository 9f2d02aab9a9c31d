"""Facts about this computer, read without importing a single runtime; what is known better can be told in a file.

What an engine can compute on follows from which of its packages is installed and which device files are there. Whether
a model then runs is not taken from this either: the canary tries it.
"""

import importlib.metadata
import importlib.util
import os
import platform
import resource
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from edge_agent.errors import SettingsError
from wire.compatibility import version_tuple
from wire.messages import Capabilities

_OPSETS = (((1, 22), 23), ((1, 21), 22), ((1, 18), 21), ((1, 17), 20), ((1, 15), 19), ((1, 14), 18), ((1, 13), 17))
"""onnxruntime version -> highest ai.onnx opset it runs."""
_PACKAGES = {
    "onnxruntime": ("onnxruntime", ""),
    "onnxruntime-gpu": ("onnxruntime", "cuda"),
    "onnxruntime-openvino": ("onnxruntime", "openvino"),
    "onnxruntime-qnn": ("onnxruntime", "qnn"),
}
"""Package -> the engine that it brings, and what that computes on beside the CPU. Only engines that this agent has an
adapter for: a device never claims to run what it could only install."""
_DEVICE_FILES = {
    "cuda": ("/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvgpu", "/dev/dxg"),
    "qnn": ("/dev/fastrpc-cdsp", "/dev/adsprpc-smd"),
}
"""Accelerator -> the kernel's files, one of which is there when the hardware is. Others need none."""
_MODULES = ("torch", "flwr", "onnx", "grpc")


class Overrides(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the agent cannot find out by itself, above all of a reduced runtime build; None = as found."""

    engines: dict[str, str] | None = None
    max_opset: int | None = None
    operators: tuple[str, ...] | None = None
    """The operators of the build; those outside the standard set with their domain, "com.microsoft::QLinearAdd"."""
    accelerators: tuple[str, ...] | None = None
    ram_bytes: int | None = None
    """What models may use of it."""


NO_OVERRIDES: Final = Overrides()


def read_overrides(path: str) -> Overrides:
    """Read the TOML file of overrides; "" is none. Raises SettingsError."""
    if not path:
        return NO_OVERRIDES
    try:
        return msgspec.toml.decode(Path(path).read_bytes(), type=Overrides)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"capabilities file {path}: {error}") from error


class ThisMachine:
    """Implements `edge_agent.ports.Machine`."""

    def __init__(self, overrides: Overrides = NO_OVERRIDES) -> None:
        told = msgspec.structs.asdict(overrides)
        self._told = {name: value for name, value in told.items() if value is not None}

    def capabilities(self, free_bytes: int) -> Capabilities:
        """Engines, opset, accelerators, memory; whether modules that a device should not need are importable."""
        engines, accelerators = _engines()
        found = Capabilities(
            engines=engines,
            max_opset=_max_opset(engines.get("onnxruntime", "0")),
            machine=platform.machine(),
            python=platform.python_version(),
            ram_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            disk_free_bytes=free_bytes,
            accelerators=accelerators,
            modules=_modules(),
        )
        return msgspec.structs.replace(found, **self._told)

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
def _engines() -> tuple[dict[str, str], tuple[str, ...]]:
    """Engine -> version, and the accelerators that the engines have here."""
    engines, accelerators = {}, []
    for package, (engine, accelerator) in _PACKAGES.items():
        try:
            engines[engine] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        if accelerator and any(Path(one).exists() for one in _DEVICE_FILES.get(accelerator, ("/",))):
            accelerators.append(accelerator)
    return engines, tuple(accelerators)


@cache
def _modules() -> dict[str, bool]:
    return {name: importlib.util.find_spec(name) is not None for name in _MODULES}


def _max_opset(onnxruntime: str) -> int:
    version = version_tuple(onnxruntime)
    return next((opset for since, opset in _OPSETS if version >= since), 0)
