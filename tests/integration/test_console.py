"""The operator's commands against a real server: what they print, what they leave behind and how they end."""

import asyncio
import json
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from cloud.errors import StoreError
from cloud.tables import federated_runs, jobs
from fleetloop.cli import NOUNS, main
from fleetloop.console.exits import Exit
from tests.samples.model_files import onnx_model
from tests.servers.clients import free_port
from tests.worlds.console_desk import Desk, desk_in, heard, release
from tests.worlds.hub_world import MODEL


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A fresh one."""
    with desk_in(tmp_path, capsys, monkeypatch) as one:
        yield one


def test_tables_for_people_and_json_for_scripts(desk: Desk) -> None:
    """The same rows either way."""
    assert desk.type("devices", "list") == Exit.DONE
    table = desk.capture.readouterr().out
    assert "p01" in table
    assert "hall=3" in table
    assert [one["name"] for one in desk.ask("devices", "list")] == ["p01"]
    assert desk.ask("devices", "show", "p01")["labels"] == {"hall": "3"}
    assert desk.ask("access", "me")["role"] == "admin"


def test_what_names_a_row_is_whole_in_every_table(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """An id that was cut could not be typed again; a terminal that is too narrow folds the rest."""
    (key,) = [one["id"] for one in desk.ask("access", "list") if one["name"] == "admin"]
    for columns in ("", "60"):
        if columns:
            monkeypatch.setenv("COLUMNS", columns)
        assert desk.type("access", "list") == Exit.DONE
        said = desk.capture.readouterr().out
        assert (key in said, "publisher" in said, "\u2026" in said) == (True, True, False)


def test_a_job_is_followed_to_its_end(desk: Desk) -> None:
    """Exit code 0 and what it made, or 1 and why it failed."""
    first = desk.ask("models", "train", MODEL, "--workload", "watch")["id"]
    asyncio.run(desk.world.train())
    assert desk.type("jobs", "watch", first) == Exit.DONE
    assert f"succeeded: {MODEL}:1" in desk.capture.readouterr().out
    second = desk.ask("models", "train", MODEL, "--workload", "watch", "--seed", "1")["id"]
    ended: list[int] = []
    watcher = threading.Thread(target=lambda: ended.append(desk.type("jobs", "watch", second)))
    watcher.start()
    failed = update(jobs).where(jobs.c.id == second).values(state="failed", error="out of memory")
    asyncio.run(desk.world.store.write(lambda conn: conn.execute(failed)))
    watcher.join(30)
    assert ended == [Exit.FAILED]
    assert "failed: out of memory" in desk.capture.readouterr().out
    assert {one["id"]: one["state"] for one in desk.ask("jobs", "list")} == {first: "succeeded", second: "failed"}
    assert desk.ask("jobs", "show", second)["kind"] == "train"


def test_a_federated_run_is_started_seen_and_followed_to_its_end(desk: Desk) -> None:
    """What is left out is the hub's to choose; 0 when its result passed, 1 and why when it did not."""
    release(desk)
    words = ("federated", "start", MODEL, "1", "--rounds", "3", "--select", "hall=3", "--strategy", "FedAvgM")
    words = (*words, "--train", "local-epochs=4", "--train", "lr=0.5", "--argument", "server_momentum=0.5")
    assert desk.type(*words) == Exit.USAGE
    assert "nobody can take part: devices that match hall=3: 1 (1 not federated)" in desk.capture.readouterr().err
    assert desk.type("devices", "edit", "p01", "--federated") == Exit.DONE
    run = desk.ask(*words)["id"]
    request = asyncio.run(desk.world.store.read(lambda conn: conn.execute(select(federated_runs)).one())).request
    assert (request["rounds"], request["strategy_args"]) == (3, {"server_momentum": 0.5})
    assert request["train"] == {"local-epochs": 4, "lr": 0.5, "momentum": 0.9}
    assert [(one["id"], one["devices"]) for one in desk.ask("federated", "list")] == [(run, ["p01"])]
    assert desk.ask("federated", "show", run)["state"] == "running"
    assert desk.type("federated", "stop", run) == Exit.DONE
    assert "is being stopped" in desk.capture.readouterr().out
    assert [one["state"] for one in desk.ask("jobs", "list") if one["kind"] == "federated"] == ["stopping"]
    for state, told, code in (("refused", "it learned nothing", Exit.FAILED), ("succeeded", "", Exit.DONE)):
        ended = update(federated_runs).values(state=state, reason=told)
        asyncio.run(desk.world.store.write(lambda conn, ended=ended: conn.execute(ended)))
        desk.capture.readouterr()
        assert desk.type("federated", "watch", run) == code
        assert f"{state}: {told or 'done'}" in desk.capture.readouterr().out
    assert desk.type("federated", "stop", run) == Exit.CONFLICT
    assert desk.type("federated", "stop", "none") == Exit.UNKNOWN


