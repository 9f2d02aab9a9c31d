"""Which bytes an HTTP request asks for (RFC 9110, section 14): one range, or all of them.

Several ranges in one request are refused: nobody needs them here, and thousands of small ones are an attack.
"""

import re
from typing import Final, NamedTuple

_FORM: Final = re.compile(r"bytes=[ \t]*(?:([0-9]{1,18})-([0-9]{1,18})?|-([0-9]{1,18}))[ \t]*", re.IGNORECASE)


class ByteRange(NamedTuple):
    """Bytes `first` to `last`, both included."""

    first: int
    last: int


class RangeError(Exception):
    """The range cannot be served; the message says why."""


def asked(header: str, length: int) -> ByteRange | None:
    """The range of a representation of `length` bytes; None = all of it, because the header asks for nothing known.

    Raises RangeError for several ranges, and for one that begins beyond the end.
    """
    if "," in header:
        raise RangeError("several ranges in one request are not served: ask for one at a time")
    form = _FORM.fullmatch(header.strip())
    if form is None:
        return None
    first, last, suffix = (None if one is None else int(one) for one in form.groups())
    if suffix is not None:
        first, last = max(0, length - suffix), length - 1
    assert first is not None
    if first >= length or suffix == 0:
        raise RangeError(f"there are {length} bytes: the range begins beyond them")
    if last is not None and last < first:
        return None
    return ByteRange(first, length - 1 if last is None else min(last, length - 1))
