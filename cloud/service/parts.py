"""What a hub is made of, and how often its timers look."""

from dataclasses import dataclass, field

from cloud.ports import Store
from cloud.service.asks import Asks
from cloud.service.blobs import Blobs
from cloud.service.chunk_answers import ChunkAnswers
from cloud.service.deltas import Deltas
from cloud.service.inbox import Inbox
from cloud.service.jobs import Jobs
from cloud.service.keys import KeysInUse
from cloud.service.leadership import Leadership
from cloud.service.outbox import Outbox
from cloud.service.repeating import Failures
from cloud.service.trust.service import Trust
from wire.ports import Clock, Ids, Link
from wire.topics import Topics


@dataclass(frozen=True, slots=True)
class Intervals:
    """How often the timers look, in seconds."""

    rollouts_s: float = 1.0
    """While a rollout is under way."""
    republish_s: float = 5.0
    """While a rollout is under way, or another hub may have begun one."""
    rest_s: float = 60.0
    """When nothing is under way, as long as there is news; the first look follows it within `republish_s`, and so does
    every look for a device that works on orders that are not ours."""
    idle_s: float = 600.0
    """When there is none: whatever this hub begins itself rings its bells."""
    presence_s: float = 60.0
    trust_s: float = 60.0
    silence_s: float = 2700.0
    """A device of which nothing was heard for so long, and no last will either, counts as gone: three of the agent's
    intervals between two messages at rest."""
    prune_s: float = 900.0
    promotion_s: float = 30.0
    """While there is a version that a rule may promote."""
    keys_s: float = 60.0
    """How exactly it is known when a key was last used."""
    keep_telemetry_s: float = 7 * 24 * 3600.0
    """Points older than this are rolled up into hours. `stats` stay: the newest of each variant, not a history."""
    keep_hours_s: float = 365 * 24 * 3600.0
    """Hours older than this are removed."""
    keep_jobs_s: float = 30 * 24 * 3600.0
    """Files of jobs that ended longer ago are removed."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The services that the hub runs, and the ports that it uses itself."""

    store: Store
    link: Link
    clock: Clock
    ids: Ids
    topics: Topics
    outbox: Outbox
    inbox: Inbox
    asks: Asks
    blobs: Blobs
    chunk_answers: ChunkAnswers
    deltas: Deltas
    jobs: Jobs
    trust: Trust
    leadership: Leadership
    keys_in_use: KeysInUse = field(default_factory=KeysInUse)
    failures: Failures = field(default_factory=Failures)
    group: str = ""
    """Of the shared subscription through which several hubs divide what devices say; empty = there is but this one."""
