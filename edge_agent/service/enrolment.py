"""The enrolment desk: where a device without a (good) identity asks the hub for one.

A request lost, repeated or cut off by a restart is always the same request, which the hub answers the same way.
"""

import asyncio
import contextlib
import hashlib

from edge_agent.core.identity import Identity, claim_digest
from edge_agent.errors import EnrolmentError, RefusedError, UnansweredError
from edge_agent.ports import Disk, Keys
from edge_agent.service.identity import granted, load_candidate, new_candidate, promote, save_candidate
from wire.codec import decode, encode
from wire.errors import WireError
from wire.identity import PROOF_CONTEXT, ClaimFile, EnrolReply, EnrolRequest, RecoverRequest
from wire.ports import SECOND, Clock, Ids, Inbound, Link, LinkError
from wire.topics import Topics

ASK_AGAIN_NS = 3 * SECOND
LAST_ASK_AGAIN_NS = 24 * SECOND
"""Pauses double up to this: each request costs the hub a signature."""


class Desk:
    """One exchange over a link that logs in with the claim's enrolment credential as client `client`."""

    def __init__(self, link: Link, clock: Clock, topics: Topics, client: str) -> None:
        self._link = link
        self._clock = clock
        self._topics = topics
        self._client = client
        self._reply: EnrolReply | None = None
        self._woken = asyncio.Event()

    async def ask(self, request: EnrolRequest | RecoverRequest, timeout_s: float) -> EnrolReply:
        """Ask until the hub answers, and return its yes.

        Raises:
            RefusedError: the hub says no. UnansweredError: no answer within `timeout_s`.
        """
        self._link.on_message = self._on_message
        self._link.on_up = self._woken.set
        await self._link.subscribe(self._topics.enrol("dn", self._client))
        await self._link.start()
        try:
            reply = await self._ask(encode(request), timeout_s)
        finally:
            await self._link.stop()
        if not reply.ok:
            raise RefusedError(f"the hub refused: {reply.reason}")
        return reply

    async def _ask(self, request: bytes, timeout_s: float) -> EnrolReply:
        deadline_ns = self._clock.monotonic_ns() + int(timeout_s * SECOND)
        pause_ns = ASK_AGAIN_NS
        while self._reply is None:
            left_ns = deadline_ns - self._clock.monotonic_ns()
            if left_ns <= 0:
                state = "the hub did not answer" if self._link.connected else "the broker cannot be reached"
                raise UnansweredError(f"{state} within {timeout_s:g} s; see `fleetloop agent doctor`")
            await self._ask_once(request, min(pause_ns, left_ns))
            pause_ns = min(2 * pause_ns, LAST_ASK_AGAIN_NS)
        return self._reply

    async def _ask_once(self, request: bytes, pause_ns: int) -> None:
        if self._link.connected:
            with contextlib.suppress(LinkError):  # asked again below
                await self._link.publish(self._topics.enrol("up", self._client), request)
        timer = self._clock.call_later(pause_ns, self._woken.set)
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


class Enrolment:
    """Turns claims into identities. All of it may be cut off anywhere and begun again."""

    def __init__(self, disk: Disk, keys: Keys, ids: Ids, timeout_s: float) -> None:
        self._disk = disk
        self._keys = keys
        self._ids = ids
        self._timeout_s = timeout_s

    async def candidate(self, claim: ClaimFile) -> Identity:
        """The candidate for this claim: what a start before this one has left, or a new one."""
        left = await load_candidate(self._disk, claim_digest(claim))
        return left or await new_candidate(self._disk, self._keys, self._ids, claim)

    async def enrol(self, claim: ClaimFile, desk: Desk) -> Identity:
        """What the hub grants for the claim, durable, not yet in force. Raises RefusedError, UnansweredError."""
        candidate = await self.candidate(claim)
        if candidate.enrolled:
            return candidate
        return await self.grant(candidate, await desk.ask(_request(claim, candidate), self._timeout_s))

    async def recover(self, claim: ClaimFile, old: Identity, desk: Desk) -> Identity:
        """What the hub grants to who holds the old key. Raises RefusedError, UnansweredError."""
        candidate = await self.candidate(claim)
        proof = self._keys.proof(old.key, PROOF_CONTEXT + candidate.csr.encode())
        request = RecoverRequest(certificate=old.certificate, csr=candidate.csr, proof=proof)
        return await self.grant(candidate, await desk.ask(request, self._timeout_s))

    async def grant(self, candidate: Identity, reply: EnrolReply) -> Identity:
        """Keep what the hub granted. Raises RefusedError: it does not fit."""
        identity = granted(candidate, reply, self._keys)
        await save_candidate(self._disk, identity)
        return identity

    async def enrol_first(self, claim: ClaimFile, desk: Desk) -> Identity:
        """The first identity of a device. Raises EnrolmentError, which says what to do."""
        try:
            identity = await self.enrol(claim, desk)
        except RefusedError as error:
            raise EnrolmentError(f"{error}; ask for a new claim file") from error
        except UnansweredError as error:
            raise EnrolmentError(str(error)) from error
        await promote(self._disk)
        return identity


def _request(claim: ClaimFile, candidate: Identity) -> EnrolRequest:
    if candidate.csr:
        return EnrolRequest(token=claim.token, csr=candidate.csr)
    return EnrolRequest(token=claim.token, verifier=hashlib.sha256(candidate.password.encode()).hexdigest())
