"""Releases as the services read them: there are few, they never change, and every batch asks for the same ones."""

from functools import lru_cache

from wire.codec import MAX_RELEASE_BYTES, decode
from wire.release import Release


@lru_cache(maxsize=64)
def read(release: bytes) -> Release:
    """The release in these bytes of a version's row."""
    return decode(release, Release, limit=MAX_RELEASE_BYTES)
