"""A fleet as a file, on the command line: exported, compared with what is there, and brought about."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetloop.console.exits import Exit
from tests.worlds.console_desk import Desk, desk_in, release
from tests.worlds.hub_world import MODEL


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A fresh one."""
    with desk_in(tmp_path, capsys, monkeypatch) as one:
        yield one


def test_what_is_exported_is_what_is_there(desk: Desk) -> None:
    """`plan` finds nothing to do for it, and it names groups, holds, pins and the rollout that runs."""
    release(desk)
    for words in (
        ("groups", "set", "g", "hall=3"),
        ("devices", "pin", "p01", MODEL, "1", "--reason", "certified"),
        ("rollouts", "start", MODEL, "1", "--wave", "100%"),
        ("devices", "hold", "p01", "--reason", "in use: 'yes'"),
    ):
        assert desk.type(*words) == Exit.DONE
    desk.capture.readouterr()
    assert desk.type("export") == Exit.DONE
    file = desk.directory / "fleet.yaml"
    file.write_text(desk.capture.readouterr().out)
    assert desk.type("plan", "-f", str(file)) == Exit.DONE
    assert desk.type("devices", "release", "p01") == Exit.DONE
    assert desk.type("devices", "unpin", "p01") == Exit.DONE
    desk.capture.readouterr()
    assert desk.type("plan", "-f", str(file)) == Exit.DIFFERS
    assert "hold it: in use: 'yes'" in desk.capture.readouterr().out
    assert desk.type("apply", "-f", str(file)) == Exit.DONE
    assert desk.type("plan", "-f", str(file)) == Exit.DONE


def test_plan_shows_and_apply_does_it_once(desk: Desk) -> None:
    """Plan changes nothing and says 8; apply makes it so; then both say that all is as it should be."""
    release(desk)
    file = desk.directory / "fleet.yaml"
    file.write_text(
        f"""
devices:
  p01: {{labels: {{hall: "4"}}}}
  p02: {{labels: {{hall: "4"}}, federated: true}}
rollouts:
  - {{model: {MODEL}, version: 1, selector: {{hall: "4"}}, waves: [{{percent: 100}}]}}
"""
    )
    for _ in range(2):
        assert desk.type("plan", "-f", str(file)) == Exit.DIFFERS
    plan = desk.capture.readouterr().out
    assert "~ device p01: labels=hall=3 -> labels=hall=4" in plan
    assert "+ device p02" in plan
    assert f"+ rollout {MODEL}:1" in plan
    assert desk.type("apply", "-f", str(file), "--claims", str(desk.directory)) == Exit.DONE
    assert (desk.directory / "p02.json").is_file()
    changes = len(desk.ask("rollouts", "list"))
    for command in ("plan", "apply"):
        assert desk.type(command, "-f", str(file)) == Exit.DONE
    assert len(desk.ask("rollouts", "list")) == changes == 1
    assert desk.ask("devices", "show", "p01")["labels"] == {"hall": "4"}
    assert desk.type("rollouts", "abort", desk.ask("rollouts", "list")[0]["id"]) == Exit.DONE
    assert desk.type("apply", "-f", str(file)) == Exit.CONFLICT


def test_a_file_with_a_rollout_that_is_bound_to_be_refused_changes_nothing(desk: Desk) -> None:
    """A version that is not there, or not signed, is said by plan and apply before anything is done."""
    assert desk.type("models", "train", MODEL, "--workload", "watch") == Exit.DONE
    asyncio.run(desk.world.train())
    file = desk.directory / "fleet.yaml"
    for version, why in ((1, "it is not signed yet"), (9, f"there is no version 9 of model '{MODEL}'")):
        file.write_text(
            f"devices: {{p01: {{labels: {{hall: '4'}}}}, p02: {{}}}}\n"
            f"rollouts: [{{model: {MODEL}, version: {version}, waves: [{{percent: 100}}]}}]"
        )
        assert desk.type("plan", "-f", str(file)) == Exit.DIFFERS
        assert f"! rollout {MODEL}:{version}: {why}" in desk.capture.readouterr().out
        assert desk.type("apply", "-f", str(file), "--claims", str(desk.directory)) == Exit.CONFLICT
        said = desk.capture.readouterr()
        assert said.out.startswith(f"! rollout {MODEL}:{version}: {why}")
        assert said.err == "fleetloop: nothing was changed\n"
    assert [(one["name"], one["labels"]) for one in desk.ask("devices", "list")] == [("p01", {"hall": "3"})]
    assert not (desk.directory / "p02.json").exists()
