"""Which bytes a Range header asks for."""

import pytest

from cloud.core.byte_ranges import ByteRange, RangeError, asked


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", (0, 0)),
        ("bytes=0-", (0, 99)),
        ("bytes=90-1000", (90, 99)),
        ("bytes=-10", (90, 99)),
        ("bytes=-1000", (0, 99)),
        ("Bytes=5-7", (5, 7)),
        ("bytes=7-5", None),
        ("bytes=x-y", None),
        ("items=0-5", None),
        ("bytes=" + "9" * 400 + "-", None),
        ("", None),
    ],
)
def test_one_range_or_all(header: str, expected: tuple[int, int] | None) -> None:
    """What is malformed asks for everything, as RFC 9110 has it."""
    assert asked(header, 100) == (None if expected is None else ByteRange(*expected))


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=-0", "bytes=0-1,3-4", "bytes=" + "0-0," * 10_000])
def test_what_cannot_be_served_is_refused(header: str) -> None:
    """Beyond the end, or several at once."""
    with pytest.raises(RangeError):
        asked(header, 100)
