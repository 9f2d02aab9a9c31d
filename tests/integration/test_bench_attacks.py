"""The threat table is whole, and the proof of it can fail."""

from contextlib import nullcontext

import pytest

from bench import attacks
from bench.attack_cases.attack import Attack, Outcome
from bench.attack_cases.register import ATTACKS
from bench.replacing import replaced

ROWS_OF_THE_TABLE = 20


def test_the_whole_table_is_there() -> None:
    """Each case has a name of its own, and many rows have several."""
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    assert len({attack.row for attack in ATTACKS}) >= ROWS_OF_THE_TABLE


def judged(attack: Attack, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of the proof where this is the only attack."""
    monkeypatch.setattr(attacks, "ATTACKS", (attack,))
    return attacks.run(attacks.Settings(only=attack.name, json=True))


class Guard:
    """Whatever stops the attacks below."""

    up = True


def attempt() -> Outcome:
    """Stopped while the guard is up."""
    return Outcome(not Guard.up, "the guard is up" if Guard.up else "")


GOOD = Attack("one", "row", "guard", "the guard is up", attempt, lambda: replaced(Guard, up=False))


@pytest.mark.parametrize(
    ("attack", "code"),
    [
        (GOOD, 0),
        (Attack("open", "row", "guard", "", lambda: Outcome(True), nullcontext), 1),
        (Attack("other reason", "row", "guard", "something else", GOOD.attempt, GOOD.without), 1),
        (Attack("no proof", "row", "guard", "the guard is up", GOOD.attempt, nullcontext), 1),
        (Attack("broken", "row", "guard", "", lambda: Outcome(1 / 0 > 0), GOOD.without), 1),
    ],
    ids=lambda value: value.name if isinstance(value, Attack) else "",
)
def test_the_proof_fails_where_a_guard_does(attack: Attack, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not stopped, stopped by something else, stopped without the guard as well, or not even tried."""
    assert judged(attack, monkeypatch) == code


def test_a_guard_comes_back() -> None:
    """Also when the attempt without it fails, and methods come back as what they were."""

    class Owner:
        @staticmethod
        def kind() -> str:
            return "static"

    def fail() -> None:
        with replaced(Owner, kind=lambda: "other"):
            assert Owner.kind() == "other"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert Owner().kind() == "static"
