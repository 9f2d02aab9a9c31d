"""Staying a member of the fleet: a new claim is turned into a new identity, certificates are renewed or recovered.

It runs beside everything else and never in its way, and at rest it is a timer: a device whose certificate is expired,
revoked or refused goes on answering its application. What is obtained proves itself at the broker before it replaces
what there was. An attempt that fails is made again with growing pauses; what the hub and the broker say is told by
`problem`.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from edge_agent.core.identity import Identity, claim_digest
from edge_agent.core.lifetime import Lifetime
from edge_agent.errors import DiskError, RefusedError, UnansweredError
from edge_agent.ports import Access, Disk, Keys
from edge_agent.service.asking import Asking
from edge_agent.service.courier import Uplink
from edge_agent.service.enrolment import Desk, Enrolment
from edge_agent.service.identity import discard_candidate, load_candidate, promote
from wire.asks import AskRenewal, Renewed
from wire.identity import ClaimFile, EnrolReply
from wire.ports import SECOND, Ids, LinkError, LoginRefusedError, Timer

log = logging.getLogger(__name__)

ASK_TIMEOUT_S = 60.0
LOOK_AGAIN_NS = 60 * SECOND
OFFLINE_LOOK_NS = 10 * SECOND
FIRST_RETRY_NS = 30 * SECOND
LAST_RETRY_NS = 3600 * SECOND
REFUSED_ADVICE = "ask the operator whether this device was revoked or replaced; a new claim file enrols it again"


class OpenDesk(Protocol):
    """Makes the way to the hub's enrolment desk."""

    def __call__(self, claim: ClaimFile) -> Desk:
        """A desk for one exchange."""


class Now(Protocol):
    """The time that certificates are judged by."""

    def __call__(self) -> int:
        """Nanoseconds since 1970; never below the latest time that the director has signed."""


@dataclass(frozen=True, slots=True)
class Member:
    """Who the device is at its start, and the doors to the outside."""

    claim: ClaimFile
    identity: Identity
    keys: Keys
    access: Access
    open_desk: OpenDesk


@dataclass(frozen=True, slots=True)
class Means:
    """What obtaining identities takes."""

    disk: Disk
    ids: Ids
    uplink: Uplink
    asking: Asking
    now: Now


