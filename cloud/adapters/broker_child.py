"""The embedded broker's process: amqtt behind our own logins and topic rules. `python -m cloud.adapters.broker_child`

It knows only what the hub tells it, one JSON line each on stdin: first a `Start`, then a `Users` for every change. It
answers on stdout with `Told` lines and ends when stdin closes, so it cannot outlive the hub. Sessions and retained
messages are in memory only: after a restart the hub publishes them again.

amqtt 0.11 lets a connection touch the session of its client id before it has proven who it is, never ends a silent
connection, replays retained messages of everybody's filters to whoever reconnects, and loses a message when somebody
subscribes while it is being delivered. `_ProvingHandler` and `_FleetBroker` mend that.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

import amqtt.broker
import msgspec
from amqtt.adapters import ReaderAdapter, StreamReaderAdapter, StreamWriterAdapter, WriterAdapter
from amqtt.errors import AMQTTError
from amqtt.mqtt.connack import NOT_AUTHORIZED, ConnackPacket
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.session import Session

from cloud.adapters.broker_logins import LoginPlugin, TopicPlugin, logins
from cloud.ports import BrokerUser

log = logging.getLogger(__name__)

MAX_PACKET_BYTES = 128 * 1024
"""Twice the largest message of the contract (a chunk of 60 KiB, a control document of 64 KiB)."""
CONNECT_TIMEOUT_S = 10.0
SESSION_EXPIRY_S = 3600
"""Devices subscribe anew on every connection, so nothing is lost when an old session is forgotten."""


class Start(msgspec.Struct, frozen=True):
    """First line: where to listen (port 0 = any) and with which certificate (empty = without TLS, tests only).

    A client that stays silent for its keep-alive and `grace_s` seconds counts as gone.
    """

    host: str
    port: int
    certificate: str
    key: str
    grace_s: int


class Users(msgspec.Struct, frozen=True):
    """From now on exactly these logins are valid."""

    number: int
    users: tuple[BrokerUser, ...]


class Told(msgspec.Struct, frozen=True):
    """Answer: the port in use, and the number of the newest `Users` in force."""

    port: int
    users: int


class _BoundedReader(StreamReaderAdapter):  # type: ignore[misc]
    async def read(self, n: int = -1) -> bytes:
        if n > MAX_PACKET_BYTES:
            raise AMQTTError(f"packet of {n} bytes; at most {MAX_PACKET_BYTES} are taken: closing the connection")
        return bytes(await super().read(n))


class _ProvingHandler(BrokerProtocolHandler):  # type: ignore[misc]
    """Asks for proof before the broker looks at any session, in bounded time; without proof: "not authorised"."""

    @classmethod
    async def init_from_connect(
        cls, reader: ReaderAdapter, writer: WriterAdapter, plugins_manager: Any, loop: Any = None
    ) -> tuple["BrokerProtocolHandler", Session]:
        try:
            connecting = super().init_from_connect(reader, writer, plugins_manager, loop)
            handler, session = await asyncio.wait_for(connecting, CONNECT_TIMEOUT_S)
        except TimeoutError as error:
            await writer.close()
            raise AMQTTError("no CONNECT in time") from error
        if not all((await plugins_manager.map_plugin_auth(session=session)).values()):
            await ConnackPacket.build(0, NOT_AUTHORIZED).to_stream(writer)
            await writer.close()
            raise AMQTTError(f"client {session.client_id!r}, user {session.username!r}: not authorised")
        return handler, session

    def handle_read_timeout(self) -> None:
        """A device without power sends no FIN: silence is how its end shows, and its will has to follow."""
        self._ending = asyncio.ensure_future(self.handle_connection_closed())


class _Snapshots(dict[str, list[tuple[Session, int]]]):
    """Filter -> subscribers; whoever goes through it sees it as it was when he began.

    amqtt waits between two entries, and drops the message when a subscription came meanwhile.
    """

    def __iter__(self) -> Iterator[str]:
        return iter(list(super().__iter__()))

    def items(self) -> Any:
        return [(one, list(subscribers)) for one, subscribers in super().items()]


class _FleetBroker(amqtt.broker.Broker):  # type: ignore[misc]
    def __init__(self, configuration: dict[str, Any]) -> None:
        super().__init__(configuration)
        self._subscriptions = _Snapshots()

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        await self._client_connected(listener_name, _BoundedReader(reader), StreamWriterAdapter(writer))

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        """Only for filters that this session itself has."""
        holders = self._subscriptions.get(subscription[0], ())
        if any(holder.client_id == session.client_id for holder, _ in holders):
            await super()._publish_retained_messages_for_subscription(subscription, session)

    async def end_unknown(self) -> None:
        """End the connections whose login is not (or no longer) valid."""
        for session, handler in list(self._sessions.values()):
            known = logins.login(session.client_id or "", session.username or "", session.password or "")
            if known is None and session.transitions.is_connected():
                await handler.handle_connection_closed()

    def port(self) -> int:
        """The port that the listener got."""
        server: Any = self._servers["default"].instance
        return int(server.sockets[0].getsockname()[1])


def _configuration(start: Start) -> dict[str, Any]:
    listener: dict[str, Any] = {"type": "tcp", "bind": f"{start.host}:{start.port}"}
    if start.certificate:
        listener |= {"ssl": True, "certfile": start.certificate, "keyfile": start.key}
    plugins: dict[str, dict[str, Any]] = {
        f"{plugin.__module__}.{plugin.__name__}": {} for plugin in (LoginPlugin, TopicPlugin)
    }
    return {
        "listeners": {"default": listener},
        "plugins": plugins,
        "session_expiry_interval": SESSION_EXPIRY_S,
        "timeout_disconnect_delay": start.grace_s,
    }


async def _serve() -> None:
    lines = await _stdin()
    start = msgspec.json.decode(await lines.readline(), type=Start)
    amqtt.broker.BrokerProtocolHandler = _ProvingHandler
    broker = _FleetBroker(_configuration(start))
    await broker.start()
    _tell(Told(broker.port(), 0))
    while line := await lines.readline():
        change = msgspec.json.decode(line, type=Users)
        logins.replace(change.users)
        await broker.end_unknown()
        _tell(Told(broker.port(), change.number))
    os._exit(0)


async def _stdin() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=64 * 1024 * 1024)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def _tell(message: Told) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    """Run until stdin closes, then end at once.

    Everything here is in memory and forgotten anyway, while amqtt's own shutdown waits for acknowledgements that may
    never come and keeps the port from the next hub meanwhile.
    """
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("transitions").setLevel(logging.WARNING)
    asyncio.run(_serve())


if __name__ == "__main__":
    main()
