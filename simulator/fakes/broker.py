"""An MQTT 3.1.1 broker in memory: retained messages, wildcards, last wills, persistent sessions, QoS 1.

Unacknowledged messages come again when their client reconnects. A killed broker forgets everything, as
the embedded one does. Delays, loss and duplication are the business of the links.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal, NamedTuple, Protocol

from cloud.core.access import CLIENT, Access, permitted
from cloud.ports import BrokerUser, Roster
from simulator.core.loop import Process
from simulator.core.network import Line
from simulator.core.topic_filters import Retained, Subscribers
from simulator.core.trace import Trace
from simulator.fakes.certificates import shown
from wire.adapters.mqtt_link import Credentials, Will
from wire.identity import Broker
from wire.ports import SECOND, Clock

KEEPALIVE_NS = 20 * SECOND
_permitted: Final = lru_cache(maxsize=1 << 12)(permitted)


class Message(NamedTuple):
    """What the broker has for one client. `number` identifies it within the client's session."""

    number: int
    topic: str
    payload: bytes
    retained: bool


class Connection(Protocol):
    """The broker's view of a connected client."""

    client: str
    will: Will | None

    @property
    def credentials(self) -> Credentials:
        """What it logs in with."""

    def deliver(self, message: Message) -> None:
        """Send it to the client."""

    def broken(self, reason: str) -> None:
        """The connection is gone."""


@dataclass(slots=True)
class _Session:
    username: str = ""
    certified: bool = False
    connection: Connection | None = None
    unacknowledged: dict[int, Message] = field(default_factory=dict)
    last_number: int = 0
    attachments: int = 0


