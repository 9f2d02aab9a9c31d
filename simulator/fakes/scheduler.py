"""Wake-ups in virtual time: the `cloud.ports.Scheduler` of tests and simulation."""

from collections.abc import Callable

from wire.ports import SECOND, Clock


class VirtualScheduler:
    """Calls again and again, as long as its process lives."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def every(self, seconds: float, call: Callable[[], None]) -> None:
        """Call `call` every `seconds` from now on."""
        interval_ns = int(seconds * SECOND)

        def due() -> None:
            self._clock.call_later(interval_ns, due)
            call()

        self._clock.call_later(interval_ns, due)
