"""Trust by DSSE signatures of the director and the publisher that the claim file names; TUF will fit the same port."""

from collections.abc import Iterable

from edge_agent.core.reading import read_assignment, read_release
from wire.adapters.keys import verifiers
from wire.assignment import Assignment
from wire.release import Release


class DsseTrust:
    """Implements `edge_agent.ports.Trust` for one device."""

    def __init__(self, device: str, director_keys: Iterable[str], publisher_keys: Iterable[str]) -> None:
        self._device = device
        self._director = verifiers(director_keys)
        self._publisher = verifiers(publisher_keys)

    def verify_assignment(self, envelope: bytes, floor: int) -> Assignment:
        """An assignment for this device. Raises RefusedError."""
        return read_assignment(envelope, self._director, self._device, floor)

    def verify_release(self, envelope: bytes) -> Release:
        """A genuine release. Raises RefusedError."""
        return read_release(envelope, self._publisher)
