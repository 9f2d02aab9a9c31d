"""What the hub's services need of the world, beside `wire.ports`. Matched by shape; adapters own the threads."""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from wire.identity import Broker

T = TypeVar("T")


class Store(Protocol):
    """The database. A function passed in is synchronous and atomic: all of it is committed, or nothing."""

    async def write(self, call: Callable[[Connection], T]) -> T:
        """Run `call` in a writing transaction and return its result once it is durable."""

    async def read(self, call: Callable[[Connection], T]) -> T:
        """Run `call` on a consistent snapshot."""


class ObjectMissingError(Exception):
    """No object has this digest."""


class Objects(Protocol):
    """Content-addressed bytes. Putting the same bytes again is harmless."""

    async def put(self, data: bytes) -> str:
        """Store durably and return the SHA-256 (hex)."""

    async def get(self, sha256: str) -> bytes:
        """The bytes, checked against their digest. Raises ObjectMissingError."""

    async def verify(self, sha256: str) -> int:
        """Their length, after they were checked against their digest. Raises ObjectMissingError."""

    async def piece(self, sha256: str, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` on, fewer at the end, not checked. Raises ObjectMissingError."""


class DeltaError(Exception):
    """The delta could not be made."""


class DeltaMaker(Protocol):
    """Makes what turns one file into another, away from the event loop."""

    async def make(self, base: bytes, target: bytes) -> bytes:
        """The delta (`wire.adapters.zstd_delta`). Raises DeltaError."""


@dataclass(frozen=True, slots=True)
class BrokerUser:
    """One login. `pinned`: the client id must equal the name, so nobody can take another's session over."""

    name: str
    verifier: str
    """SHA-256 (hex) of the password."""
    publish: tuple[str, ...]
    """Topic patterns it may publish to; `{client}` stands for its client id."""
    receive: tuple[str, ...]
    """Topic patterns it may subscribe to and receive."""
    pinned: bool = True


class BrokerError(Exception):
    """The broker cannot be started or told who its users are."""


class BrokerControl(Protocol):
    """The broker that the hub runs or administers."""

    @property
    def endpoint(self) -> Broker:
        """Where devices connect, with the CA that signed its certificate."""

    async def set_users(self, users: Mapping[str, BrokerUser]) -> None:
        """Make exactly these users known, and return when they are in force."""


@dataclass(frozen=True, slots=True)
class JobOrder:
    """A job for its own process: `python -m module spec.json` in the job's own directory."""

    job: str
    module: str
    spec: bytes
    files: Mapping[str, bytes]
    """Input files to put beside the spec before the start; those already there are left alone (a resumed job)."""


class JobError(Exception):
    """The job could not be run, or it failed; the message is what the operator sees."""


class Launcher(Protocol):
    """Runs jobs in processes of their own, which die with the hub and can be launched again in the same directory."""

    def directory(self, job: str) -> str:
        """The job's directory, as its process sees it."""

    def run(self, order: JobOrder) -> AsyncGenerator[bytes, None]:
        """Launch and yield each progress line. Raises JobError when it ends badly; closing the iterator ends it."""

    async def output(self, job: str, name: str) -> bytes:
        """A file that the job left in its directory. Raises JobError."""


class Scheduler(Protocol):
    """Wakes services. It holds no truth: a missed or doubled call does no harm."""

    def every(self, seconds: float, call: Callable[[], None]) -> None:
        """Call `call` about every `seconds`."""
