"""What every client of the hub's API keeps to: a key never travels in the clear, and one authority can be named."""

import ipaddress
import ssl
from urllib.parse import urlsplit

from wire.errors import MalformedError


def check_private(base_url: str) -> None:
    """May a key be sent there? To this machine in any way, to others by TLS only. Raises MalformedError."""
    url = urlsplit(base_url)
    if url.scheme == "https" or url.hostname == "localhost":
        return
    try:
        if ipaddress.ip_address(url.hostname or "").is_loopback:
            return
    except ValueError:
        pass
    raise MalformedError(f"refusing to send an API key to {base_url} in the clear: use https://")


def verification(ca_file: str) -> ssl.SSLContext | bool:
    """How servers are verified: by the authority (PEM) in the file, or by those of this machine when none is named.

    Raises MalformedError.
    """
    if not ca_file:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # an SSLError is one
        raise MalformedError(f"ca_file {ca_file}: {error.strerror or error}") from error
