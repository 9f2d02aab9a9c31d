"""What enters the reconciler's mailbox: each is taken by itself, and written down before anything is done."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.core.slot import Event
from edge_agent.service.trusting import Change


@dataclass(frozen=True, slots=True)
class Desired:
    """A desired document arrived. `ack` tells the broker that its effects are durable."""

    envelope: bytes
    ack: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Happened:
    """An event of one slot."""

    slot: str
    event: Event


@dataclass(frozen=True, slots=True)
class Learned:
    """Something to be remembered. `done` is set once it is durable."""

    change: Change
    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class OutcomesTaken:
    """The hub has receipted how these executions ended."""

    executions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Lasted:
    """This start has lasted."""


Item = Desired | Happened | Learned | OutcomesTaken | Lasted
