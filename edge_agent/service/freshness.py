"""When the trust metadata is looked at again though nothing is to be installed: a device must hear of replaced keys.

At the start, when the link has come back after a while, and every few hours; again soon when that failed, and when an
assignment comes that an unknown key has signed. Devices spread out, so that a fleet does not ask all at once.
"""

import logging

from edge_agent.errors import RefusedError, UnansweredError, UnjudgedError
from edge_agent.service.courier import Uplink
from edge_agent.service.trusting import Trusting
from wire.ports import SECOND, Ids, Timer

log = logging.getLogger(__name__)

QUIET_NS = 900 * SECOND
"""A link that comes back within this time after a refresh is no reason for another."""
FIRST_RETRY_NS = 60 * SECOND
UNKNOWN_DIRECTOR_NS = 60 * SECOND
"""Least time between two refreshes for an unknown director key: whoever sends such things gets no more work done."""
SPREAD_NS = 5 * SECOND


class Freshness:
    """Keeps `trusting` up to date, every `interval_s` seconds at least while the link is up."""

    __slots__ = (
        "_done_ns",
        "_ids",
        "_interval_ns",
        "_problem",
        "_retry_ns",
        "_running",
        "_timer",
        "_tried_ns",
        "_trusting",
        "_uplink",
    )

    def __init__(self, trusting: Trusting, uplink: Uplink, ids: Ids, interval_s: float) -> None:
        self._trusting = trusting
        self._uplink = uplink
        self._ids = ids
        self._interval_ns = int(interval_s * SECOND)
        self._retry_ns = min(FIRST_RETRY_NS, self._interval_ns)
        self._tried_ns: int | None = None
        self._done_ns: int | None = None
        self._running = False
        self._timer: Timer | None = None
        self._problem = ""

    @property
    def problem(self) -> str:
        """Why there is no fresh metadata, in words; empty while all is well."""
        trust = self._trusting.record().trust
        if not trust.verified_ns:
            return f"no trust metadata was verified yet: {self._problem}" if self._problem else ""
        stale_s = trust.stale_s(self._trusting.now_ns())
        if not stale_s:
            return ""
        why = self._problem or "the hub was not reached"
        return f"the newest trust metadata expired {stale_s / 3600:.1f} h ago or more: {why}"

    def on_up(self) -> None:
        """The link is up (again)."""
        if self._done_ns is None or self._now_ns() - self._done_ns >= QUIET_NS:
            self._again_in(int(SPREAD_NS * self._chance()))

    def on_unknown_director(self) -> None:
        """An assignment came that a key has signed which no root names so far."""
        since_ns = UNKNOWN_DIRECTOR_NS if self._tried_ns is None else self._now_ns() - self._tried_ns
        if since_ns >= UNKNOWN_DIRECTOR_NS:
            self._begin()
        else:
            self._again_in(UNKNOWN_DIRECTOR_NS - since_ns)

    def stop(self) -> None:
        """No more refreshes."""
        if self._timer is not None:
            self._timer.cancel()

    def _begin(self) -> None:
        if not self._uplink.link.connected:
            self._done_ns = None  # due as soon as the link is up
        elif not self._running:
            self._running = True
            self._tried_ns = self._now_ns()
            self._uplink.tasks.spawn(self._refresh(), "refresh-trust")

    async def _refresh(self) -> None:
        try:
            await self._trusting.refresh()
        except (RefusedError, UnansweredError, UnjudgedError) as error:
            self._problem = str(error)
            log.warning("trust metadata is not fresh: %s", error)
            self._again_in(self._retry_ns)
            self._retry_ns = min(2 * self._retry_ns, self._interval_ns)
        else:
            self._problem, self._done_ns = "", self._now_ns()
            self._retry_ns = min(FIRST_RETRY_NS, self._interval_ns)
            self._again_in(int(self._interval_ns * (0.75 + 0.25 * self._chance())))
        finally:
            self._running = False

    def _again_in(self, ns: int) -> None:
        self.stop()
        self._timer = self._uplink.clock.call_later(ns, self._begin)

    def _chance(self) -> float:
        return int(self._ids.new()[:8], 16) / 2**32

    def _now_ns(self) -> int:
        return self._uplink.clock.elapsed_ns()
