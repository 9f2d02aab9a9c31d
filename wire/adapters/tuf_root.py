"""The root of trust as a document: which keys hold which role, and when a new root may replace the one before it.

A root names the offline root keys with their threshold, the publisher's keys (targets), the hub's online keys (snapshot
and timestamp), and in a field of its own the director's keys. So one rotation, signed offline, replaces any stolen key.
"""

from collections.abc import Iterable
from typing import Any

from tuf.api.metadata import Key, Metadata, Role, Root

from wire.adapters.keys import SigningKey, verifiers
from wire.adapters.tuf_sealing import datetime_of, load, refusing, seal, standing, tuf_key
from wire.errors import MalformedError, SignatureError
from wire.trust import DIRECTOR_FIELD, MAX_ROOT_BYTES, RootKeys, Standing

SNAPSHOT, TIMESTAMP, TARGETS, ROOT = "snapshot", "timestamp", "targets", "root"
ONLINE = (SNAPSHOT, TIMESTAMP)


def make_root(version: int, expires_ns: int, keys: RootKeys) -> bytes:
    """A root that nobody has signed yet. Raises MalformedError: something is no key, or the threshold cannot be met."""
    if not 1 <= keys.threshold <= len(set(keys.root)):
        raise MalformedError(f"{len(set(keys.root))} root keys cannot give {keys.threshold} signatures")
    if not (keys.targets and keys.online and keys.director):
        raise MalformedError("a root needs at least one key of each: targets (publisher), online and director (hub)")
    verifiers(keys.director)
    holders = {ROOT: keys.root, TARGETS: keys.targets, **dict.fromkeys(ONLINE, keys.online)}
    known: dict[str, Key] = {}
    roles = {}
    for role, held in holders.items():
        found = [tuf_key(public) for public in dict.fromkeys(held)]
        known |= {key.keyid: key for key in found}
        roles[role] = Role([key.keyid for key in found], keys.threshold if role == ROOT else 1)
    director: dict[str, Any] = {DIRECTOR_FIELD: list(dict.fromkeys(keys.director))}
    signed = Root(version, None, datetime_of(expires_ns), known, roles, unrecognized_fields=director)
    return seal(signed)


def sign_root(root: bytes, key: SigningKey) -> bytes:
    """The same root with one more signature. Raises MalformedError."""
    document: Metadata[Root] = load(root, Root, "root", MAX_ROOT_BYTES)
    return seal(document.signed, key, before=document.signatures)


def keys_of(root: bytes) -> RootKeys:
    """Who holds which role. Raises MalformedError, also for keys or fields that are not of our kind."""
    return _keys(_load(root))


def standing_of_root(root: bytes) -> Standing:
    """Version and expiry, unverified. Raises MalformedError."""
    return standing(_load(root).signed)


def check_root(root: bytes, before: bytes | None) -> Standing:
    """Version and expiry of a root that may follow `before`; with None: of a first one, which vouches for itself.

    Raises:
        MalformedError: it is no root of our shape, or not the next version.
        SignatureError: too few of the old or of the new root keys have signed it.
    """
    new = _load(root)
    _keys(new)
    if before is not None:
        old = _load(before)
        if new.signed.version != old.signed.version + 1:
            raise MalformedError(f"root version {new.signed.version} does not follow {old.signed.version}")
        _demand(new, old.signed, "the root before it")
    _demand(new, new.signed, "itself")
    return standing(new.signed)


def signers_missing(root: bytes, before: bytes | None) -> dict[str, int]:
    """How many more signatures the root needs from the keys of {"old": `before`, "new": itself}; 0 where none."""
    new = _load(root)
    judges = {"new": new.signed} | ({} if before is None else {"old": _load(before).signed})
    return {name: _result(new, judge).missing for name, judge in judges.items()}


def _load(root: bytes) -> Metadata[Root]:
    return load(root, Root, "root", MAX_ROOT_BYTES)


def _result(document: Metadata[Root], judge: Root) -> Any:
    with refusing("root"):
        return judge.get_verification_result(ROOT, document.signed_bytes, document.signatures)


def _demand(document: Metadata[Root], judge: Root, named: str) -> None:
    result = _result(document, judge)
    if not result.verified:
        have, need = len(result.signed), result.threshold
        raise SignatureError(
            f"root version {document.signed.version} has {have} of {need} signatures that {named} wants"
        )


def _keys(document: Metadata[Root]) -> RootKeys:
    root = document.signed
    if not root.consistent_snapshot:
        raise MalformedError("root: consistent snapshots must be on")
    held = {role: tuple(_public(root, role)) for role in (ROOT, TARGETS, *ONLINE)}
    director = root.unrecognized_fields.get(DIRECTOR_FIELD)
    if not isinstance(director, list) or not director or not all(isinstance(key, str) for key in director):
        raise MalformedError(f"root: {DIRECTOR_FIELD} must list the director's keys")
    verifiers(director)
    if held[SNAPSHOT] != held[TIMESTAMP]:
        raise MalformedError("root: snapshot and timestamp must have the same keys")
    return RootKeys(held[ROOT], root.roles[ROOT].threshold, held[TARGETS], held[SNAPSHOT], tuple(director))


def _public(root: Root, role: str) -> Iterable[str]:
    if role != ROOT and root.roles[role].threshold != 1:
        raise MalformedError(f"root: role {role} must have threshold 1")
    for keyid in root.roles[role].keyids:
        key = root.keys.get(keyid)
        public = key.keyval.get("public") if key is not None and key.scheme == "ed25519" else None
        if not isinstance(public, str) or tuf_key(public).keyid != keyid:
            raise MalformedError(f"root: key {keyid[:16]} of role {role} is no ed25519 key under its own id")
        yield public
