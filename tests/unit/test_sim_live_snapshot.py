"""What a process of live devices tells fits into a line, whatever goes wrong on how many of them."""

from collections import Counter
from types import SimpleNamespace

import msgspec

from simulator.live.device import Habits
from simulator.live.worker import Order, Worker
from simulator.live.workers import MAX_LINE_BYTES


class Complaining:
    """A device with a complaint of its own."""

    enrolled = connected = True
    disk = SimpleNamespace(used_bytes=0)

    def __init__(self, number: int) -> None:
        self._number = number

    def tell(self, running: Counter[str], failed: Counter[str]) -> None:
        """As those do that wait for a broker."""
        failed[f"subscription to fleetloop/dn/live-{self._number:05}/desired was not acknowledged within 30 s"] += 1
        failed["the hub refused"] += 1
        failed[f"the state cannot be written: d{self._number:05}/state.json: no space left on device"] += 1


def test_ten_thousand_complaints_fit_into_a_line() -> None:
    """A longer line would end the run. What is said most often is told."""
    worker = Worker(Order(claims="", first=0, count=0, habits=Habits()))
    worker._devices = [Complaining(number) for number in range(10_000)]  # type: ignore[misc]
    told = worker.snapshot()
    assert len(msgspec.json.encode(told)) < MAX_LINE_BYTES // 2
    assert told.failed["the hub refused"] == 10_000
