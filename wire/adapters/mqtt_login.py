"""Who connects to a broker, and what the broker says when the connection breaks."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who connects, by a password or by a certificate for a key (both PEM), whose common name is then the username.

    The client id is the username unless given, so nobody can take another's session over.
    """

    username: str
    password: str = field(default="", repr=False)
    client_id: str = ""
    certificate: str = ""
    key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when the connection breaks."""

    topic: str
    payload: bytes
