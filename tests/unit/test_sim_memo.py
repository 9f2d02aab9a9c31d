"""What a fleet computes once: remembered, bounded, and looked at again now and then."""

import itertools

import pytest

from simulator.core.memo import (
    MOST_PIECES,
    PIECE_BYTES,
    SAMPLE_EVERY,
    SHARED_FROM_BYTES,
    Memo,
    UnequalError,
    in_pieces,
    sha256,
    shared,
)


def test_a_value_is_computed_once_but_for_the_sample() -> None:
    """One use in SAMPLE_EVERY runs the function again."""
    calls = itertools.count()
    memo: Memo[str, int] = Memo(like=lambda value: None)
    for _ in range(1 + SAMPLE_EVERY):
        memo.get("a", lambda: next(calls))
    assert next(calls) == 2


def test_a_function_that_is_not_pure_is_found_out() -> None:
    """The sample comes to something else."""
    calls = itertools.count()
    memo: Memo[str, int] = Memo()
    for _ in range(SAMPLE_EVERY):
        memo.get("a", lambda: next(calls))
    with pytest.raises(UnequalError):
        memo.get("a", lambda: next(calls))


def test_what_was_not_used_for_longest_gives_way() -> None:
    """There are never more than were allowed."""
    memo: Memo[int, int] = Memo(most=2)
    calls: list[int] = []

    def compute(key: int) -> int:
        calls.append(key)
        return key

    for key in (1, 2, 1, 3, 1, 2):
        memo.get(key, lambda key=key: compute(key))  # type: ignore[misc]
    assert calls == [1, 2, 3, 2]


def test_large_contents_are_one_object() -> None:
    """Small ones are not worth it."""
    large = bytes(SHARED_FROM_BYTES)
    assert shared(bytes(bytearray(large))) is shared(large)
    assert len(sha256(large)) == 64


def test_what_is_known_from_elsewhere_is_looked_at_all_the_same() -> None:
    """The sample runs the function, and a wrong value is found out."""
    memo: Memo[str, int] = Memo(sample_every=2)
    memo.put("a", 1)
    assert memo.get("a", lambda: 2) == 1
    with pytest.raises(UnequalError):
        memo.get("a", lambda: 2)


def test_records_share_the_pieces_that_they_have_in_common() -> None:
    """Each has a beginning of its own; what is short, or no record, stays whole."""
    same = bytes(range(256)) * 4
    first, second = (in_pieces(bytes([number]) * PIECE_BYTES + same + b"end") for number in (1, 2))
    assert isinstance(first, tuple)
    assert b"".join(first) == bytes([1]) * PIECE_BYTES + same + b"end"
    assert [one is other for one, other in zip(first, second, strict=True)][:3] == [False, True, True]
    for whole in (same[:-1], bytes(MOST_PIECES * PIECE_BYTES + 1)):
        assert in_pieces(whole) is whole
