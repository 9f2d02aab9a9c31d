"""The devices' own environment: the base install alone, so that torch and flwr cannot be imported there."""

import subprocess
import sys
from pathlib import Path

from fleetloop import __version__

DEFAULT = Path(".venv-agent")
_ROOT = Path(__file__).resolve().parents[2]


class InstallError(Exception):
    """The devices' environment could not be made."""


def agent_python(path: str) -> Path:
    """The interpreter at `path`, or that of an environment made now (a minute, once).

    Raises:
        InstallError: there is no interpreter at `path`, or pip failed; carries what pip said.
    """
    if path:
        if not Path(path).is_file():
            raise InstallError(f"{path} is not a Python interpreter; leave the option out to have one made")
        return Path(path).absolute()
    python = (DEFAULT / "bin" / "python").absolute()
    if not python.is_file():
        _run([sys.executable, "-m", "venv", str(DEFAULT)])
        _run([str(python), "-m", "pip", "install", "--quiet", *_requirement()])
    return python


def _requirement() -> list[str]:
    """This very code when it runs from a checkout, else the released distribution."""
    if not (_ROOT / "pyproject.toml").is_file():
        return [f"fleetloop=={__version__}"]
    lock = _ROOT / "requirements" / "agent.lock"
    return ["--constraint", str(lock), "--editable", str(_ROOT)]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InstallError(f"{' '.join(command)} failed:\n{done.stderr.strip()}")
