"""What the device remembers of the trust metadata it has verified, and by which time it judges.

Version floors never fall, or a cache lost on the disk would let an old state pass for the newest. Those of timestamp
and snapshot belong to the keys that signed: a root that replaces these keys starts them anew, which is how a fleet
recovers from a stolen key that signed an enormous version (TUF specification 1.0.34, 5.3.11). That of root only grows.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Annotated, Final

import msgspec

from edge_agent.errors import RefusedError
from wire.asks import AskMetadata, Holding, MetadataPiece, Refused
from wire.codec import Document, decode, encode
from wire.dsse import keyid
from wire.errors import MalformedError, WireError
from wire.ports import SECOND
from wire.release import ObjectRef
from wire.trust import DIRECTOR_FIELD, MAX_ROOT_BYTES, TIMESTAMP_LIFE_S

MAX_HELD_BYTES: Final = 4 * 1024 * 1024
"""Metadata held from one judgement to the next. What exceeds it is fetched again."""

KeyHex = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
"""A public ed25519 key."""


class RoleFloor(Document, frozen=True, kw_only=True):
    """The lowest version still accepted, and the TUF ids of the keys whose signatures made it so."""

    version: int = 0
    signers: tuple[str, ...] = ()

    def holds(self, keys: Iterable[str], threshold: int) -> bool:
        """Would what set this floor still be valid where `threshold` of `keys` must sign?"""
        return len(set(self.signers) & set(keys)) >= threshold


class Floors(Document, frozen=True, kw_only=True):
    """The lowest versions still accepted."""

    root: int = 0
    timestamp: RoleFloor = RoleFloor()
    snapshot: RoleFloor = RoleFloor()


class Trusted(Document, frozen=True, kw_only=True):
    """The newest verified metadata, as far as the device must not forget it."""

    floors: Floors = Floors()
    directors: tuple[KeyHex, ...] = ()
    """The director's keys by the newest verified root."""
    verified_ns: int = 0
    """When the timestamp was last found fresh, by the time that was judged by."""

    def learning(self, judgement: "Judgement", now_ns: int) -> "Trusted":
        """This and what a later judgement found, by the time `now_ns`; an older root teaches nothing."""
        if judgement.directors is None or judgement.floors.root < self.floors.root:
            return self
        verified_ns = now_ns if judgement.fresh else self.verified_ns
        return Trusted(floors=judgement.floors, directors=judgement.directors, verified_ns=verified_ns)

    def founded(self, claim: "Trusted") -> "Trusted":
        """This, by the root of the present claim where that is newer than every root seen so far."""
        if claim.floors.root <= self.floors.root:
            return self
        floors = msgspec.structs.replace(self.floors, root=claim.floors.root)
        return msgspec.structs.replace(self, floors=floors, directors=claim.directors)

    def stale_s(self, now_ns: int) -> float:
        """Seconds past the life of a timestamp since one was found fresh; 0 while all is well."""
        return max(0.0, (now_ns - self.verified_ns) / SECOND - TIMESTAMP_LIFE_S)


class Heard(Document, frozen=True, kw_only=True):
    """The newest that one director key has signed for this device."""

    sequence: int = 0
    time_ns: int = 0


class Listed(Document, frozen=True, kw_only=True):
    """What the publisher's metadata says of one target."""

    path: str
    bytes: int
    hashes: dict[str, str]
    counter: int = 0

    def vouches_for(self, ref: ObjectRef) -> bool:
        """Is `ref` that very file?"""
        return (self.bytes, self.hashes) == (ref.bytes, {"sha256": ref.sha256})


class Judgement(Document, frozen=True, kw_only=True, tag="judgement"):
    """What the child made of the repository. Everything but `refusal` is verified, also when there is one."""

    refusal: str = ""
    unable: bool = False
    """The refusal is this device's fault, of its disk or memory, and says nothing of the repository."""
    fresh: bool = False
    """Root, timestamp, snapshot and targets were verified, and none has expired."""
    floors: Floors = Floors()
    directors: tuple[KeyHex, ...] | None = None
    """The director's keys by the newest root; None: no root was found that is not older than one verified before."""
    files: dict[str, bytes] = {}
    """Metadata to hold for the next time."""
    targets: tuple[Listed, ...] = ()
    rss_bytes: int = 0


