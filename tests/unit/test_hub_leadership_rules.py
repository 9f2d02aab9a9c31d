"""When the lead may be taken, by one hub's own clock."""

from cloud.core.leadership import NOBODY, Lead, Watch, is_vacant, watch

LEASE = 10


def test_silence_for_a_whole_lease_makes_it_vacant_and_no_less() -> None:
    """Counted from when the row was first seen as it is."""
    watched = watch(None, Lead("a", 1, 7), 100)
    assert not is_vacant(watched, LEASE, 109)
    assert is_vacant(watched, LEASE, 110)


def test_any_sign_of_life_starts_the_count_anew() -> None:
    """A beat, or another holder; the same row seen again is none."""
    first = watch(None, Lead("a", 1, 7), 100)
    assert watch(first, Lead("a", 1, 7), 105) == first
    assert watch(first, Lead("a", 1, 8), 105) == Watch(Lead("a", 1, 8), 105)
    assert watch(first, Lead("b", 2, 0), 105) == Watch(Lead("b", 2, 0), 105)


def test_what_was_given_up_can_be_taken_at_once() -> None:
    """Nobody waits for somebody who said that he goes."""
    assert is_vacant(watch(None, Lead(NOBODY, 4, 7), 100), LEASE, 100)
