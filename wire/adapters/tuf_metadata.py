"""The repository's other documents: targets, its hash bins, snapshot and timestamp; how they are made and judged.

The top-level targets role signs no target itself: it delegates to sixteen bins (TAP 15), under the same keys. Snapshot
and timestamp say which versions belong together now, with lengths, so that a download can be bounded.
Source: TUF specification 1.0.34.
"""

import functools
from collections.abc import Iterable, Mapping

from tuf.api.metadata import Delegations, MetaFile, Root, Snapshot, SuccinctRoles, TargetFile, Targets, Timestamp

from wire.adapters.keys import SigningKey
from wire.adapters.tuf_sealing import datetime_of, load, refusing, seal, standing, tuf_key, verify
from wire.errors import MalformedError
from wire.trust import (
    BIN_PREFIX,
    BINS,
    MAX_ROOT_BYTES,
    MAX_SNAPSHOT_BYTES,
    MAX_TARGETS_BYTES,
    MAX_TIMESTAMP_BYTES,
    Bin,
    Listed,
    Standing,
    Target,
)

_BITS = BINS.bit_length() - 1

remembered = functools.lru_cache(maxsize=64)
"""Judgements are pure functions of bytes that hub and publisher look at again and again, and cost milliseconds."""


def make_targets(version: int, expires_ns: int, key: SigningKey) -> bytes:
    """The top-level targets: nothing but the delegation to the bins, all under the publisher's one key."""
    public = tuf_key(key.public_hex)
    bins = SuccinctRoles([public.keyid], 1, _BITS, BIN_PREFIX)
    delegations = Delegations({public.keyid: public}, succinct_roles=bins)
    return seal(Targets(version, None, datetime_of(expires_ns), {}, delegations), key)


def make_bin(version: int, expires_ns: int, targets: Mapping[str, Target], key: SigningKey) -> bytes:
    """A bin with these targets."""
    files = {path: _target_file(path, target) for path, target in sorted(targets.items())}
    return seal(Targets(version, None, datetime_of(expires_ns), files), key)


def make_snapshot(version: int, expires_ns: int, listed: Mapping[str, Listed], key: SigningKey) -> bytes:
    """Which version of targets and of each bin is the present one; `listed` by role."""
    meta = {f"{role}.json": MetaFile(one.version, one.bytes) for role, one in sorted(listed.items())}
    return seal(Snapshot(version, None, datetime_of(expires_ns), meta), key)


def make_timestamp(version: int, expires_ns: int, snapshot: bytes, key: SigningKey) -> bytes:
    """Which snapshot is the present one, by version, length and hash."""
    held = load(snapshot, Snapshot, "snapshot", MAX_SNAPSHOT_BYTES).signed
    meta = MetaFile.from_data(held.version, snapshot, ["sha256"])
    return seal(Timestamp(version, None, datetime_of(expires_ns), meta), key)


@remembered
def check_targets(targets: bytes, root: bytes) -> Standing:
    """Judge the top-level targets by the root. Raises MalformedError, SignatureError."""
    document = load(targets, Targets, "targets", MAX_TARGETS_BYTES)
    verify(_root(root), document, "targets")
    delegations = document.signed.delegations
    bins = delegations.succinct_roles if delegations is not None else None
    if document.signed.targets or bins is None or (bins.bit_length, bins.name_prefix) != (_BITS, BIN_PREFIX):
        raise MalformedError(f"targets: must delegate to {BINS} bins called {BIN_PREFIX}-..., and list nothing itself")
    return standing(document.signed)


def bins_key(targets: bytes) -> str:
    """The public key (hex) that the top-level targets name for the bins, whoever signed them. Raises MalformedError."""
    delegations = load(targets, Targets, "targets", MAX_TARGETS_BYTES).signed.delegations
    with refusing("targets"):
        return str(next(iter(delegations.keys.values())).keyval["public"]) if delegations is not None else ""


@remembered
def check_bin(data: bytes, name: str, targets: bytes) -> Bin:
    """Judge the bin `name` by the top-level targets, judged before. Raises MalformedError, SignatureError."""
    document = load(data, Targets, name, MAX_TARGETS_BYTES)
    verify(load(targets, Targets, "targets", MAX_TARGETS_BYTES).signed, document, name)
    if document.signed.delegations is not None:
        raise MalformedError(f"{name}: a bin must not delegate further")
    return read_bin(data, name)


@remembered
def read_bin(data: bytes, name: str) -> Bin:
    """What the bin `name` says, whoever signed it. Raises MalformedError."""
    signed = load(data, Targets, name, MAX_TARGETS_BYTES).signed
    return Bin(standing(signed), dict(_targets(name, signed)))


def check_snapshot(snapshot: bytes, root: bytes) -> tuple[Standing, Mapping[str, Listed]]:
    """Version, expiry, and what it lists by role. Raises MalformedError, SignatureError."""
    document = load(snapshot, Snapshot, "snapshot", MAX_SNAPSHOT_BYTES)
    verify(_root(root), document, "snapshot")
    listed = {
        name.removesuffix(".json"): Listed(meta.version, meta.length or 0)
        for name, meta in document.signed.meta.items()
    }
    return standing(document.signed), listed


def check_timestamp(timestamp: bytes, root: bytes) -> Standing:
    """Version and expiry. Raises MalformedError, SignatureError."""
    document = load(timestamp, Timestamp, "timestamp", MAX_TIMESTAMP_BYTES)
    verify(_root(root), document, "timestamp")
    return standing(document.signed)


def _root(root: bytes) -> Root:
    return load(root, Root, "root", MAX_ROOT_BYTES).signed


def _target_file(path: str, target: Target) -> TargetFile:
    custom = {"custom": {"counter": target.counter}}
    return TargetFile(target.bytes, {"sha256": target.sha256}, path, unrecognized_fields=custom)


def _targets(name: str, signed: Targets) -> Iterable[tuple[str, Target]]:
    with refusing(name):
        for path, file in signed.targets.items():
            counter = file.custom["counter"]
            if not isinstance(counter, int):
                raise MalformedError(f"{name}: the counter of {path} is no number")
            yield path, Target(file.length, file.hashes["sha256"], counter)
