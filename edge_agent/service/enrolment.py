"""How a new device gets its identity: it makes its own secret, keeps it, and has the hub admit the secret's digest.

The secret is durable before the first request, so a request lost, repeated or cut off by a restart is always the same
request, which the hub answers the same way.
"""

import asyncio
import contextlib
import hashlib

from edge_agent.errors import DamagedRecordError, EnrolmentError
from edge_agent.ports import Disk
from edge_agent.service.durable import read_if_there, write_atomic
from wire.codec import Document, decode, encode
from wire.errors import WireError
from wire.identity import ClaimFile, EnrolReply, EnrolRequest
from wire.ports import SECOND, Clock, Ids, Inbound, Link, LinkError
from wire.topics import Topics

IDENTITY = "identity/identity.json"
ASK_AGAIN_NS = 3 * SECOND


class Identity(Document, frozen=True, kw_only=True):
    """What the device logs in with. `enrolled`: the hub has admitted it."""

    username: str
    password: str
    enrolled: bool = False


async def load_identity(disk: Disk) -> Identity | None:
    """The stored identity, if there is one. Raises DamagedRecordError."""
    data = await read_if_there(disk, IDENTITY)
    try:
        return decode(data, Identity) if data is not None else None
    except WireError as error:
        raise DamagedRecordError(f"{IDENTITY}: {error}; remove it and enrol again with a new claim") from error


async def prepare_identity(disk: Disk, ids: Ids, claim: ClaimFile) -> Identity:
    """The stored identity, or a new one that is stored before anybody hears of it."""
    identity = await load_identity(disk)
    if identity is None:
        identity = Identity(username=claim.device, password=ids.secret())
        await write_atomic(disk, IDENTITY, encode(identity))
    return identity


class Enrolment:
    """One exchange over a link that logs in with the claim's enrolment credential as client `client`."""

    def __init__(self, link: Link, clock: Clock, topics: Topics, client: str) -> None:
        self._link = link
        self._clock = clock
        self._topics = topics
        self._client = client
        self._reply: EnrolReply | None = None
        self._woken = asyncio.Event()

    async def run(self, claim: ClaimFile, identity: Identity, timeout_s: float) -> Identity:
        """Ask until the hub answers. The result is to be stored by the caller.

        Raises:
            EnrolmentError: refused, or no answer within `timeout_s`; says what to do.
        """
        self._link.on_message = self._on_message
        self._link.on_up = self._woken.set
        await self._link.subscribe(self._topics.enrol("dn", self._client))
        await self._link.start()
        try:
            reply = await self._ask(_request(claim, identity), timeout_s)
        finally:
            await self._link.stop()
        if not reply.ok:
            raise EnrolmentError(f"the hub refused: {reply.reason}; ask for a new claim file")
        return Identity(username=reply.username, password=identity.password, enrolled=True)

    async def _ask(self, request: bytes, timeout_s: float) -> EnrolReply:
        deadline_ns = self._clock.monotonic_ns() + int(timeout_s * SECOND)
        while self._reply is None:
            if self._clock.monotonic_ns() >= deadline_ns:
                state = "the hub did not answer" if self._link.connected else "the broker cannot be reached"
                raise EnrolmentError(f"{state} within {timeout_s:g} s; see `fleetloop agent doctor`")
            await self._ask_once(request)
        return self._reply

    async def _ask_once(self, request: bytes) -> None:
        if self._link.connected:
            with contextlib.suppress(LinkError):  # asked again below
                await self._link.publish(self._topics.enrol("up", self._client), request)
        timer = self._clock.call_later(ASK_AGAIN_NS, self._woken.set)
        if self._reply is None:
            await self._woken.wait()
        timer.cancel()
        self._woken.clear()

    def _on_message(self, message: Inbound) -> None:
        message.ack()
        try:
            self._reply = decode(message.payload, EnrolReply)
        except WireError:
            return  # not an answer; the question is asked again
        self._woken.set()


def _request(claim: ClaimFile, identity: Identity) -> bytes:
    verifier = hashlib.sha256(identity.password.encode()).hexdigest()
    return encode(EnrolRequest(token=claim.token, verifier=verifier))