class Settled:
    """The membership of a device whose login is somebody else's business."""

    certificate_expires_ns = 0

    def __init__(self) -> None:
        self.on_changed: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Nothing to do."""

    def stop(self) -> None:
        """Nothing to do."""

    def problem(self) -> str:
        """Nothing is known to be wrong."""
        return ""


class Membership:
    """Looks after the identity of this device from `start` on."""

    def __init__(self, member: Member, means: Means) -> None:
        self.on_changed: Callable[[], None] = lambda: None
        self._trouble = ""
        self._claim_refusal = ""
        """Why the hub did not take the claim. It is not asked again before the next start: a token stays spent."""
        self._claim = member.claim
        self._digest = claim_digest(member.claim)
        self._keys = member.keys
        self._access = member.access
        self._open_desk = member.open_desk
        self._means = means
        self._enrolment = Enrolment(means.disk, member.keys, means.ids, ASK_TIMEOUT_S)
        self._retry_ns = FIRST_RETRY_NS
        self._timer: Timer | None = None
        self._use(member.identity)

    @property
    def certificate_expires_ns(self) -> int:
        """End of the certificate in force; 0: it is a password."""
        return self._lifetime.ends_ns if self._lifetime else 0

    def problem(self) -> str:
        """What is wrong with this device's login, and what to do; empty: nothing."""
        problems = [self._claim_refusal, self._trouble, self._access.trouble]
        if self._access.refused:
            problems.append(REFUSED_ADVICE)
        return "; ".join(one for one in problems if one)

    def start(self) -> None:
        """Begin, unless there is nothing to look after."""
        if self._lifetime or self._claim_is_new:
            self._means.uplink.tasks.spawn(self._turn(), "membership")

    def stop(self) -> None:
        """No more turns; the owner of the tasks ends the one under way."""
        if self._timer is not None:
            self._timer.cancel()

    async def _turn(self) -> None:
        """Do what is due, and come again when something may be."""
        try:
            pause_ns = await self._step()
            self._retry_ns, self._trouble = FIRST_RETRY_NS, ""
        except RefusedError as error:
            self._say(f"{error}; {REFUSED_ADVICE}")
            pause_ns = self._next_retry_ns()
        except (LinkError, UnansweredError, DiskError) as error:
            self._say(f"no new identity yet: {error}")
            pause_ns = self._next_retry_ns()
        self._timer = self._means.uplink.clock.call_later(pause_ns, self.start)

    async def _step(self) -> int:
        """Do what is due; returns how long there is nothing to do, if nothing happens."""
        candidate = await load_candidate(self._means.disk, self._digest)
        if candidate is not None and candidate.enrolled:
            await self._come_into_force(candidate)
        elif self._claim_is_new:
            await self._use_claim()
        elif self._lifetime is not None:
            await self._keep_certified(self._lifetime)
        return self._quiet_ns()

    @property
    def _claim_is_new(self) -> bool:
        return self._identity.claim != self._digest and not self._claim_refusal

    async def _use_claim(self) -> None:
        """A claim that the hub refuses, by an operator's mistake, leaves the device as it is."""
        try:
            identity = await self._enrolment.enrol(self._claim, self._open_desk(self._claim))
        except RefusedError as error:
            self._claim_refusal = f"the claim is no good: {error}; ask for a new claim file"
            log.warning("%s", self._claim_refusal)
        else:
            await self._prove(identity)

    async def _come_into_force(self, candidate: Identity) -> None:
        """What a start before this one was granted and did not get to use. One that is over is recovered from later."""
        if candidate.certificate and self._keys.lifetime(candidate.certificate).over(self._means.now()):
            await promote(self._means.disk)
            self._use(candidate)
        else:
            await self._prove(candidate)

    async def _keep_certified(self, lifetime: Lifetime) -> None:
        now_ns = self._means.now()
        if self._means.uplink.link.connected:
            if lifetime.renewal_due(now_ns):
                await self._prove(await self._renew())
        elif self._access.refused or lifetime.over(now_ns):
            desk = self._open_desk(self._claim)
            await self._prove(await self._enrolment.recover(self._claim, self._identity, desk))

    async def _renew(self) -> Identity:
        candidate = await self._enrolment.candidate(self._claim)
        told = await self._means.asking.ask(AskRenewal(csr=candidate.csr), ASK_TIMEOUT_S)
        if not isinstance(told, Renewed):
            raise RefusedError("the hub answered something else than was asked")
        reply = EnrolReply(ok=True, username=self._identity.username, certificate=told.certificate)
        return await self._enrolment.grant(candidate, reply)

    async def _prove(self, candidate: Identity) -> None:
        """Log in with it; then it is in force. Raises LinkError: the one before goes on being used."""
        try:
            await self._access.change(candidate)
        except LoginRefusedError:
            if candidate.claim == self._identity.claim:  # a renewal is asked for again, with another key
                await discard_candidate(self._means.disk)
            raise
        await promote(self._means.disk)
        self._use(candidate)
        self.on_changed()
        log.info("%s is logged in with a new %s", candidate.username, "certificate" if candidate.csr else "password")

    def _use(self, identity: Identity) -> None:
        self._identity = identity
        self._lifetime = self._keys.lifetime(identity.certificate) if identity.certificate else None

    def _quiet_ns(self) -> int:
        if not self._means.uplink.link.connected or self._lifetime is None:
            return OFFLINE_LOOK_NS
        until_ns = self._lifetime.renewal_ns - self._means.now()
        return max(SECOND, min(until_ns, LOOK_AGAIN_NS))

    def _next_retry_ns(self) -> int:
        """Growing pauses, each drawn anew: a fleet that failed together must not come back together."""
        pause_ns, self._retry_ns = self._retry_ns, min(LAST_RETRY_NS, 2 * self._retry_ns)
        share = int(self._means.ids.new()[:8], 16) / 0xFFFFFFFF
        return int(pause_ns * (0.5 + share))

    def _say(self, trouble: str) -> None:
        log.log(logging.DEBUG if trouble == self._trouble else logging.WARNING, "%s", trouble)
        self._trouble = trouble
