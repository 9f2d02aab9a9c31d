"""What the ceremony needs of the hub: its public keys, and somebody to take a finished root."""

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fleetloop.keys.settings import Settings
from wire.adapters.https import read_api_key

if TYPE_CHECKING:  # it needs httpx, which the ceremony itself does not
    from fleetloop.client import HubClient


class HubFailedError(Exception):
    """The hub could not be asked, or did not take what it was sent; the message is its reason."""


def held_keys(settings: Settings) -> dict[str, list[str]]:
    """Public keys that the hub holds: "online", "director"."""
    with _client(settings) as hub:
        held: dict[str, list[str]] = hub.trust()["held"]
        return held


def root_version(settings: Settings) -> int:
    """Version of the hub's root; 0 = it has none."""
    with _client(settings) as hub:
        return int(hub.trust()["roles"].get("root", {"version": 0})["version"])


def hand_in(settings: Settings, roots: Sequence[bytes]) -> None:
    """Have the hub take these roots, oldest first."""
    with _client(settings) as hub:
        for root in roots:
            hub.adopt_root(base64.b64encode(root).decode())


@contextmanager
def _client(settings: Settings) -> "Iterator[HubClient]":
    from fleetloop.client import HubClient, HubError

    key = read_api_key(settings.api_key_file, "an API key of the role admin")
    try:
        with HubClient(settings.hub_url, key, ca_file=settings.ca_file) as hub:
            yield hub
    except HubError as error:
        raise HubFailedError(str(error)) from error
