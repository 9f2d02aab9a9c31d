"""Keys of one kind in a directory: `{kind}.key`, and `{kind}-*.key` that are to replace it once the root names them."""

from collections.abc import Callable, Sequence
from pathlib import Path

from wire.adapters.keys import SigningKey, load_or_create

Ring = Callable[[], Sequence[SigningKey]]
"""Lists the keys that are there now."""


def key_files(directory: Path, kind: str) -> Ring:
    """The keys of these files, looked for again whenever they are wanted; `{kind}.key` is made when there is none.

    Their public halves are written to `{kind}.pub` (64 hex digits a line), for whoever makes the root.
    Raises MalformedError for a file that is no key.
    """
    first = directory / f"{kind}.key"

    def ring() -> Sequence[SigningKey]:
        paths = [path for path in (first, *sorted(directory.glob(f"{kind}-*.key"))) if path.exists()]
        return [load_or_create(path) for path in paths or [first]]

    (directory / f"{kind}.pub").write_text("".join(f"{key.public_hex}\n" for key in ring()))
    return ring


def newest_named(held: Sequence[SigningKey], named: Sequence[str]) -> SigningKey | None:
    """Of the keys that are held, the one that the root names last: a new key is always added at the end."""
    known = {key.public_hex: key for key in held}
    return next((known[public] for public in reversed(named) if public in known), None)