class MemoryBroker:
    """The broker, and the `cloud.ports.BrokerControl` over it.

    Until it has been told its users, everybody may do everything. `refused` is what somebody tried and may not.
    """

    def __init__(self, clock: Clock, trace: Trace | None = None) -> None:
        self.process = Process("broker")
        self.running = True
        self.deliveries = 0
        self.publishes = 0
        self.refused: list[str] = []
        self.message_ns = 0
        """How long it takes to hand one message out; 0: no time."""
        self._line = Line()
        self._clock = clock
        self._trace = trace or Trace()
        self._sessions: dict[str, _Session] = {}
        self._retained = Retained()
        self._subscribers: Subscribers[str] = Subscribers()
        self._users: Mapping[str, BrokerUser] | None = None
        self._authority = ""
        self._device = Access((), ())
        self._revoked: frozenset[str] = frozenset()
        self._barred: frozenset[str] = frozenset()

    # The hub's administrative side.

    enrolment: None = None

    @property
    def credential(self) -> Literal["password", "certificate"]:
        """What devices log in with."""
        return "certificate" if self._authority else "password"

    def trust(self, authority: str, device: Access) -> None:
        """Let in who shows a certificate (PEM) of this authority, under the name in it, with the rights of a device."""
        self._authority, self._device = authority, device

    @property
    def endpoint(self) -> Broker:
        """A name that nobody resolves."""
        return Broker(host="memory", port=1883)

    async def admit(self, roster: Roster) -> None:
        """Only its users may be connected from now on."""
        self._users = dict(roster.users)
        self._revoked, self._barred = frozenset(one.serial for one in roster.revoked), roster.barred
        for session in tuple(self._sessions.values()):
            connection = session.connection
            if connection is not None and not self._knows(connection):
                self.detach(connection.client)
                connection.broken("not authorized")

    def kill(self) -> None:
        """SIGKILL: connections break and nothing is remembered."""
        self.running = False
        sessions, self._sessions = self._sessions, {}
        self._retained, self._subscribers = Retained(), Subscribers()
        for session in sessions.values():
            if session.connection is not None:
                session.connection.broken("the broker is gone")

    def start(self) -> None:
        """Start empty."""
        self.running = True

    def retained(self, topic: str) -> bytes | None:
        """The retained message of a topic, for checks and faults from outside."""
        return self._retained.get(topic)

    # What links call.

    def attach(self, connection: Connection) -> str:
        """Accept a connection, taking over an older one of the same client; returns why not, if it is refused."""
        if not self.running:
            return "no broker is listening"
        if not self._knows(connection) or not self._in_date(connection):
            return "not authorized"
        older = self._sessions.get(connection.client, _Session()).connection
        self.detach(connection.client)
        if older is not None and older is not connection:
            older.broken("another connection of this client took over")
        session = self._sessions.setdefault(connection.client, _Session())
        session.connection = connection
        session.attachments += 1
        session.username, session.certified = connection.credentials.username, bool(connection.credentials.certificate)
        self._note("connect", connection.client)
        for message in tuple(session.unacknowledged.values()):
            self._send(connection, message)
        return ""

    def holds(self, connection: Connection) -> bool:
        """Is this the connection that its client has now? One that was cut or taken over is not."""
        session = self._sessions.get(connection.client)
        return session is not None and session.connection is connection

    def detach(self, client: str, *, clean: bool = False) -> None:
        """The client's connection is over; unless it said goodbye (`clean`), its will is published."""
        session = self._sessions.get(client)
        if session is None or session.connection is None:
            return
        connection, session.connection = session.connection, None
        self._note("disconnect", client)
        if connection.will is not None and not clean:
            self.take(client, connection.will.topic, connection.will.payload, True)

    def vanish(self, client: str) -> None:
        """The client lost power or its network: nobody closes the connection, the broker notices by keep-alive."""
        session = self._sessions.get(client)
        if session is None or session.connection is None:
            return
        silent, attachment = session.connection, session.attachments

        def notice() -> None:
            if self._sessions.get(client) is session and self.holds(silent) and session.attachments == attachment:
                self.detach(client)

        self.process.run(self._clock.call_later, KEEPALIVE_NS * 3 // 2, notice)

    def take(self, client: str, topic: str, payload: bytes, retain: bool) -> None:
        """A publish arrived."""
        self.publishes += 1
        if self._may(client, topic, "publish"):
            self._hand_out(client, topic, payload, retain=retain)

    def plant(self, topic: str, payload: bytes) -> None:
        """Retain this and hand it out, as whoever has the broker in his hands."""
        if self.running:
            self._hand_out("nobody", topic, payload, retain=True)

    def _hand_out(self, client: str, topic: str, payload: bytes, *, retain: bool) -> None:
        self._note("publish", client, topic, payload)
        if retain and payload:
            self._retained.put(topic, payload)
        elif retain:
            self._retained.remove(topic)
        for receiver in self._subscribers.match(topic):
            self._queue(receiver, topic, payload, retained=False)

    def subscribe(self, client: str, filters: tuple[str, ...]) -> None:
        """Add subscriptions and send what is retained for them, also when they existed before."""
        for one in filters:
            if not self._may(client, one, "receive"):
                continue
            self._subscribers.add(one, client)
            for topic, payload in self._retained.under(one):
                self._queue(client, topic, payload, retained=True)

    def unsubscribe(self, client: str, filters: tuple[str, ...]) -> None:
        """Remove subscriptions."""
        for one in filters:
            self._subscribers.remove(one, client)

    def queue_ns(self) -> int:
        """How long the next message waits for the ones before it, to whomever they go."""
        return self._line.wait_ns(self._clock.monotonic_ns(), self.message_ns) if self.message_ns else 0

    def acknowledge(self, client: str, number: int) -> None:
        """The client has taken the message, or the network has lost it for good."""
        session = self._sessions.get(client)
        if session is not None:
            session.unacknowledged.pop(number, None)
            if not session.unacknowledged:
                session.unacknowledged = {}  # a dictionary keeps its table when it becomes empty

    def _queue(self, client: str, topic: str, payload: bytes, *, retained: bool) -> None:
        session = self._sessions[client]
        session.last_number += 1
        message = Message(session.last_number, topic, payload, retained)
        session.unacknowledged[message.number] = message
        if session.connection is not None:
            self._send(session.connection, message)

    def _send(self, connection: Connection, message: Message) -> None:
        self.deliveries += 1
        self._note("deliver", connection.client, message.topic)
        connection.deliver(message)

    def _knows(self, connection: Connection) -> bool:
        """A pinned user's client id is its name; nobody else may take that id."""
        if self._users is None:
            return True
        if connection.credentials.certificate:
            return self._certified(connection)
        user = self._users.get(connection.credentials.username)
        password = hashlib.sha256(connection.credentials.password.encode()).hexdigest()
        if user is None or user.verifier != password:
            return False
        return connection.client == user.name if user.pinned else connection.client not in self._users

    def _certified(self, connection: Connection) -> bool:
        """Was its certificate issued by the authority, to this client, and not revoked?"""
        seen = shown(connection.credentials.certificate, self._authority)
        return (
            seen is not None
            and seen.name == connection.client
            and seen.serial not in self._revoked
            and seen.name not in self._barred
        )

    def _in_date(self, connection: Connection) -> bool:
        """Looked at when a connection is made: one that is there stays when its certificate ends."""
        if not connection.credentials.certificate:
            return True
        seen = shown(connection.credentials.certificate, self._authority)
        return seen is not None and seen.begins_ns <= self._clock.now_ns() < seen.ends_ns

    def _may(self, client: str, topic: str, what: Literal["publish", "receive"]) -> bool:
        session = self._sessions[client]
        if self._users is None:
            return True
        user = self._device if session.certified else self._users.get(session.username)
        name, shape = client, topic
        if f"/{client}/" in topic and CLIENT not in topic:  # then the answer is the same for a whole fleet
            name, shape = CLIENT, topic.replace(f"/{client}/", f"/{CLIENT}/")
        if user is not None and _permitted(user.publish if what == "publish" else user.receive, name, shape):
            return True
        self.refused.append(f"{client} may not {what} {topic}")
        return False

    def _note(self, kind: str, client: str, topic: str = "", payload: bytes = b"") -> None:
        self._trace.note(self._clock.monotonic_ns(), kind, client, topic, payload)
