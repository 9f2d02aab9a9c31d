"""The `wire.ports.Link` on the in-memory broker, through a network that loses, repeats and delays as it is told.

It behaves as the real link does: publishes wait for an acknowledgement and fail after a time or when the connection
breaks, subscriptions survive reconnects, pauses between attempts grow. Messages keep their order on one connection.
"""

import asyncio
from collections.abc import Callable

from simulator.core.clock import VirtualClock
from simulator.core.loop import current_process
from simulator.core.network import Network, Quality
from simulator.core.rng import Rng
from simulator.fakes.broker import MemoryBroker, Message
from wire.adapters.mqtt_login import Credentials, Login, Will
from wire.ports import MILLISECOND, SECOND, Inbound, LinkError, LoginRefusedError

ACK_TIMEOUT_NS = 30 * SECOND
FIRST_RETRY_NS = 250 * MILLISECOND
LAST_RETRY_NS = 20 * SECOND
CHANGE_TIMEOUT_S = 20.0
OVERTAKEN_NS = 500 * MILLISECOND
"""About how much later a message comes that others overtake."""


class MemoryLink:
    """One client's connection. It belongs to the process that calls `start`, and dies with it."""

    def __init__(
        self,
        broker: MemoryBroker,
        clock: VirtualClock,
        credentials: Credentials,
        *,
        network: Network | None = None,
        will: Will | None = None,
    ) -> None:
        self.on_message: Callable[[Inbound], None] = _taken
        self.on_up: Callable[[], None] = _unheard
        self.on_down: Callable[[str], None] = _unheard
        self.client = credentials.client_id or credentials.username
        self.will = will
        self._broker = broker
        self._loop = clock.loop
        self._network = network or Network(Quality(), Rng(0, self.client))
        self._process = current_process()
        self._filters: dict[str, None] = {}
        self._publishing: dict[asyncio.Future[None], None] = {}
        self._wanted = False
        self._refusal = ""
        self._login = Login(credentials)
        self._connected = False
        self._connection = 0
        self._pause_ns = FIRST_RETRY_NS
        self._up_free_ns = 0
        self._down_free_ns = 0

    @property
    def connected(self) -> bool:
        """Is the connection up?"""
        return self._connected

    @property
    def credentials(self) -> Credentials:
        """What it shows the broker."""
        return self._login.credentials

    @property
    def trouble(self) -> str:
        """Why there is no connection, as far as the broker has said; empty: there is one."""
        return "" if self._connected else self._refusal

    @property
    def refused(self) -> bool:
        """Has the broker said no?"""
        return bool(self.trouble)

    async def start(self) -> None:
        """Begin to connect, and go on trying."""
        if not self._wanted:
            self._wanted = True
            self._process = current_process()
            self._later(self._network.delay_ns(), self._connect)

    async def stop(self) -> None:
        """Disconnect cleanly and stop trying."""
        self._wanted = False
        if self._connected:
            self._broker.process.run(lambda: self._broker.detach(self.client, clean=True))
            self._lose("stopped")

    async def change(self, credentials: Credentials) -> None:
        """Log in anew, as the same client. Raises LoginRefusedError, LinkError: it goes on with what it had before."""
        await self._login.change(credentials, self._log_in_anew, CHANGE_TIMEOUT_S)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Return once the broker has acknowledged. Raises LinkError."""
        if not self._connected:
            raise LinkError("not connected to the broker")
        done: asyncio.Future[None] = self._loop.create_future()
        if not self._carry(topic, payload, retain, done):
            error = LinkError(f"publish to {topic} was not acknowledged within {ACK_TIMEOUT_NS // SECOND} s")
            self._later(ACK_TIMEOUT_NS, _settle, done, error)
        await self._answered(done)

    def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish; whether it arrives is nobody's business."""
        if self._connected:
            self._carry(topic, payload, retain, None)

    async def subscribe(self, *filters: str) -> None:
        """Subscribe; remembered across reconnects."""
        self._filters.update(dict.fromkeys(filters))
        if self._connected:
            await self._control(self._broker.subscribe, self.client, filters)

    async def unsubscribe(self, *filters: str) -> None:
        """Forget these subscriptions."""
        self._filters = {one: None for one in self._filters if one not in filters}
        if self._connected and filters:
            await self._control(self._broker.unsubscribe, self.client, filters)

    def cut(self, reason: str = "connection reset") -> None:
        """Break the connection (a fault): the broker publishes the will, and the link connects again by itself."""
        if self._connected:
            self._broker.process.run(lambda: self._broker.detach(self.client))
            self.broken(reason)

    # What the broker calls.

    def deliver(self, message: Message) -> None:
        """Bring a message to the client, in order; further copies may come later than their successors.

        A connection of which the broker does not know yet that it is gone takes nothing: the session keeps the message.
        """
        if not self._connected:
            return
        network, now_ns = self._network, self._loop.now_ns
        copies = network.deliver()
        if not copies:
            self._broker.acknowledge(self.client, message.number)
            return
        size = len(message.topic) + len(message.payload)
        at_ns = now_ns + network.delay_ns() + self._broker.queue_ns() + network.receive_ns(now_ns, size)
        if network.overtaken():
            at_ns += network.jitter_ns(OVERTAKEN_NS)
        else:
            at_ns = self._down_free_ns = max(self._down_free_ns + 1, at_ns)
        home = self._process.home
        self._loop.call_at_ns(at_ns, self._arrive, self._connection, message, context=home)
        for _ in range(1, copies):
            again_ns = now_ns + network.delay_ns()
            self._loop.call_at_ns(again_ns, self._arrive, self._connection, message, context=home)

    def broken(self, reason: str) -> None:
        """The connection is gone: say so in the client's own process, and begin to reconnect."""
        if self._process.alive:
            self._process.run(self._lose, reason)

    # The connection's life.

    def _connect(self) -> None:
        if not self._wanted or self._connected:
            return
        if not self._network.reachable:
            self._network.when_reachable(self._retry)
            return
        self._connection += 1
        self._connected = True
        self._refusal = self._broker.process.run(self._broker.attach, self)
        self._login.answered(LoginRefusedError(self._refusal) if self._refusal else None)
        if self._refusal:
            self._connected = False
            self._retry()
            return
        self._pause_ns = FIRST_RETRY_NS
        if self._filters:
            filters = tuple(self._filters)
            self._broker.process.run(self._broker.subscribe, self.client, filters)
        self.on_up()

    def _log_in_anew(self) -> None:
        if self._connected:
            self._broker.process.run(lambda: self._broker.detach(self.client, clean=True))
            self._lose("logging in anew")
        self._later(self._network.delay_ns(), self._connect)

    def _retry(self) -> None:
        self._later(self._network.jitter_ns(self._pause_ns), self._connect)
        self._pause_ns = min(LAST_RETRY_NS, self._pause_ns * 2)

    def _lose(self, reason: str) -> None:
        was_connected, self._connected = self._connected, False
        self._connection += 1
        for done in tuple(self._publishing):
            _settle(done, LinkError(reason))
        if was_connected:
            self.on_down(reason)
        if self._wanted:
            self._retry()

    def _arrive(self, connection: int, message: Message) -> None:
        if connection != self._connection:
            return

        def ack() -> None:
            """A message of an earlier connection comes again on this one and is acknowledged then."""
            if connection == self._connection:
                self._broker.acknowledge(self.client, message.number)

        self.on_message(Inbound(message.topic, message.payload, message.retained, ack))

    def _carry(self, topic: str, payload: bytes, retain: bool, done: "asyncio.Future[None] | None") -> bool:
        """Have a publish travel to the broker and, if somebody waits for it (`done`), its acknowledgement back.

        Will there be one?
        """
        network = self._network
        arrives, acknowledged = network.publish()
        there_ns = network.delay_ns() + network.send_ns(self._loop.now_ns, len(topic) + len(payload))
        if arrives:
            call, args = self._broker.take, (self.client, topic, payload, retain)
            self._upwards(there_ns, call, args, done if acknowledged else None)
        return acknowledged

    async def _control(self, call: Callable[..., None], *args: object) -> None:
        """A SUBSCRIBE or UNSUBSCRIBE and its acknowledgement. Raises LinkError when the connection breaks meanwhile."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._upwards(self._network.delay_ns(), call, args, done)
        await self._answered(done)

    async def _answered(self, done: "asyncio.Future[None]") -> None:
        self._publishing[done] = None
        try:
            await done
        finally:
            self._publishing.pop(done, None)
            if not self._publishing:
                self._publishing = {}  # a dictionary keeps its table when it becomes empty

    def _upwards(
        self, delay_ns: int, call: Callable[..., None], args: tuple[object, ...], done: "asyncio.Future[None] | None"
    ) -> None:
        """Do `call` at the broker after the delay, in order; `done` waits for the answer."""
        at_ns = self._up_free_ns = max(self._up_free_ns + 1, self._loop.now_ns + delay_ns)
        home = self._broker.process.home
        self._loop.call_at_ns(at_ns, self._at_the_broker, self._connection, call, args, done, context=home)

    def _at_the_broker(
        self,
        connection: int,
        call: Callable[..., None],
        args: tuple[object, ...],
        done: "asyncio.Future[None] | None",
    ) -> None:
        """What travelled on a connection is taken if that is still there."""
        if connection == self._connection and self._broker.holds(self):
            call(*args)
            if done is not None:
                self._later(self._network.delay_ns(), _settle, done, None)

    def _later(self, delay_ns: int, call: Callable[..., None], *args: object) -> None:
        self._loop.call_at_ns(self._loop.now_ns + delay_ns, call, *args, context=self._process.home)


def _taken(message: Inbound) -> None:
    message.ack()


def _unheard(reason: str = "") -> None:
    pass


def _settle(done: asyncio.Future[None], error: LinkError | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
