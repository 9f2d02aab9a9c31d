"""Ports that hub, agent and aggregator share. Matched by shape; real adapters own the threads, fakes own the time.

Times are integer nanoseconds throughout, so that a simulated run can be repeated bit for bit.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, TypeVar

SECOND: Final = 1_000_000_000
MILLISECOND: Final = 1_000_000


class Timer(Protocol):
    """A pending call."""

    def cancel(self) -> None:
        """Make sure that it does not happen (any more)."""


class Clock(Protocol):
    """Time. `now_ns` is wall-clock time since the epoch; the others never go back. `monotonic_ns` may stand still while
    the machine is suspended, so that nobody is blamed for silence meanwhile; `elapsed_ns` goes on."""

    def now_ns(self) -> int:
        """Wall clock, nanoseconds since 1970."""

    def monotonic_ns(self) -> int:
        """Nanoseconds since some fixed moment, as far as the machine was awake."""

    def elapsed_ns(self) -> int:
        """Nanoseconds since some fixed moment, all of them: how old something is."""

    async def sleep(self, ns: int) -> None:
        """Return after `ns` nanoseconds."""

    def call_later(self, ns: int, call: Callable[[], None]) -> Timer:
        """Call `call` on the event loop in `ns` nanoseconds."""


class Ids(Protocol):
    """Randomness that ends up in names and secrets."""

    def new(self) -> str:
        """A fresh id: 32 hex digits."""

    def secret(self) -> str:
        """32 random bytes, base64url without padding."""


class Inbound(NamedTuple):
    """One received message. Call `ack` once its effects are durable; unacknowledged ones come again."""

    topic: str
    payload: bytes
    retained: bool
    ack: Callable[[], None]


class LinkError(Exception):
    """The message did not reach the broker: not connected, refused, or cut while waiting."""


class LoginRefusedError(LinkError):
    """The broker answered, and does not accept these credentials."""


class Link(Protocol):
    """An MQTT connection that reconnects by itself, with QoS 1 throughout.

    Set the three callbacks before `start`. They run on the event loop and must not block. `on_up` runs after every
    (re)connect, when the subscriptions made so far are in force again. They may be set again later, before `start`.
    """

    on_message: Callable[[Inbound], None]
    on_up: Callable[[], None]
    on_down: Callable[[str], None]

    @property
    def connected(self) -> bool:
        """Is the connection up?"""

    async def start(self) -> None:
        """Begin to connect, and go on trying; returns at once."""

    async def stop(self) -> None:
        """Disconnect cleanly (no last will) and stop trying."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Return once the broker has acknowledged. Raises LinkError."""

    def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish without waiting: for what is said again until somebody answers. While the link is down, nothing."""

    async def subscribe(self, *filters: str) -> None:
        """Subscribe with QoS 1; remembered across reconnects, and kept when the link is down."""

    async def unsubscribe(self, *filters: str) -> None:
        """Forget these subscriptions."""


T = TypeVar("T")


class Offload(Protocol):
    """Runs blocking work away from the event loop (inline, as one event, in simulation)."""

    async def run(self, call: Callable[[], T]) -> T:
        """Return what `call()` returns, or raise what it raises."""
