"""What every clock promises, virtual and real."""

import time

import pytest

from simulator.core.clock import VirtualClock
from simulator.core.loop import VirtualLoop
from simulator.core.rng import Rng
from wire.adapters.system import SystemClock
from wire.ports import SECOND, Clock


@pytest.mark.parametrize("clock", [SystemClock(), VirtualClock(VirtualLoop(Rng(1)))], ids=["system", "virtual"])
def test_neither_clock_goes_back(clock: Clock) -> None:
    """Both count from some moment on."""
    first = clock.monotonic_ns(), clock.elapsed_ns()
    assert clock.monotonic_ns() >= first[0]
    assert clock.elapsed_ns() >= first[1]


def test_only_one_of_them_goes_on_while_the_machine_is_suspended() -> None:
    """In virtual time."""
    clock = VirtualClock(VirtualLoop(Rng(1)))
    clock.suspended_ns = 60 * SECOND
    assert (clock.monotonic_ns(), clock.elapsed_ns()) == (0, 60 * SECOND)


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="this system has no clock that counts suspension")
def test_the_system_is_asked_for_the_clock_that_counts_suspension() -> None:
    """It is ahead of the other one by as long as this machine was ever suspended."""
    assert abs(SystemClock().elapsed_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) < SECOND
