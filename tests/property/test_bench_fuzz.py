"""The fuzz proof, short, and that it can fail: a parser that lets something through is found."""

import json
from functools import partial
from operator import eq

import pytest

from bench import fuzz
from bench.fuzzing.assault import Parser, Tally, assault, rehearse
from bench.fuzzing.mutation import Mutator
from wire.dsse import Envelope
from wire.errors import MalformedError

GOOD = b'{"name":"a","count":3}'


def test_every_parser_takes_or_refuses_whatever_comes(capsys: pytest.CaptureFixture[str]) -> None:
    """Two thousand inputs each: no other error than the documented ones, nothing unsound taken, nothing slow."""
    assert fuzz.run(fuzz.Settings(short=True, json=True)) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["parsers"] >= 30
    assert figures["inputs"] >= (figures["parsers"] - 1) * fuzz.SHORT_INPUTS  # one takes too long for as many
    assert all(row["taken"] for row in figures["rows"].values())


def test_an_undocumented_error_is_counted_and_shown() -> None:
    """A parser that indexes blindly fails on damaged input."""
    tally = attack(lambda data: json.loads(data)["count"] + 1, (ValueError,))
    assert tally.unhandled > 0
    assert "KeyError" in " ".join(tally.failures) or "TypeError" in " ".join(tally.failures)


def test_taking_what_is_not_what_was_signed_is_counted() -> None:
    """A parser that checks nothing takes damaged bytes for good ones."""
    tally = attack(lambda data: data, ())
    assert tally.unsound > 0


def test_a_parser_that_refuses_good_samples_proves_nothing() -> None:
    """Refusing everything is no way to pass."""

    def refuse(data: bytes) -> Envelope:
        raise MalformedError("no")

    tally = Tally()
    rehearse(Parser("stubborn", (GOOD,), refuse), tally)
    assert tally.unsound == 1


def test_time_is_measured_per_input() -> None:
    """A parser whose work grows with the value it reads shows as slow."""
    slow = Parser("slow", (b"3",), lambda data: sum(range(int(data) * 1_000_000)), (ValueError,))
    tally = Tally()
    assault(slow, (b"9",), tally)
    assert tally.slowest_ms > 20


def test_damage_is_reproducible() -> None:
    """The same seed gives the same bytes, another one others."""
    first, again, other = (list(zip(range(200), Mutator([GOOD], seed), strict=False)) for seed in (1, 1, 2))
    assert first == again != other


def attack(read: object, refuses: tuple[type[Exception], ...]) -> Tally:
    """Five thousand damaged inputs."""
    tally = Tally()
    parser = Parser("careless", (GOOD,), read, refuses, sound=partial(eq, GOOD))  # type: ignore[arg-type]
    assault(parser, (data for _, data in zip(range(5_000), Mutator([GOOD], 0), strict=False)), tally)
    return tally
