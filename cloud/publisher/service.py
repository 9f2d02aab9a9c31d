"""One pass over the signing desk: see that hub and book agree, judge each request, sign, hand in.

Whatever is signed is kept in the book first. A crash between the two hands in the very same bytes on the next pass, so
nothing is ever signed twice with different content.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Literal

from cloud.publisher.book import ROOT, Book
from cloud.publisher.core import Policy, Verdict, judge
from cloud.publisher.ports import Hub, HubTrust, Shown
from cloud.publisher.request import SigningRequest
from wire.trust import Target, target_path

_log = logging.getLogger(__name__)

Decision = Literal["signed", "refused", "waiting"]
REASON_LIMIT = 500
BATCH_BYTES = 1024 * 1024


class UnknownRequestError(Exception):
    """No pending signing request has this id."""


class NotApprovableError(Exception):
    """Not even a person may approve this; the message says why."""


class NoRootError(Exception):
    """The hub has no root of trust yet, so nothing can be signed."""


class DisagreementError(Exception):
    """The hub shows genuine documents that this publisher has not signed; signing on would fork the history."""


class Desk:
    """The publisher at work."""

    def __init__(self, hub: Hub, book: Book, policy: Policy) -> None:
        self._hub = hub
        self._book = book
        self._policy = policy

    def review(self) -> Sequence[tuple[SigningRequest, Verdict]]:
        """All pending requests with what the policy thinks of them."""
        return [(request, self._judge(request)) for request in self._hub.pending()]

    def work(self, *, by_policy: bool) -> Mapping[str, Decision]:
        """Decide what can be decided without a person; with `by_policy` false, only broken requests are refused.

        Raises NoRootError, NotNamedError, ForeignRootError, DisagreementError: nothing can be signed as things stand.
        """
        self.agree()
        # Judged one by one: a signature changes what the book says about the next request.
        return {request.id: self._decide(request, self._judge(request), by_policy) for request in self._hub.pending()}

    def approve(self, request_id: str) -> None:
        """Sign what a person approved. Raises UnknownRequestError, NotApprovableError, and what `work` raises."""
        self.agree()
        request, verdict = self._find(request_id)
        if verdict.integrity:
            raise NotApprovableError("; ".join(verdict.integrity))
        self._sign(request, verdict)

    def refuse(self, request_id: str, reason: str) -> None:
        """Refuse what a person rejected. Raises UnknownRequestError."""
        request, _ = self._find(request_id)
        self._refuse(request, reason)

    def agree(self, *, restart: bool = False, restored: bool = False) -> None:
        """Follow the root, hand in what the hub has not got, and sign again what is due. Raises what `work` raises.

        With `restart` everything is signed again with versions from 1 on: after a root that has replaced both the
        targets key and the online key, because versions had been driven up. With `restored` the hub is told to take
        what it has lost with its database.
        """
        shown = self._hub.trust()
        if ROOT not in shown.roles:
            raise NoRootError("the hub has no root of trust yet; `fleetloop keys init` makes one (docs/security.md)")
        self._book.follow(self._hub, shown.roles[ROOT].version)
        missing = not restart and bool(self._missing(shown))
        if missing and not restored:
            self._catch_up()
        if self._book.renew(restart=restart) or missing:
            for batch in _batches(self._missing(self._hub.trust())):
                self._hub.deliver(batch, restored=restored)
                _log.info("handed in %s, signed anew", ", ".join(batch))

    def _catch_up(self) -> None:
        """A crash may have come between signing a release and handing it in: that is what the hub lacks."""
        for request in self._hub.pending():
            path, target = _target(request, self._judge(request))
            if self._book.lists(path, target):
                self._hub.sign(request.id, self._book.enter(path, target))

    def _missing(self, shown: HubTrust) -> dict[str, bytes]:
        """Documents of ours that the hub has not got. Raises DisagreementError."""
        ours = self._book.documents()
        strange = [role for role, other in shown.roles.items() if self._contradicts(role, other, ours.get(role))]
        if strange:
            names = ", ".join(f"{role} version {shown.roles[role].version}" for role in strange)
            raise DisagreementError(
                f"the hub shows {names}, which this publisher has not signed: either another process signs with its "
                "key, or the key directory came back from an old backup; nothing is signed until that is settled"
            )
        return {role: data for role, data in ours.items() if role not in shown.roles or _differs(shown, role, data)}

    def _contradicts(self, role: str, other: Shown, own: bytes | None) -> bool:
        """Is it as new as ours or newer, not ours, and genuine under the present root?"""
        if not self._book.signs(role) or other.version < self._book.version(role):
            return False
        if own is not None and sha256(own).hexdigest() == other.sha256:
            return False
        document = self._hub.file(f"{other.version}.{role}.json")
        return document is not None and self._book.believes(role, document)

    def _judge(self, request: SigningRequest) -> Verdict:
        return judge(request, self._book.last(request.model), self._policy)

    def _find(self, request_id: str) -> tuple[SigningRequest, Verdict]:
        found = next((pair for pair in self.review() if pair[0].id == request_id), None)
        if found is None:
            raise UnknownRequestError(f"no pending signing request {request_id!r}; `publisher list` shows what waits")
        return found

    def _decide(self, request: SigningRequest, verdict: Verdict, by_policy: bool) -> Decision:
        if verdict.integrity or (by_policy and verdict.merit):
            self._refuse(request, "; ".join(verdict.integrity + verdict.merit))
            return "refused"
        if not by_policy:
            return "waiting"
        self._sign(request, verdict)
        return "signed"

    def _sign(self, request: SigningRequest, verdict: Verdict) -> None:
        self._hub.sign(request.id, self._book.enter(*_target(request, verdict)))
        _log.info("signed %s version %d, counter %d", request.model, request.version, verdict.counter)

    def _refuse(self, request: SigningRequest, reason: str) -> None:
        self._hub.refuse(request.id, reason[:REASON_LIMIT])
        _log.warning("refused %s version %d: %s", request.model, request.version, reason)


def _target(request: SigningRequest, verdict: Verdict) -> tuple[str, Target]:
    payload = request.payload
    target = Target(len(payload), sha256(payload).hexdigest(), verdict.counter)
    return target_path(request.model, request.version), target


def _differs(shown: HubTrust, role: str, data: bytes) -> bool:
    return shown.roles[role].sha256 != sha256(data).hexdigest()


def _batches(documents: Mapping[str, bytes]) -> Iterator[Mapping[str, bytes]]:
    """Pieces that fit one request each, in the same order."""
    batch: dict[str, bytes] = {}
    for role, data in documents.items():
        if batch and sum(map(len, batch.values())) + len(data) > BATCH_BYTES:
            yield batch
            batch = {}
        batch[role] = data
    if batch:
        yield batch
