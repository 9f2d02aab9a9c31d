"""What the API says, for people: times in UTC, spans in their units, documents by lines. `--json` shows it as it is.

By what a field is called: `_ns` is a moment in nanoseconds since 1970, `_s` a span in seconds.
"""

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SECOND_NS = 1_000_000_000
NOTHING = "-"
_SPANS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def moment(at_ns: int | None) -> str:
    """A time, in UTC; devices say 0 for never."""
    if not at_ns:
        return NOTHING
    try:
        at = datetime.datetime.fromtimestamp(at_ns // SECOND_NS, datetime.UTC)
    except (ValueError, OverflowError, OSError):  # a device may say anything
        return f"{at_ns} ns"
    return at.strftime("%Y-%m-%d %H:%M:%S")


def span(seconds: float | None) -> str:
    """How long, in the largest units that it has: 1 d 12 h, 90 s as 1 min 30 s, 0.25 s."""
    if seconds is None:
        return NOTHING
    if not 1 <= seconds < 1e9:
        return f"{seconds:g} s"
    left, parts = round(seconds), []
    for unit, length in _SPANS:
        count, left = divmod(left, length)
        parts += [f"{count} {unit}"] if count else []
    return " ".join(parts)


def readable(document: Any) -> Any:
    """The document with its moments and spans in words, and their fields called without the unit."""
    if isinstance(document, Mapping):
        return dict(_field(name, value) for name, value in document.items())
    return [readable(one) for one in document] if isinstance(document, list) else document


def lines(document: Any, indent: str = "") -> Iterator[str]:
    """A readable document, line by line."""
    if isinstance(document, Mapping):
        for name, value in document.items():
            if _is_deep(value):
                yield f"{indent}{said(name)}:"
                yield from lines(value, f"{indent}  ")
            else:
                yield f"{indent}{said(name)}: {said(value)}"
        return
    for one in document:
        first, *more = lines(one, f"{indent}  ") if _is_deep(one) else [f"{indent}  {said(one)}"]
        yield f"{indent}- {first[len(indent) + 2 :]}"
        yield from more


def said(value: object) -> str:
    """A value in one line. What a terminal would take for more than text is escaped: devices choose some of it."""
    if value is None or value == "":
        return NOTHING
    if isinstance(value, Mapping):
        return " ".join(f"{said(name)}={said(one)}" for name, one in sorted(value.items())) or NOTHING
    if isinstance(value, list):
        return ", ".join(map(said, value)) or NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    words = str(value)
    return words if words.isprintable() else json.dumps(words)


def _field(name: str, value: Any) -> tuple[str, Any]:
    if name.endswith("_ns") and isinstance(value, int | None):
        return name.removesuffix("_ns"), moment(value)
    if name.endswith("_s") and not name.endswith("_per_s") and isinstance(value, int | float | None):
        return name.removesuffix("_s"), span(value)
    return name, readable(value)


def _is_deep(value: Any) -> bool:
    """Does it take lines of its own?"""
    if isinstance(value, Mapping):
        return bool(value)
    return isinstance(value, Sequence) and not isinstance(value, str) and any(_is_deep(one) for one in value)
