"""The command line: every program explains itself, and mistakes are named with exit code 2."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fleetloop.cli import PROGRAMS, main
from tests.servers.clients import free_port


def call(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `fleetloop` as a process."""
    command = [sys.executable, "-m", "fleetloop", *words]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environ, timeout=60)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_explains_itself(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` names each option, where else it can be set, and exits with 0."""
    with pytest.raises(SystemExit) as ended:
        main([*program.split(), "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "--config FILE" in text
    assert f"FLEETLOOP_{program.upper().replace(' ', '_')}_" in text


def test_agent_help_imports_nothing_of_the_hub() -> None:
    """What a device has installed is enough for `fleetloop agent`."""
    code = (
        "import sys, contextlib\n"
        "from fleetloop.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['agent', '--help'])\n"
        "bad = {'fastapi', 'sqlalchemy', 'torch', 'flwr', 'numpy', 'httpx', 'rich', 'cloud'} & set(sys.modules)\n"
        "sys.exit(repr(bad) if bad else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_unknown_program_and_option_are_usage_errors() -> None:
    """Exit code 2, and the word that was wrong."""
    for words, named in ((("hbu",), "hbu"), (("hub", "--prot=1"), "--prot")):
        done = call(*words)
        assert (done.returncode, named in done.stderr) == (2, True), done.stderr


def test_bad_values_name_the_setting_and_its_source(tmp_path: Path) -> None:
    """A wrong key in the file and a wrong value in the environment are both named; nothing is started."""
    config = tmp_path / "hub.toml"
    config.write_text("prot = 1\n")
    for done in (call("hub", "--config", str(config)), call("hub", FLEETLOOP_HUB_PORT="many")):
        assert done.returncode == 2
        assert "port" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_mistake_in_a_call_of_the_simulator_is_said_before_anything_is_played(tmp_path: Path) -> None:
    """A scenario where the action belongs, a report without a place, steps that are not there, options nobody hears."""
    nowhere = str(tmp_path / "nowhere" / "report.html")
    for words, said in (
        (("bad-canary",), "invalid choice: 'bad-canary' (choose from 'run', 'compare'"),
        (("run", "bad-canary", "--html", nowhere), f"--html {nowhere}: No such file or directory"),
        (("fuzz", "--only", "0,x"), "--only: there is no step 'x'; the life of seed 1 has 0 to "),
        (("fuzz", "--only", "99"), "--only: there is no step '99'"),
        (("fuzz", "--devices", "9"), "devices: fuzz draws its own fleets"),
    ):
        done = call("sim", *words)
        assert (done.returncode, said in done.stderr, done.stdout) == (2, True, ""), done.stderr
        assert "Traceback" not in done.stderr


def test_with_json_lists_and_checks_are_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    """As every result of the simulator."""
    assert main(["sim", "list", "--json"]) == 0
    assert {"name": "bad-canary", "devices": 50}.items() <= json.loads(capsys.readouterr().out)["scenarios"][1].items()
    assert main(["sim", "check", "bad-canary", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["expectations"] == 5


def test_ctrl_c_is_one_line_and_the_code_of_an_interrupted_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not a traceback, and not the code that says an expectation was not met."""

    def interrupted(settings: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("simulator.main.run", interrupted)
    assert main(["sim"]) == 130
    assert capsys.readouterr().err == "fleetloop sim: interrupted\n"


@pytest.mark.parametrize("words", [("keys", "push"), ("publisher", "list"), ("devices", "list")])
def test_one_variable_names_the_api_key_for_every_program(words: tuple[str, ...], tmp_path: Path) -> None:
    """The hub's address, too; of a program's own variable and the common one its own is taken."""
    key, nowhere = tmp_path / "admin.key", f"http://127.0.0.1:{free_port()}"
    key.write_text("flk_x\n")
    environ = {"FLEETLOOP_API_KEY_FILE": str(key), "FLEETLOOP_URL": nowhere}
    if words[0] == "publisher":
        environ["FLEETLOOP_PUBLISHER_KEY_DIR"] = str(tmp_path)
    done = call(*words, **environ)
    assert (nowhere in done.stderr, done.returncode in (1, 3)) == (True, True), done.stderr
    if words[0] != "devices":
        done = call(*words, **environ, **{f"FLEETLOOP_{words[0].upper()}_API_KEY_FILE": "/nowhere/own.key"})
        assert (done.returncode, "/nowhere/own.key: No such file" in done.stderr) == (2, True), done.stderr


def test_missing_configuration_file_is_said() -> None:
    """The path is in the message."""
    done = call("hub", "--config", "/nowhere/hub.toml")
    assert done.returncode == 2
    assert "/nowhere/hub.toml" in done.stderr
