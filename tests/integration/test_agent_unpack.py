"""The installer child unpacking good and hostile deltas: it writes what it was told to, or says why not."""

import asyncio
import io
import random
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

from edge_agent.adapters.child_installer import ChildInstaller
from edge_agent.ports import UnpackRequest
from wire.adapters.zstd_delta import MAX_WINDOW_LOG, pack, unpack
from wire.errors import MalformedError

BASE = random.Random(1).randbytes(1_500_000)
TARGET = BASE[:700_000] + b"something else" + BASE[700_000:]
DELTA = pack(BASE, TARGET)
MEASURED = """
import resource, sys
from pathlib import Path
from tests.integration.test_agent_unpack import child
folder = Path(sys.argv[1])
child(folder, (folder / "bomb").read_bytes())
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""Unpacks, and prints the most memory that a child had, in KiB."""


def child(folder: Path, delta: bytes, length: int = len(TARGET)) -> str:
    """Run the child; returns its reason."""
    for name, content in (("base", BASE), ("delta", delta), ("target", bytes(length))):
        (folder / name).write_bytes(content)
    request = UnpackRequest("base", "delta", "target", len(BASE), length, 30.0)
    return asyncio.run(ChildInstaller(lambda path: str(folder / path)).unpack(request))


def bomb(window_log: int, size: int) -> bytes:
    """A frame of zeros that asks for a window of this size, and does not say how long it is."""
    parameters = zstandard.ZstdCompressionParameters(window_log=window_log, write_content_size=False)
    out = io.BytesIO()
    with zstandard.ZstdCompressor(compression_params=parameters).stream_writer(out, closefd=False) as writer:
        for _ in range(size // 2**20):
            writer.write(bytes(2**20))
    return out.getvalue()


def test_the_target_is_written_whole(tmp_path: Path) -> None:
    """Byte for byte."""
    assert child(tmp_path, DELTA) == ""
    assert (tmp_path / "target").read_bytes() == TARGET


@pytest.mark.parametrize(
    ("delta", "reason"),
    [
        (bomb(20, 2**30), "unpacks to more than"),
        (bomb(MAX_WINDOW_LOG + 3, 2**28), "cannot be unpacked"),
        (DELTA[:-3], "delta"),
        (b"", "unpacks to 0 bytes"),
        (b"no delta at all", "cannot be unpacked"),
    ],
    ids=["bomb", "huge window", "cut off", "empty", "garbage"],
)
def test_a_hostile_delta_is_a_reason_and_writes_no_more_than_the_length(
    delta: bytes, reason: str, tmp_path: Path
) -> None:
    """The file never grows."""
    assert reason in child(tmp_path, delta)
    assert (tmp_path / "target").stat().st_size == len(TARGET)


@pytest.mark.parametrize("window_log", [20, MAX_WINDOW_LOG + 3], ids=["bomb", "huge window"])
def test_a_bomb_stays_within_the_memory_of_its_child(window_log: int, tmp_path: Path) -> None:
    """Measured from a process of its own: a child begins with the size of whoever started it."""
    (tmp_path / "bomb").write_bytes(bomb(window_log, 2**28))
    command = [sys.executable, "-c", MEASURED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) < 700_000


def test_missing_files_are_a_reason(tmp_path: Path) -> None:
    """Whoever removed them."""
    request = UnpackRequest("base", "delta", "target", 1, 1, 30.0)
    reason = asyncio.run(ChildInstaller(lambda path: str(tmp_path / path)).unpack(request))
    assert "No such file" in reason


@pytest.mark.parametrize("seed", range(60))
def test_flipped_bytes_unpack_to_something_of_the_length_or_are_malformed(seed: int) -> None:
    """What comes out is judged by its digest; here it must only not be longer, and raise nothing else."""
    rng = random.Random(seed)
    delta = bytearray(DELTA)
    for _ in range(rng.randrange(1, 4)):
        delta[rng.randrange(len(delta))] ^= 1 << rng.randrange(8)
    try:
        out = b"".join(unpack(BASE, io.BytesIO(bytes(delta)), len(TARGET)))
    except MalformedError:
        return
    assert len(out) == len(TARGET)
