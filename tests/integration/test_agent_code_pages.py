"""Giving back code pages: which mappings are touched, and that a process goes on with less memory."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bench.memory
from edge_agent.adapters.code_pages import clean_code, give_back

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("FLEETLOOP_AGENT_PYTHON", sys.executable)

SMAPS = """\
7f0000000000-7f0000004000 r-xp 00000000 08:01 42 /lib/clean.so
Rss: 16 kB
Anonymous:             0 kB
7f0000004000-7f0000008000 r-xp 00000000 08:01 42 /lib/patched.so
Anonymous:             4 kB
7f0000008000-7f000000c000 r--p 00000000 08:01 42 /lib/clean.so
Anonymous:             0 kB
7f000000c000-7f0000010000 rw-p 00000000 08:01 42 /lib/clean.so
Anonymous:             0 kB
7f0000010000-7f0000014000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
7f0000014000-7f0000018000 r-xp 00000000 00:00 0
Anonymous:             0 kB
"""

SETTLES = """
import numpy, onnxruntime, ssl
from edge_agent.adapters.code_pages import give_back
def rss():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))
before = rss()
assert give_back() > 10_000_000
after = rss()
assert float(numpy.ones(4).sum()) == 4.0 and onnxruntime.get_available_providers()
print(before, after)
"""


def test_only_clean_code_of_files_is_given_back() -> None:
    """Not data, not code that was patched in memory, not what belongs to no file."""
    assert list(clean_code(SMAPS.splitlines())) == [(0x7F0000000000, 0x4000)]


def test_where_the_kernel_tells_nothing_nothing_happens() -> None:
    """Containers may hide the file."""
    assert give_back(Path("/no/such/file")) == 0


def test_a_process_goes_on_with_less_memory() -> None:
    """numpy and onnxruntime still work; ten megabytes and more are gone."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([PYTHON, "-c", SETTLES], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    assert before - after > 10_000


@pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed")
def test_the_agent_stays_within_its_memory(capsys: pytest.CaptureFixture[str]) -> None:
    """The short proof: before any model, and with one."""
    assert bench.memory.run(bench.memory.Settings(short=True, json=True)) == 0, capsys.readouterr().out
