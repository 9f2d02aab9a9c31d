"""Kill points in short: the real agent under strace at some of its calls, and the judge on directories made by hand."""

import json
from pathlib import Path

import pytest

from bench import kill
from bench.crash_states.promises import Ending
from bench.crash_states.releases import ship, wanted
from bench.kill_points import judge
from bench.kill_points.calls import read
from bench.kill_points.hub import Talk
from bench.kill_points.points import Point, error_points, kill_points, spread
from edge_agent.core.pointer import Record, dump
from edge_agent.core.slot import Deployed, State
from edge_agent.core.trust import Heard
from edge_agent.service.durable import STATE
from wire.messages import Installed, Outcome, Phase

ONE = ship(1)
LOG = """\
11 openat(AT_FDCWD</>, "/etc/hosts", O_RDONLY) = 3</etc/hosts>
11 openat(AT_FDCWD</>, "/data/d0/lock", O_RDWR|O_CREAT, 0600) = 3</data/d0/lock>
12 openat(AT_FDCWD</>, "/data/d0/state.json.tmp", O_RDWR|O_CREAT, 0600) = 9</data/d0/state.json.tmp>
12 fsync(9</data/d0/state.json.tmp>) = 0
12 rename("/data/d0/state.json.tmp", "/data/d0/state.json" <unfinished ...>
12 <... rename resumed>) = 0
12 fsync(9</data/d0>) = 0
13 fsync(8</data/d0/objects>) = 0
"""

HEARD = {"0" * 16: Heard(sequence=1)}


def data_directory(root: Path, *, damaged: bool = False) -> Path:
    """That of a device that committed version 1."""
    (root / "objects").mkdir()
    for sha256, data in ONE.files.items():
        (root / "objects" / sha256).write_bytes(b"rot" if damaged else data)
    wish = wanted(ONE)
    installed = Installed(model=wish.model, version=1, variant=wish.variant, sha256=wish.sha256)
    current = Deployed(installed=installed, release=wish.release.sha256)
    state = State(phase=Phase.COMMITTED, desired=wish, current=current, outcome=Outcome.SUCCEEDED)
    (root / STATE).write_bytes(dump(Record(boot=3, heard=HEARD, slots={"main": state})))
    return root


def test_some_kills_and_errors_at_system_calls_break_no_promise(capsys: pytest.CaptureFixture[str]) -> None:
    """The proof itself, short."""
    missing = kill.missing_tool()
    if missing:
        pytest.skip(missing)
    assert kill.run(kill.Settings(short=True, json=True)) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["violations"] == 0
    assert figures["kill_points"] + figures["never_met"] >= kill.SHORT_KILLS
    assert figures["error_points"] == kill.SHORT_ERRORS
    assert len(figures["by_syscall"]) >= 4


def test_without_its_tools_the_proof_says_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It passes, and nobody can take that for a proof."""
    monkeypatch.setenv("PATH", "")
    assert kill.run(kill.Settings(short=True, json=True)) == 0
    assert "strace is not installed" in json.loads(capsys.readouterr().out)["skipped"]


def test_calls_are_counted_for_each_thread_and_elsewhere_not_at_all(tmp_path: Path) -> None:
    """As strace counts them when it injects."""
    log = tmp_path / "log"
    log.write_text(LOG)
    calls = read(log, Path("/data/d0"), ("lock",))
    assert calls.counts == {"openat": 1, "fsync": 2, "rename": 1}
    assert calls.paths == ("/data/d0", "/data/d0/objects", "/data/d0/state.json", "/data/d0/state.json.tmp")


def test_every_call_is_a_kill_point_and_every_error_of_it_a_point_of_its_own() -> None:
    """And what is asked for is spread over all of them."""
    kills = kill_points("update", {"fsync": 2})
    assert kills == [Point("update", "fsync", number, "signal=SIGKILL") for number in (1, 2)]
    assert [point.action for point in error_points("update", {"unlink": 1})] == ["error=EIO", "error=EROFS"]
    assert spread(range(10), 4) == [0, 2, 5, 7]
    assert spread([1, 2], 4) == [1, 2]


def test_the_judge_is_content_with_a_whole_device(tmp_path: Path) -> None:
    """Nothing was promised but what there is."""
    assert list(judge.between(data_directory(tmp_path), 1, Talk("d0"))) == []
    assert list(judge.at_rest(tmp_path, Ending(1))) == []


def test_the_judge_sees_damaged_files_lost_models_and_other_endings(tmp_path: Path) -> None:
    """Each by its name."""
    directory = data_directory(tmp_path, damaged=True)
    assert any("missing or damaged" in one for one in judge.between(directory, 1, Talk("d0")))
    assert any("version 1 instead of 2" in one for one in judge.at_rest(directory, Ending(2)))
    (directory / STATE).write_bytes(dump(Record(boot=3, heard=HEARD)))
    assert list(judge.between(directory, 1, Talk("d0"))) == ["the device lost its model"]
    (directory / STATE).write_bytes(b"{}")
    assert any("record is damaged" in one for one in judge.between(directory, 1, Talk("d0")))