def test_what_waits_for_the_publisher_and_what_devices_trust_can_be_seen(desk: Desk) -> None:
    """The release itself for people, its exact bytes for programs; every role with the time when it ends."""
    release(desk)
    assert desk.ask("signing", "list", "--state", "pending") == []
    (request,) = desk.ask("signing", "list")
    assert desk.ask("signing", "show", request["id"]) == request
    assert desk.type("signing", "show", request["id"]) == Exit.DONE
    said = desk.capture.readouterr().out
    assert ("state: signed" in said, "release:\n" in said, request["payload"] in said) == (True, True, False)
    assert desk.type("signing", "show", "none") == Exit.UNKNOWN
    assert desk.ask("trust", "show")["roles"]["targets"]["version"] == 1
    assert desk.type("trust", "show") == Exit.DONE
    said = desk.capture.readouterr().out
    assert "ready: yes" in said
    assert re.search(r"^targets +1 +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$", said, re.MULTILINE)


def test_devices_are_labelled_held_and_grouped(desk: Desk) -> None:
    """A group is what its selector means at the moment."""
    assert desk.type("groups", "set", "hall-4", "hall=4 ", "--description", "by the gate") == Exit.DONE
    assert desk.type("groups", "set", "hall-4", "hall=4") == Exit.DONE
    assert desk.ask("groups", "list")[0]["description"] == "by the gate"
    assert desk.ask("groups", "devices", "hall-4") == []
    assert desk.type("devices", "label", "p01", "hall=4", "old-") == Exit.DONE
    assert [one["name"] for one in desk.ask("groups", "devices", "hall-4")] == ["p01"]
    assert [one["devices"] for one in desk.ask("groups", "list")] == [1]
    assert [one["name"] for one in desk.ask("devices", "list", "--selector", "hall=3")] == []
    assert desk.type("devices", "hold", "p01", "--reason", "being measured") == Exit.DONE
    assert desk.type("devices", "release", "p01") == Exit.DONE
    assert desk.type("devices", "pin", "p01", MODEL, "7", "--reason", "certified") == Exit.DONE
    assert [(one["slot"], one["version"]) for one in desk.ask("devices", "twin", "p01")["pins"]] == [("main", 7)]
    assert desk.type("devices", "unpin", "p01") == Exit.DONE
    assert desk.type("devices", "edit", "p01", "--federated") == Exit.DONE
    assert desk.ask("devices", "show", "p01")["federated"] is True
    assert desk.ask("devices", "history", "p01")[0]["event"] == "edit"
    assert desk.type("fleet", "halt", "--reason", "recall") == Exit.DONE
    assert desk.ask("fleet", "show")["halted"] == "recall"
    assert desk.type("fleet", "resume") == Exit.DONE
    assert desk.type("groups", "remove", "hall-4") == Exit.DONE
    assert desk.ask("groups", "list") == []


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` works without a hub and ends with 0."""
    for noun in NOUNS:
        assert main([noun, "--help"]) == Exit.DONE
        assert "Usage" in capsys.readouterr().out


def test_exit_codes_say_what_went_wrong(desk: Desk) -> None:
    """One for each kind of refusal; the reason is on standard error, nothing on standard output."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    (desk.directory / "wrong.key").write_text("flk_wrong\n")
    for code, words, more in (
        (Exit.UNKNOWN, ("devices", "show", "nobody"), {}),
        (Exit.DENIED, ("access", "list"), {"role": "operator"}),
        (Exit.DENIED, ("devices", "list"), {"role": "wrong"}),
        (Exit.UNREACHABLE, ("devices", "list"), {"url": nowhere}),
        (Exit.USAGE, ("devices", "list"), {"role": "missing"}),
        (Exit.USAGE, ("devices", "list"), {"url": "http://hub.example.org"}),
        (Exit.USAGE, ("rollouts", "start", "m", "1", "--wave", "many"), {}),
        (Exit.USAGE, ("rollouts", "start", "m", "0", "--wave", "1"), {}),
        (Exit.USAGE, ("devices", "destroy"), {}),
        (Exit.CONFLICT, ("access", "create", "admin", "--role", "viewer", "--out", str(desk.directory / "k")), {}),
    ):
        assert desk.type(*words, **more) == code, words
        said = desk.capture.readouterr()
        assert (said.out, bool(said.err)) == ("", True), words
    assert not (desk.directory / "k").exists()


def test_secrets_go_into_files_for_their_owner_only(desk: Desk) -> None:
    """Keys and claim files; neither is printed, neither is written over another file."""
    key, claims = desk.directory / "ci.key", desk.directory
    words = ("access", "create", "ci", "--role", "operator", "--label", "hall=3", "--days", "30", "--out", str(key))
    assert desk.type(*words) == Exit.DONE
    assert desk.type("devices", "claim", "p02", "--directory", str(claims), "--label", "hall=3", role="ci") == Exit.DONE
    said = desk.capture.readouterr()
    secret, token = key.read_text().strip(), json.loads((claims / "p02.json").read_text())["token"]
    assert secret.startswith("flk_")
    for file in (key, claims / "p02.json"):
        assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    assert secret not in said.out + said.err
    assert token not in said.out + said.err
    assert desk.type(*words) == Exit.USAGE
    (made,) = [one for one in desk.ask("access", "list") if one["name"] == "ci"]
    assert (made["labels"], made["state"], made["expires_ns"] is not None) == ({"hall": "3"}, "usable", True)
    assert desk.type("access", "revoke", made["id"]) == Exit.DONE
    assert desk.type("devices", "list", role="ci") == Exit.DENIED


def test_a_claim_file_that_was_handed_out_stays_good(desk: Desk) -> None:
    """Neither a second claim over the file, nor a fleet file that changes the device, makes it worthless."""
    place = ("--directory", str(desk.directory))
    assert desk.type("devices", "claim", "p02", *place) == Exit.DONE
    handed_out = json.loads((desk.directory / "p02.json").read_text())
    assert desk.type("devices", "claim", "p03", "p02", *place) == Exit.USAGE
    assert not (desk.directory / "p03.json").exists()
    assert [one["name"] for one in desk.ask("devices", "list")] == ["p01", "p02"]
    file = desk.directory / "fleet.yaml"
    file.write_text("devices: {p02: {labels: {hall: '5'}, federated: true, held: not yet}}")
    assert desk.type("apply", "-f", str(file)) == Exit.DONE
    view = desk.ask("devices", "show", "p02")
    assert (view["labels"], view["federated"], view["held_reason"]) == ({"hall": "5"}, True, "not yet")
    assert asyncio.run(desk.world.request("c1", handed_out["token"])).ok


def test_model_files_go_up_and_come_back_and_a_cut_costs_only_the_rest(desk: Desk) -> None:
    """A download goes on after the bytes that are there; bytes that are not the file's are thrown away and said."""
    model, out = desk.directory / "m.onnx", desk.directory / "back.onnx"
    model.write_bytes(onnx_model())
    part = desk.directory / "back.onnx.part"
    assert desk.type("artefacts", "upload", str(model)) == Exit.DONE
    assert desk.type("artefacts", "upload", str(model)) == Exit.DONE
    (made,) = desk.ask("artefacts", "list")
    assert desk.ask("artefacts", "show", made["sha256"])["bytes"] == model.stat().st_size
    words = ("artefacts", "download", made["sha256"], "--out", str(out))
    part.write_bytes(b"what a damaged disk left")
    assert desk.type(*words) == Exit.FAILED
    assert (part.exists(), out.exists()) == (False, False)
    for there in (model.read_bytes()[:10], model.read_bytes()):
        part.write_bytes(there)
        assert desk.type(*words) == Exit.DONE
        assert (out.read_bytes(), part.exists()) == (model.read_bytes(), False)
        out.unlink()
    model.write_bytes(b"no model")
    assert desk.type("artefacts", "upload", str(model)) == Exit.USAGE
    assert desk.type("artefacts", "upload", str(desk.directory / "nothing")) == Exit.USAGE
    assert desk.type("artefacts", "download", "0" * 64, "--out", str(out)) == Exit.UNKNOWN


def test_a_version_is_promoted_and_retired(desk: Desk) -> None:
    """By its rule, or by a person who says why; what is in production cannot be retired."""
    release(desk)
    assert desk.type("models", "promote", MODEL, "1") == Exit.CONFLICT
    assert "does not meet its rule" in desk.capture.readouterr().err
    assert desk.type("models", "promote", MODEL, "1", "--override", "a customer waits") == Exit.DONE
    assert desk.ask("models", "list")[0]["production"] == 1
    assert desk.type("models", "retire", MODEL, "1", "--reason", "old") == Exit.CONFLICT


def test_watching_outlasts_a_hub_that_is_away_for_a_while(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 503 is waited out and said on standard error; the rollout's end is still seen."""
    monkeypatch.setattr("cloud.api.problems.RETRY_AFTER_S", 1.0)
    release(desk)
    made = desk.ask("rollouts", "start", MODEL, "1", "--wave", "100%")
    read = desk.world.store.read

    async def away(call: Any) -> Any:
        raise StoreError("the database is away")

    ended: list[int] = []
    desk.world.store.read = away  # type: ignore[method-assign]
    assert desk.type("rollouts", "watch", made["id"]) == Exit.FAILED
    desk.world.store.read = read  # type: ignore[method-assign]
    watcher = threading.Thread(target=lambda: ended.append(desk.type("rollouts", "watch", made["id"], "--json")))
    watcher.start()
    heard(desk, "running")
    desk.world.store.read = away  # type: ignore[method-assign]
    heard(desk, "asking again")
    desk.world.store.read = read  # type: ignore[method-assign]

    async def go_on() -> None:
        await desk.world.tick()
        await desk.world.report("p01")
        await desk.world.tick()

    asyncio.run(go_on())
    watcher.join(30)
    assert ended == [Exit.DONE]


def test_a_rollout_is_started_steered_and_watched_to_its_end(desk: Desk) -> None:
    """`watch` follows every change and ends with 0 because it succeeded; what was done is in the audit trail."""
    release(desk)
    made = desk.ask("rollouts", "start", MODEL, "1", "--wave", "100%", "--select", "hall=3")
    assert desk.type("rollouts", "pause", made["id"]) == Exit.DONE
    assert "paused" in desk.capture.readouterr().out
    assert desk.type("rollouts", "resume", made["id"]) == Exit.DONE
    ended: list[int] = []
    watcher = threading.Thread(target=lambda: ended.append(desk.type("rollouts", "watch", made["id"])))
    watcher.start()

    async def go_on() -> None:
        await desk.world.tick()
        await desk.world.report("p01")
        await desk.world.tick()

    asyncio.run(go_on())
    watcher.join(30)
    assert ended == [Exit.DONE]
    assert "succeeded" in desk.capture.readouterr().out
    assert desk.ask("rollouts", "members", made["id"])[0]["outcome"] == "succeeded"
    assert desk.type("audit", "list", "--action", "rollout.pause", "--json") == Exit.DONE
    assert json.loads(desk.capture.readouterr().out)["subject"] == made["id"]


def test_watching_a_rollout_that_was_aborted_fails(desk: Desk) -> None:
    """Exit code 1, so that a script stops; JSON lines tell each state."""
    release(desk)
    made = desk.ask("rollouts", "start", MODEL, "1", "--wave", "1")
    assert desk.type("rollouts", "abort", made["id"]) == Exit.DONE
    desk.capture.readouterr()
    assert desk.type("rollouts", "watch", made["id"], "--json") == Exit.FAILED
    assert json.loads(desk.capture.readouterr().out)["state"] == "aborted"


def test_a_shell_can_complete() -> None:
    """The noun and its commands."""
    environ = os.environ | {
        "_FLEETLOOP_COMPLETE": "complete_bash",
        "COMP_WORDS": "fleetloop rollouts p",
        "COMP_CWORD": "2",
    }
    command = [sys.executable, "-m", "fleetloop"]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60)
    assert "pause" in done.stdout, done.stderr
