"""What is to be done once a transaction has been committed. Every effect may be lost or repeated without harm."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish on the broker (QoS 1)."""

    topic: str
    payload: bytes
    retain: bool = False


class Wake(StrEnum):
    """A service that has something to look at; it finds out what from the database."""

    USERS = "users"
    BLOBS = "blobs"
    DELTAS = "deltas"
    ROLLOUTS = "rollouts"
    JOBS = "jobs"
    LOOK = "look"
    """The leader's look at what is due; it follows whenever anybody is woken."""
    AHEAD = "ahead"
    """The same, without a rest: a device works on orders that are not ours."""


@dataclass(frozen=True, slots=True)
class Effects:
    """Publishes in order, and services to wake. They add up."""

    publishes: tuple[Publish, ...] = ()
    wakes: frozenset[Wake] = frozenset()

    def __add__(self, other: "Effects") -> "Effects":
        return Effects(self.publishes + other.publishes, self.wakes | other.wakes)


NOTHING = Effects()

Change: TypeAlias = Callable[[Callable[[Connection, int], Effects]], Awaitable[None]]
"""Commits `call(connection, now)` on behalf of whoever asked for it, and has the effects performed."""


def wake(*services: Wake) -> Effects:
    """Only wake these."""
    return Effects(wakes=frozenset(services))
