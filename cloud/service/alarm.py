"""An alarm that is set again and again and rings once."""

from collections.abc import Callable

from wire.ports import Clock, Timer


class Alarm:
    """Calls `ring` when its time has come."""

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._timer: Timer | None = None
        self._due_ns = 0

    def set(self, ns: int) -> None:
        """Ring in so many nanoseconds, and not before."""
        self.cancel()
        self._due_ns = self._clock.monotonic_ns() + ns
        self._timer = self._clock.call_later(ns, self._go_off)

    def within(self, ns: int) -> None:
        """Ring in so many nanoseconds at the latest."""
        if self._timer is None or self._due_ns > self._clock.monotonic_ns() + ns:
            self.set(ns)

    def cancel(self) -> None:
        """Do not ring."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _go_off(self) -> None:
        self._timer = None
        self._ring()
