"""Flower knows nodes by unsigned 64-bit numbers, the fleet knows devices by name: a hash, and a table to come back."""

import hashlib
from collections.abc import Iterable
from typing import Final

SERVER_NODE: Final = 1
"""Flower reserves this number for the server; 0 means "unset"."""


class NodeTable:
    """Devices of one run and their node ids, the same in every process that is given the same names."""

    def __init__(self, devices: Iterable[str]) -> None:
        self._nodes: dict[str, int] = {}
        self._devices: dict[int, str] = {}
        for device in sorted(set(devices)):
            node = _free_number(device, self._devices)
            self._nodes[device] = node
            self._devices[node] = device

    @property
    def devices(self) -> tuple[str, ...]:
        """All devices, sorted by name."""
        return tuple(self._nodes)

    def node(self, device: str) -> int:
        """Node id of `device`. Raises KeyError for a device outside the run."""
        return self._nodes[device]

    def device(self, node: int) -> str:
        """Name of node `node`. Raises KeyError for a node outside the run."""
        return self._devices[node]


def run_number(run: str) -> int:
    """Flower's number for the run called `run`."""
    return _free_number(run, {})


def _free_number(name: str, taken: dict[int, str]) -> int:
    text = name
    while True:
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        if number > SERVER_NODE and number not in taken:
            return number
        text += "'"
