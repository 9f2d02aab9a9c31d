"""Jobs as real processes: what the operator reads when one fails, what lies in its directory, and what it may name."""

import asyncio
import os
import signal
import stat
from pathlib import Path

import pytest

from cloud.adapters.subprocess_launcher import SubprocessLauncher, words_of
from cloud.ports import JobError, JobKilledError, JobOrder
from wire.adapters.system import ThreadOffload


async def run(directory: Path) -> None:
    """A real job module with a specification that it cannot use."""
    offload = ThreadOffload()
    order = JobOrder("job1", "optimize.job", b"{}", {"input.bin": b"input"})
    try:
        async for _ in SubprocessLauncher(directory, offload).run(order):
            pass
    finally:
        offload.close()


def test_a_failed_job_says_why_in_words(tmp_path: Path) -> None:
    """The message of its error event, not the JSON around it; and where its log is."""
    with pytest.raises(JobError, match=r"^job ended with code 2: unusable job specification: .*\(log: .*log\.txt\)$"):
        asyncio.run(run(tmp_path))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"event":"error","message":"no data"}\n', "no data"),
        (b'{"event":"failed","rounds":1,"reason":"too few answers"}\n', "too few answers"),
        (b'{"event":"round","round":3}\n', '{"event":"round","round":3}'),
        (b"Killed\n", "Killed"),
    ],
)
def test_what_a_job_said_last_is_told_in_its_words(line: bytes, said: str) -> None:
    """Whichever program it was; what is no event with words is told as it is."""
    assert words_of(line) == said


def test_a_process_that_a_signal_ended_was_killed(tmp_path: Path) -> None:
    """Whoever did it: the job has not failed by itself. (An interpreter that waits for its input stands for a job.)"""
    offload = ThreadOffload()

    async def killed() -> None:
        children = Path(f"/proc/self/task/{os.getpid()}/children")
        others = set(children.read_text().split())
        lines = SubprocessLauncher(tmp_path, offload).run(JobOrder("job1", "code", b"{}", {}))
        first = asyncio.ensure_future(anext(lines))
        async with asyncio.timeout(10):
            while not (mine := set(children.read_text().split()) - others):
                await asyncio.sleep(0.01)
        os.kill(int(mine.pop()), signal.SIGKILL)
        await first

    try:
        with pytest.raises(JobKilledError, match=r"^job ended with code -9"):
            asyncio.run(killed())
    finally:
        offload.close()


def test_the_directory_of_a_job_is_for_its_owner_only(tmp_path: Path) -> None:
    """The specification may hold the aggregator's password."""
    with pytest.raises(JobError):
        asyncio.run(run(tmp_path))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "job1", *tmp_path.rglob("*"))}
    assert (modes["job1"], modes["spec.json"], modes["input.bin"]) == (0o700, 0o600, 0o600)


def test_the_directory_of_a_job_that_ended_can_be_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With all that is in it. Files and links beside it are nobody's job; what cannot be removed is logged."""
    (tmp_path / "beside").write_text("x")
    (tmp_path / "link").symlink_to("/")
    with pytest.raises(JobError):
        asyncio.run(run(tmp_path))
    offload = ThreadOffload()
    launcher = SubprocessLauncher(tmp_path, offload)
    assert asyncio.run(launcher.kept()) == ("job1",)
    asyncio.run(launcher.discard("job1"))
    assert asyncio.run(launcher.kept()) == ()
    assert {one.name for one in tmp_path.iterdir()} == {"beside", "link"}
    asyncio.run(launcher.discard("job1"))
    assert "the files of job job1 cannot be removed" in caplog.text
    assert asyncio.run(SubprocessLauncher(tmp_path / "none", offload).kept()) == ()
    offload.close()


@pytest.mark.parametrize("name", ["../admin.key", "/etc/hostname", "sub/file", ".."])
def test_a_job_cannot_name_files_outside_its_directory(tmp_path: Path, name: str) -> None:
    """Its result is not trusted with paths."""
    offload = ThreadOffload()
    with pytest.raises(JobError):
        asyncio.run(SubprocessLauncher(tmp_path, offload).output("job1", name))
    offload.close()
