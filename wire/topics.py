"""The topic grammar. Direction comes first, so that a few patterns make up every access rule.

{root}/up/{device}/{channel}         device -> cloud: status (retained, last will), heartbeat (empty), reported,
                                     telemetry, fed, ask
{root}/up/{device}/blob/{sha256}/{i} device -> cloud: chunks of an object the cloud asked for
{root}/dn/{device}/{channel}         cloud -> device: desired (retained), receipt, want, fed, answer
{root}/dn/{device}/blob/{sha256}/{i} cloud -> device: chunks that the device asked for by itself
{root}/blob/{sha256}/{i}             retained chunks that any device may pull
{root}/enrol/{up|dn}/{client}        the only topics the enrolment credential can reach
"""

import re
from typing import Final, Literal, NamedTuple

from wire.errors import TopicError

DEFAULT_ROOT: Final = "fl/1"
UP_CHANNELS: Final = ("status", "heartbeat", "reported", "telemetry", "fed", "ask")
DOWN_CHANNELS: Final = ("desired", "receipt", "want", "fed", "answer")

NAME_PATTERN: Final = "[a-z0-9][a-z0-9._-]{0,62}"
NAME_RULE: Final = "lower-case letters, digits, '.', '_' and '-', at most 63, the first one a letter or a digit"
"""Names of devices, models and clients, for programs and for people."""

_NAME = re.compile(NAME_PATTERN)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_INDEX = re.compile(r"0|[1-9][0-9]{0,6}")

UpChannel = Literal["status", "heartbeat", "reported", "telemetry", "fed", "ask"]
DownChannel = Literal["desired", "receipt", "want", "fed", "answer"]


class Upward(NamedTuple):
    """A message from a device: `channel` is one of UP_CHANNELS."""

    device: str
    channel: str


class UpwardChunk(NamedTuple):
    """A chunk that a device sends up."""

    device: str
    sha256: str
    chunk: int


class Downward(NamedTuple):
    """A message to a device: `channel` is one of DOWN_CHANNELS."""

    device: str
    channel: str


class DownwardChunk(NamedTuple):
    """A chunk sent to one device that asked for it."""

    device: str
    sha256: str
    chunk: int


class Chunk(NamedTuple):
    """A retained chunk of an object."""

    sha256: str
    chunk: int


class Enrolment(NamedTuple):
    """A request (`up`) or reply (`dn`) of a client that has no identity yet."""

    direction: str
    client: str


Parsed = Upward | UpwardChunk | Downward | DownwardChunk | Chunk | Enrolment


def valid_name(name: str) -> bool:
    """Can a device, model or client be called so?"""
    return _NAME.fullmatch(name) is not None


def _checked(name: str) -> str:
    if not valid_name(name):
        raise TopicError(f"{name!r} is not a valid name in a topic")
    return name


class Topics:
    """Builds and parses topics under one configurable root (one hub = one fleet = one root)."""

    __slots__ = ("root",)

    def __init__(self, root: str = DEFAULT_ROOT) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+){0,2}", root):
            raise TopicError(f"{root!r} cannot be a topic root: one to three plain words separated by '/'")
        self.root = root

    def up(self, device: str, channel: UpChannel) -> str:
        """Topic on which `device` publishes `channel`."""
        return f"{self.root}/up/{_checked(device)}/{channel}"

    def up_chunk(self, device: str, sha256: str, index: int) -> str:
        """Topic on which `device` publishes chunk `index` of an object it was asked for."""
        return f"{self.root}/up/{_checked(device)}/blob/{sha256}/{index}"

    def dn(self, device: str, channel: DownChannel) -> str:
        """Topic on which the cloud publishes `channel` to `device`."""
        return f"{self.root}/dn/{_checked(device)}/{channel}"

    def dn_chunk(self, device: str, sha256: str, index: int) -> str:
        """Topic on which the cloud sends chunk `index` to the one device that asked for it."""
        return f"{self.root}/dn/{_checked(device)}/blob/{sha256}/{index}"

    def all_dn_chunks(self, device: str) -> str:
        """Filter for the chunks that are sent to `device` alone."""
        return f"{self.root}/dn/{_checked(device)}/blob/+/+"

    def blob(self, sha256: str, index: int) -> str:
        """Topic of one retained chunk."""
        return f"{self.root}/blob/{sha256}/{index}"

    def enrol(self, direction: Literal["up", "dn"], client: str) -> str:
        """Topic of an enrolment request or reply."""
        return f"{self.root}/enrol/{direction}/{_checked(client)}"

    def all_up(self, channel: str) -> str:
        """Filter for one up channel of every device; `blob/#` for their chunks."""
        return f"{self.root}/up/+/{channel}"

    def parse(self, topic: str) -> Parsed:
        """Take a concrete topic apart.

        Raises:
            TopicError: it lies outside the root or follows no rule of the grammar.
        """
        prefix = self.root + "/"
        if not topic.startswith(prefix):
            raise TopicError(f"{topic[:120]!r} lies outside {self.root!r}")
        parsed = _parse_parts(topic[len(prefix) :].split("/"))
        if parsed is None:
            raise TopicError(f"{topic[:120]!r} is not a topic of this contract")
        return parsed


def _parse_parts(parts: list[str]) -> Parsed | None:
    match parts:
        case ["up", device, channel] if valid_name(device) and channel in UP_CHANNELS:
            return Upward(device, channel)
        case ["up", device, "blob", sha256, index] if valid_name(device) and _chunk(sha256, index):
            return UpwardChunk(device, sha256, int(index))
        case ["dn", device, channel] if valid_name(device) and channel in DOWN_CHANNELS:
            return Downward(device, channel)
        case ["dn", device, "blob", sha256, index] if valid_name(device) and _chunk(sha256, index):
            return DownwardChunk(device, sha256, int(index))
        case ["blob", sha256, index] if _chunk(sha256, index):
            return Chunk(sha256, int(index))
        case ["enrol", ("up" | "dn") as direction, client] if valid_name(client):
            return Enrolment(direction, client)
        case _:
            return None


def _chunk(sha256: str, index: str) -> bool:
    return _SHA256.fullmatch(sha256) is not None and _INDEX.fullmatch(index) is not None
