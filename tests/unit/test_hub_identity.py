"""The pure rules of identity: who gets one by a claim, who gets it again, and when one name shows two devices."""

import pytest

from cloud.core.clones import MOST_REPLAYED_TURNS, Session, Turns, are_clones, on_session
from cloud.core.identity import (
    MAX_LIVE_CERTIFICATES,
    RECOVERY_GRACE_NS,
    Claim,
    Denied,
    Enrolled,
    enrol,
    recover,
    renew,
)


class TestClaims:
    """A token, a secret, and who has the name now."""

    def test_a_token_works_once(self) -> None:
        """The same request again is fine, even late; another secret is not."""
        assert enrol(Claim("p01", 10, None), "s1", None, 5) == Enrolled("p01", first=True)
        assert enrol(Claim("p01", 10, "s1"), "s1", "s1", 99) == Enrolled("p01", first=False)
        assert isinstance(enrol(Claim("p01", 10, "s1"), "s2", "s1", 5), Denied)

    def test_expired_and_unknown_tokens_are_denied_with_their_reason(self) -> None:
        """Each says which it was."""
        expired, unknown = enrol(Claim("p01", 10, None), "s1", None, 10), enrol(None, "s1", None, 5)
        assert isinstance(expired, Denied)
        assert "expired" in expired.reason
        assert isinstance(unknown, Denied)
        assert "unknown" in unknown.reason

    def test_a_name_in_use_changes_hands_only_by_a_claim_that_says_so(self) -> None:
        """So a claim file that was flashed twice by mistake does not throw a working device out."""
        denied = enrol(Claim("p01", 10, None), "new", "old", 5)
        assert isinstance(denied, Denied)
        assert "replaces" in denied.reason
        assert enrol(Claim("p01", 10, None, replaces=True), "new", "old", 5) == Enrolled("p01", first=True)
        assert enrol(Claim("p01", 10, None), "old", "old", 5) == Enrolled("p01", first=True)


class TestCertificates:
    """How many, and how long an old one is good for."""

    def test_renewals_are_bounded(self) -> None:
        """A device in a loop cannot fill the database."""
        assert renew(MAX_LIVE_CERTIFICATES - 1) is None
        assert isinstance(renew(MAX_LIVE_CERTIFICATES), Denied)

    @pytest.mark.parametrize(
        ("now_ns", "revoked", "good"),
        [
            (50, False, True),
            (100, False, True),
            (100 + RECOVERY_GRACE_NS - 1, False, True),
            (100 + RECOVERY_GRACE_NS, False, False),
            (50, True, False),
        ],
    )
    def test_an_ended_certificate_proves_its_holder_for_a_year_unless_revoked(
        self, now_ns: int, revoked: bool, good: bool
    ) -> None:
        """Before its end, at its end, for the year of grace, and never after a revocation."""
        assert (recover(100, revoked, now_ns) is None) is good


def after(*spoken: tuple[str, int]) -> Turns:
    """The state after these sessions (id, boot) have spoken."""
    turns = Turns()
    for session, boot in spoken:
        turns = on_session(turns, Session(session, boot))
    return turns


class TestClones:
    """Two sessions that take turns."""

    def test_two_copies_of_one_disk_are_found_at_the_first_return(self) -> None:
        """Both count the same boot; a single device never has two sessions in one boot."""
        assert are_clones(after(("a", 6), ("b", 6), ("a", 6)))

    def test_copies_that_were_started_differently_often_are_found_after_a_few_turns(self) -> None:
        """One has the lower boot number, as a late message would have, but it goes on."""
        turns = [("a", 9), ("b", 3)] * (MOST_REPLAYED_TURNS // 2 + 2)
        assert are_clones(after(*turns))

    @pytest.mark.parametrize(
        "story",
        [
            [("a", 1), ("a", 1), ("a", 1)],
            [("a", 1), ("b", 2), ("c", 3), ("d", 4)],
            [("a", 1), ("b", 2), ("a", 1), ("b", 2)],
            [("a", 1), ("b", 2), ("a", 1), ("b", 2), ("a", 1), ("b", 2)],
            [("b", 2), ("a", 1), ("b", 2)],
            [("a", 1), ("", 0), ("a", 1), ("", 0), ("a", 1)],
            [("a", 1), ("b", 2), ("a", 1), ("b", 2), ("c", 3), ("b", 2), ("c", 3)],
        ],
        ids=["reconnects", "restarts", "delivered again", "twice", "out of order", "an older agent", "and restarts"],
    )
    def test_what_one_device_does_is_no_clone(self, story: list[tuple[str, int]]) -> None:
        """Reconnects, restarts, and what a broker delivers again or in another order."""
        assert not are_clones(after(*story))
