"""Recoveries that can only go the way of an earlier one are recalled, and no others."""

import asyncio
from collections.abc import Callable

import pytest

from bench.crash_states.cloud import Promises
from bench.crash_states.recording import Look, RecordingDisk
from bench.crash_states.verdicts import SAMPLE_EVERY, UnequalError, Verdict, Verdicts
from simulator.core.power import Left

RECORD, HALF = "state.json", "state.json.tmp"
LOOKS = (Look(RECORD, content=False), Look(RECORD, content=True))


def left(**contents: bytes) -> dict[str, Left]:
    """A disk with a record, and half a one under another name."""
    return {path: Left(contents[name], contents[name]) for name, path in (("record", RECORD), ("half", HALF))}


def lives(*broken: str, looks: tuple[Look, ...] = LOOKS) -> Callable[[], Verdict]:
    """A recovery that looks at these files."""
    return lambda: Verdict(broken, looks, 10)


def never() -> Verdict:
    """It is known how this goes."""
    raise AssertionError("lived through again")


def looks_of(files: dict[str, bytes], *calls: Callable[[RecordingDisk], object]) -> list[Look]:
    """What a disk with these files says was looked at."""
    disk = RecordingDisk(files, Promises)
    disk.takes_turns = False

    async def use() -> None:
        for call in calls:
            await call(disk)  # type: ignore[misc]

    asyncio.run(use())
    return list(disk.looks)


def test_what_nobody_looks_at_makes_no_difference() -> None:
    """Half a record under the name that it was to be renamed from."""
    verdicts = Verdicts()
    assert verdicts.get(b"told", left(record=b"a", half=b"1"), lives("lost")).broken == ("lost",)
    assert verdicts.get(b"told", left(record=b"a", half=b"2"), never).broken == ("lost",)
    assert (verdicts.lived, verdicts.recalled) == (1, 1)


@pytest.mark.parametrize("what", ["content", "names", "promises"])
def test_whatever_a_recovery_depends_on_makes_a_difference(what: str) -> None:
    """Then it is lived through."""
    verdicts = Verdicts()
    verdicts.get(b"told", left(record=b"a", half=b"1"), lives())
    disk = left(record=b"b" if what == "content" else b"a", half=b"1")
    if what == "names":
        del disk[HALF]
    told = b"told more" if what == "promises" else b"told"
    assert verdicts.get(told, disk, lives("lost")).broken == ("lost",)
    assert verdicts.lived == 2


def test_a_recovery_that_depends_on_something_unknown_is_found_out() -> None:
    """Two that have seen the same look at different things next; or end differently, which a sample shows."""
    verdicts = Verdicts()
    verdicts.get(b"told", left(record=b"a", half=b"1"), lives())
    with pytest.raises(UnequalError):
        verdicts.get(b"told", left(record=b"b", half=b"1"), lives(looks=(Look(HALF, content=False),)))
    for _ in range(SAMPLE_EVERY - 1):
        verdicts.get(b"told", left(record=b"a", half=b"2"), never)
    with pytest.raises(UnequalError):
        verdicts.get(b"told", left(record=b"a", half=b"2"), lives("lost"))


def test_a_look_at_what_was_renamed_is_one_at_the_first_name() -> None:
    """So the content that a file had at first is known wherever it goes."""
    seen = looks_of({"a": b"1"}, lambda disk: disk.rename("a", "b"), lambda disk: disk.read("b"))
    assert seen == [Look("a", content=False), Look("a", content=True)]


def test_of_what_is_written_over_only_the_length_is_seen() -> None:
    """A part of it is as good as all of it, though."""
    whole = looks_of({"a": b"123"}, lambda disk: disk.pwrite("a", 0, b"456"), lambda disk: disk.read("a"))
    part = looks_of({"a": b"123"}, lambda disk: disk.pwrite("a", 1, b"56"), lambda disk: disk.read("a"))
    made = looks_of({"a": b"123"}, lambda disk: disk.create("a", 3), lambda disk: disk.read("a"))
    assert whole == [Look("a", content=False)]
    assert part == [Look("a", content=False), Look("a", content=True)]
    assert made == []
