"""What becomes of a root: the first one, the next one, signatures one by one. Raises MalformedError, SignatureError."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from wire.adapters.keys import SigningKey
from wire.adapters.tuf_root import keys_of, make_root, sign_root, signers_missing, standing_of_root
from wire.errors import MalformedError
from wire.ports import SECOND
from wire.trust import ROOT_LIFE_S, RootKeys

ROOT_KEY_COUNT: Final = 3
THRESHOLD: Final = 2
"""Two of three: one key may be lost, and one may be stolen."""


def first_root(keys: RootKeys, now_ns: int) -> bytes:
    """Root version 1, unsigned."""
    return make_root(1, now_ns + ROOT_LIFE_S * SECOND, keys)


def next_root(before: bytes, role: str, add: Iterable[str], remove: Iterable[str], now_ns: int) -> bytes:
    """The root after `before`, unsigned: with keys of one role added and removed, or only with a new life."""
    keys = keys_of(before)
    if role:
        changed: Any = {role: _changed(role, getattr(keys, role), tuple(add), tuple(remove))}
        keys = replace(keys, **changed)
    elif tuple(add) or tuple(remove):
        raise MalformedError("role is not set: say whose keys change (online, targets, director, root)")
    return make_root(standing_of_root(before).version + 1, now_ns + ROOT_LIFE_S * SECOND, keys)


def sign(root: bytes, before: bytes | None, keys: Iterable[SigningKey]) -> bytes:
    """With a signature by each of these keys that the root, or the one before it, names as a root key."""
    named = set(keys_of(root).root) | (set() if before is None else set(keys_of(before).root))
    for key in keys:
        if key.public_hex in named:
            root = sign_root(root, key)
    return root


def missing(root: bytes, before: bytes | None) -> str:
    """What it still needs, in words; empty when it is complete."""
    counts = signers_missing(root, before)
    parts = [f"{count} of the {name} root keys" for name, count in sorted(counts.items(), reverse=True) if count]
    return " and ".join(parts)


def _changed(role: str, now: tuple[str, ...], add: tuple[str, ...], remove: tuple[str, ...]) -> tuple[str, ...]:
    """New keys come last, because hub and publisher sign with the last one named that they hold."""
    for start in remove:
        if len([key for key in now if key.startswith(start)]) != 1:
            raise MalformedError(f"{start[:16]!r} names no single {role} key of {', '.join(key[:16] for key in now)}")
    kept = tuple(key for key in now if not any(key.startswith(start) for start in remove) and key not in add)
    return (*kept, *add)
