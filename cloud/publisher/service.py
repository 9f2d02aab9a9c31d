"""One pass over the signing desk: judge each request, note a signature in the ledger, only then hand it in.

A crash between the two repeats the very same signature on the next pass (ed25519 is deterministic), so nothing is ever
signed twice with different content.
"""

import logging
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Literal

from cloud.publisher.core import Policy, Signed, Verdict, judge
from cloud.publisher.ports import Hub, Ledger
from cloud.publisher.request import SigningRequest
from wire.dsse import RELEASE_TYPE, Sign, seal

_log = logging.getLogger(__name__)

Decision = Literal["signed", "refused", "waiting"]
REASON_LIMIT = 500


class UnknownRequestError(Exception):
    """No pending signing request has this id."""


class NotApprovableError(Exception):
    """Not even a person may approve this; the message says why."""


class Desk:
    """The publisher at work. `signers` as `wire.dsse.seal` takes them."""

    def __init__(self, hub: Hub, ledger: Ledger, signers: Mapping[str, Sign], policy: Policy) -> None:
        self._hub = hub
        self._ledger = ledger
        self._signers = signers
        self._policy = policy

    def review(self) -> Sequence[tuple[SigningRequest, Verdict]]:
        """All pending requests with what the policy thinks of them."""
        return [(request, self._judge(request)) for request in self._hub.pending()]

    def work(self, *, by_policy: bool) -> Mapping[str, Decision]:
        """Decide what can be decided without a person; with `by_policy` false, only broken requests are refused."""
        # Judged one by one: a signature changes what the ledger says about the next request.
        return {request.id: self._decide(request, self._judge(request), by_policy) for request in self._hub.pending()}

    def approve(self, request_id: str) -> None:
        """Sign what a person approved. Raises UnknownRequestError, NotApprovableError."""
        request, verdict = self._find(request_id)
        if verdict.integrity:
            raise NotApprovableError("; ".join(verdict.integrity))
        self._sign(request, verdict)

    def refuse(self, request_id: str, reason: str) -> None:
        """Refuse what a person rejected. Raises UnknownRequestError."""
        request, _ = self._find(request_id)
        self._refuse(request, reason)

    def _judge(self, request: SigningRequest) -> Verdict:
        return judge(request, self._ledger.last(request.model), self._policy)

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
        digest = sha256(request.payload).hexdigest()
        signed = Signed(version=request.version, counter=verdict.counter, payload_sha256=digest)
        self._ledger.record(request.model, signed)
        self._hub.sign(request.id, seal(request.payload, RELEASE_TYPE, self._signers))
        _log.info("signed %s version %d, counter %d", request.model, request.version, verdict.counter)

    def _refuse(self, request: SigningRequest, reason: str) -> None:
        self._hub.refuse(request.id, reason[:REASON_LIMIT])
        _log.warning("refused %s version %d: %s", request.model, request.version, reason)
