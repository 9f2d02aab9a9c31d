"""Logging in to the broker with an identity, over an MQTT link."""

from typing import Protocol

from edge_agent.core.identity import Identity
from wire.adapters.mqtt_link import Credentials


def credentials(identity: Identity) -> Credentials:
    """The identity as the link takes it."""
    return Credentials(
        identity.username, identity.password, certificate=identity.certificate, key=identity.key
    )  # fmt: skip


class Login(Protocol):
    """A link that tells how its logins went, and can log in anew."""

    @property
    def trouble(self) -> str:
        """Why there is no connection; empty: there is one, or nothing is known."""

    @property
    def refused(self) -> bool:
        """Did the broker say no, and is there no connection since?"""

    async def change(self, credentials: Credentials) -> None:
        """Log in anew. Raises LoginRefusedError, LinkError."""


class BrokerAccess:
    """Implements `edge_agent.ports.Access`."""

    def __init__(self, link: Login) -> None:
        self._link = link

    @property
    def trouble(self) -> str:
        """Why there is no connection."""
        return self._link.trouble

    @property
    def refused(self) -> bool:
        """Did the broker say no?"""
        return self._link.refused

    async def change(self, identity: Identity) -> None:
        """Log in anew. Raises LoginRefusedError, LinkError."""
        await self._link.change(credentials(identity))
