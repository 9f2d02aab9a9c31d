"""One identity on two devices: the rule that sees it from the sessions in their online statuses.

Each start of an agent makes a random session id, so a session that comes back after another one has spoken is a second
device, unless its old message was delivered again. A delivery again tells itself apart: the agent counts its starts, so
the message of an earlier session carries a lower boot number. Between equal boot numbers one return is proof; otherwise
only turns that no redelivery explains.
"""

from dataclasses import dataclass
from typing import Final

MOST_REPLAYED_TURNS: Final = 4
"""A broker that delivers the last two statuses again makes two turns; this allows for two such deliveries in a row."""


@dataclass(frozen=True, slots=True)
class Session:
    """One start of an agent, as its status says."""

    id: str
    boot: int


@dataclass(frozen=True, slots=True)
class Turns:
    """The session that spoke last, the one before it, and how often the two came back after each other."""

    last: Session | None = None
    before: Session | None = None
    returns: int = 0


def on_session(turns: Turns, spoke: Session) -> Turns:
    """An online status of the session `spoke` arrived."""
    if not spoke.id or spoke == turns.last:
        return turns
    returned = spoke == turns.before
    return Turns(spoke, turns.last, turns.returns + 1 if returned else 0)


def are_clones(turns: Turns) -> bool:
    """Do two devices speak under one name?"""
    if turns.last is None or turns.before is None or not turns.returns:
        return False
    return turns.last.boot == turns.before.boot or turns.returns > MOST_REPLAYED_TURNS
