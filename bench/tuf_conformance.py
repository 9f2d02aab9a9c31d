"""The public TUF conformance suite against the agent's own client, over a real broker.

The suite is not on any package index and is not ours to copy: clone it, make an environment for it, and say where both
are. Every case starts the client a few times; each time its trust service and its installer child do the work.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec

from bench.mosquitto import running
from bench.result import Outcome, finish

CASES = 113
EXIT_USAGE = 2
HOW = """the suite is needed, it is not on any package index:
  git clone https://github.com/theupdateframework/tuf-conformance
  python -m venv suite && suite/bin/pip install ./tuf-conformance pytest-json-report && apt install faketime mosquitto
  fleetloop bench tuf-conformance --suite tuf-conformance --suite-python suite/bin/python"""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be asked of this proof."""

    suite: Annotated[str, msgspec.Meta(description="clone of github.com/theupdateframework/tuf-conformance")] = ""
    suite_python: Annotated[str, msgspec.Meta(description="Python of an environment with the suite installed")] = (
        sys.executable
    )
    only: Annotated[str, msgspec.Meta(description="run only cases whose name matches (pytest -k)")] = ""
    json: Annotated[bool, msgspec.Meta(description="print nothing but the JSON object")] = False


def run(settings: Settings) -> int:
    """Run the suite; 1 when a case failed, 2 when there is no suite."""
    if not (Path(settings.suite) / "tuf_conformance").is_dir() or not settings.suite:
        print(HOW, file=sys.stderr)
        return EXIT_USAGE
    if shutil.which("faketime") is None:
        print("faketime is not installed: apt install faketime", file=sys.stderr)
        return EXIT_USAGE
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as mosquitto:
        report = _run_suite(settings, Path(folder), mosquitto.broker.port)
    if report is None:
        print(f"the suite did not run; what {settings.suite_python} needs:\n{HOW}", file=sys.stderr)
        return EXIT_USAGE
    summary = report["summary"]
    figures = {
        "cases": summary["total"],
        "passed_cases": summary.get("passed", 0),
        "expected_failures": summary.get("xfailed", 0),
        "failed": [test["nodeid"] for test in report["tests"] if test["outcome"] not in ("passed", "xfailed")],
        "seconds": round(time.monotonic() - began, 1),
    }
    whole = settings.only or summary["total"] >= CASES
    return finish(
        Outcome(figures, passed=bool(whole) and figures["passed_cases"] == figures["cases"]), as_json=settings.json
    )


def _run_suite(settings: Settings, folder: Path, port: int) -> dict[str, Any] | None:
    report = folder / "report.json"
    with _entry_point(folder, port) as client:
        command = [settings.suite_python, "-m", "pytest", "-q", str(Path(settings.suite) / "tuf_conformance")]
        command += ["-p", "no:cacheprovider", "--json-report", f"--json-report-file={report}"]
        command += ["--entrypoint", str(client), *(["-k", settings.only] if settings.only else [])]
        subprocess.run(command, cwd=folder, stdout=sys.stderr, check=False)
    result: dict[str, Any] | None = json.loads(report.read_text()) if report.exists() else None
    return result


@contextmanager
def _entry_point(folder: Path, port: int) -> Iterator[Path]:
    """A program that the suite can start, anywhere."""
    client = folder / "client"
    here = Path(__file__).resolve().parents[1]
    client.write_text(
        f'#!/bin/sh\nPYTHONPATH="{here}{os.pathsep}$PYTHONPATH" exec "{sys.executable}" -m bench.conformance_client'
        f' --broker-port {port} "$@"\n'
    )
    client.chmod(0o700)
    yield client
