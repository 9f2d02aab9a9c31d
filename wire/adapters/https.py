"""What every client of the hub's API keeps to: where it finds hub and key, and that a key never travels in the clear.

A key is read from a file and shown to nobody; one authority can be named that vouches for the hub's certificate.
"""

import ipaddress
import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from wire.errors import MalformedError

HUB_URL: Final = "http://127.0.0.1:8600"
URL_VARIABLE: Final = "FLEETLOOP_URL"
API_KEY_VARIABLE: Final = "FLEETLOOP_API_KEY_FILE"
CA_VARIABLE: Final = "FLEETLOOP_CA_FILE"
"""Where the environment says it for every program; a program's own variable, if it has one, goes first."""

OF_CERTIFICATE: Final = "authority (PEM) of the hub's certificate, if it is none that this machine trusts anyway"


def read_api_key(path: str, what: str = "an API key") -> str:
    """The API key in the file at `path`; `what` says which one is wanted. Raises MalformedError, without its text."""
    if not path:
        raise MalformedError(f"api_key_file is not set: name a file with {what}, or set {API_KEY_VARIABLE}")
    try:
        key = Path(path).read_text(errors="replace").strip()
    except OSError as error:
        raise MalformedError(f"api_key_file {path}: {error.strerror}") from error
    if not (key.isascii() and key.isprintable() and key):
        raise MalformedError(f"api_key_file {path} holds no API key (one line, flk_...)")
    return key


def check_private(base_url: str) -> None:
    """May a key be sent there? To this machine in any way, to others by TLS only. Raises MalformedError."""
    url = urlsplit(base_url)
    if url.scheme != "https" and not is_this_machine(url.hostname or ""):
        raise MalformedError(f"refusing to send an API key to {base_url} in the clear: use https://")


def is_this_machine(host: str) -> bool:
    """Does what is sent to this name or address, or heard on it, never leave this machine?"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