class Question(Document, frozen=True, kw_only=True):
    """What the child is to judge: everything that it knows but the answers to its fetches."""

    root: bytes
    """Root of trust, from the claim."""
    files: dict[str, bytes] = {}
    told: dict[str, bytes | None] = {}
    """What came along with the time, by name (None: there is no such file): it need not be fetched."""
    floors: Floors = Floors()
    now_ns: int
    """By this time expiry is judged."""
    paths: tuple[str, ...] = ()
    """Targets that are asked about."""


class Said(Document, frozen=True, kw_only=True):
    """A line of the child: it asks for a piece, or it is done."""

    what: AskMetadata | Judgement


class Given(Document, frozen=True, kw_only=True):
    """The daemon's answer to what the child asked for."""

    what: MetadataPiece | Refused


class _Held(Document, frozen=True, kw_only=True):
    files: dict[str, bytes]
    sha256: str


def dump_files(files: Mapping[str, bytes]) -> bytes:
    """The record of the metadata that is held."""
    return encode(_Held(files=dict(files), sha256=_digest(files)))


def parse_files(record: bytes) -> dict[str, bytes]:
    """The metadata that is held; none when the record is damaged, which costs no more than fetching it again."""
    try:
        held = decode(record, _Held, limit=2 * MAX_HELD_BYTES)
    except WireError:
        return {}
    return held.files if held.sha256 == _digest(held.files) else {}


def _digest(files: Mapping[str, bytes]) -> str:
    return hashlib.sha256(encode(dict(files))).hexdigest()


class _Version(msgspec.Struct, frozen=True):
    version: int = 0


class _Versioned(msgspec.Struct, frozen=True):
    signed: _Version


def holding(root: int, files: Mapping[str, bytes], paths: tuple[str, ...]) -> Holding:
    """What the hub is told of the metadata that is held. `root` is the version of the root of trust."""
    versions = {}
    for name, data in files.items():
        number, _, rest = name.partition(".")
        if rest == "root.json" and number.isdigit():
            root = max(root, int(number))
        elif rest == "json":
            versions[number] = _version(data)
    return Holding(versions={**versions, "root": root}, paths=paths)


def _version(document: bytes) -> int:
    """0: it cannot be read. It is judged elsewhere."""
    try:
        return msgspec.json.decode(document, type=_Versioned).signed.version
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0


class _RootSigned(msgspec.Struct, frozen=True):
    version: int
    directors: tuple[KeyHex, ...] = msgspec.field(name=DIRECTOR_FIELD, default=())


class _Root(msgspec.Struct, frozen=True):
    signed: _RootSigned


def founded_on(root: bytes) -> Trusted:
    """What a device believes that knows nothing but the root in its claim, which needs no proof.

    Raises:
        MalformedError: it is no root metadata, or names no director.
    """
    try:
        if len(root) > MAX_ROOT_BYTES:
            raise MalformedError(f"root: {len(root)} bytes, at most {MAX_ROOT_BYTES} allowed")
        signed = msgspec.json.decode(root, type=_Root).signed
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"root: {error}") from error
    if not signed.directors:
        raise MalformedError(f"root: {DIRECTOR_FIELD} names no director key")
    return Trusted(floors=Floors(root=signed.version), directors=signed.directors)


def key_ids(directors: Iterable[str]) -> tuple[str, ...]:
    """The ids under which these public keys (64 hex digits) sign documents."""
    return tuple(keyid(bytes.fromhex(key)) for key in directors)


def judging_time(told_ns: int | None, clock_ns: int, floor_ns: int) -> int:
    """The time to judge by: what the director told just now, else the clock; neither below `floor_ns`.

    Raises:
        RefusedError: nobody told the time and the clock is surely wrong.
    """
    if told_ns is not None:
        return max(told_ns, floor_ns)
    if clock_ns < floor_ns:
        behind = f"{(floor_ns - clock_ns) / SECOND:.0f} s behind what was signed before"
        raise RefusedError(f"time: the clock is {behind}, and nobody tells the time")
    return clock_ns
