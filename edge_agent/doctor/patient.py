"""The device as the checks see it: each part is read once, when a check first asks for it.

Where a part is missing there is a text that says why.
"""

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from edge_agent.client import AgentClient
from edge_agent.client import AgentError as CallError
from edge_agent.core.identity import Identity
from edge_agent.core.lifetime import at_least
from edge_agent.core.pointer import Record, choose
from edge_agent.errors import AgentError
from edge_agent.service.claims import CLAIM, parse_claim
from edge_agent.service.durable import STATE, STATE_COPY
from edge_agent.service.identity import IDENTITY
from edge_agent.settings import Settings
from wire.codec import decode
from wire.errors import WireError
from wire.identity import ClaimFile

API_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `advice` says what to do; empty when it is in order."""

    what: str
    seen: str
    advice: str = ""


@dataclass(frozen=True)
class Patient:
    """One device, from outside."""

    settings: Settings
    root: Path
    api: str

    @cached_property
    def record(self) -> Record | Exception:
        """The newest good copy of the pointer record, or why there is none."""
        try:
            return choose([path.read_bytes() for path in (self.root / STATE, self.root / STATE_COPY) if path.exists()])
        except (AgentError, OSError) as error:
            return error

    @cached_property
    def claim(self) -> ClaimFile | str:
        """The claim that the agent would go by."""
        given = Path(self.settings.claim)
        path = given if self.settings.claim and given.exists() else self.root / CLAIM
        try:
            return parse_claim(path.read_bytes(), str(path))
        except FileNotFoundError:
            return "there is none"
        except (AgentError, OSError) as error:
            return str(error)

    @cached_property
    def identity(self) -> Identity | str:
        """The identity in force."""
        try:
            return decode((self.root / IDENTITY).read_bytes(), Identity)
        except FileNotFoundError:
            return "none yet"
        except (WireError, OSError) as error:
            return str(error)

    @cached_property
    def status(self) -> dict[str, Any] | str:
        """What the running daemon says of itself."""
        try:
            with AgentClient(self.api, API_TIMEOUT_S) as client:
                return client.status()
        except CallError as error:
            return str(error)

    @property
    def connected(self) -> bool:
        """Does a daemon run here that has the broker's yes?"""
        return isinstance(self.status, dict) and bool(self.status["connected"])

    def now_ns(self) -> int:
        """What time it is at least."""
        floor_ns = self.record.time_floor_ns if isinstance(self.record, Record) else 0
        return at_least(time.time_ns(), floor_ns)
