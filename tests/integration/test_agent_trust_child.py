"""The judgement in its real process: what it costs, that it cannot hurt the daemon, and that the daemon stays small."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_agent.adapters.tuf_trust import TufTrust
from edge_agent.core.trust import Floors, Judgement, Question
from tests.worlds.trust_world import NOW_NS, ROOT, fork, piece
from wire.asks import AskMetadata, MetadataPiece, Refused
from wire.codec import encode

TOP = Path(__file__).parents[2]
PYTHON = os.environ.get("FLEETLOOP_AGENT_PYTHON", sys.executable)
REAL = (PYTHON, "-m", "edge_agent.installer")
PATH = "watch/1.json"
REPOSITORY = fork()
REPOSITORY.add(PATH, b"release one", 1)
HELD = Floors(root=1)


async def fetch(ask: AskMetadata) -> MetadataPiece | Refused:
    """From the honest repository."""
    return piece(REPOSITORY.files, ask)


def judge(folder: Path, question: Question, command: tuple[str, ...] = REAL, limit_s: float = 30.0) -> Judgement:
    """One judgement by the child."""
    trust = TufTrust(ROOT, str(folder / "work"), command=command)
    return asyncio.run(trust.judge(question, fetch, limit_s))


def test_the_child_judges_over_its_pipes_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """First everything is fetched, then two small files; its memory and time are bounded."""
    first = judge(tmp_path, Question(root=ROOT, now_ns=NOW_NS, paths=(PATH,)))
    assert (first.refusal, first.fresh) == ("", True)
    assert [one.path for one in first.targets] == [PATH]
    began = time.monotonic()
    second = judge(tmp_path, Question(root=ROOT, now_ns=NOW_NS, files=first.files, floors=first.floors))
    seconds = time.monotonic() - began
    assert (second.fresh, second.floors) == (True, first.floors)
    assert list(tmp_path.iterdir()) == []
    print(f"a poll with nothing new: {seconds:.2f} s, child's peak {second.rss_bytes / 1e6:.0f} MB")
    assert second.rss_bytes < 80_000_000


SAID = encode({"what": {"type": "metadata", "schema": 1, "name": "../etc/passwd", "offset": 0}})
BROKEN = {
    "crash": ("import os; os.abort()", "killed by SIGABRT"),
    "exit code": ("raise SystemExit(3)", "exit code 3"),
    "nonsense": ("print('fine')", "said what it cannot mean"),
    "a name outside": (f"print({SAID.decode()!r}, flush=True); input()", "said what it cannot mean"),
    "silence": ("import time; time.sleep(60)", "not done after 1 s"),
    "endless line": ("import sys\nwhile True: sys.stdout.write('x' * 65536)", "in a line"),
    "nothing": ("pass", "gave no verdict"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_whatever_becomes_of_the_child_is_a_refusal_that_changes_nothing(case: str, tmp_path: Path) -> None:
    """Floors and files stay, and no director key is learned."""
    code, reason = BROKEN[case]
    question = Question(root=ROOT, now_ns=NOW_NS, files={"timestamp.json": b"x"}, floors=HELD)
    judgement = judge(tmp_path, question, (sys.executable, "-c", code), limit_s=1.0 if case == "silence" else 30.0)
    assert reason in judgement.refusal
    assert judgement.unable
    assert (judgement.floors, judgement.files, judgement.directors) == (HELD, question.files, None)


def test_the_child_is_the_first_to_go_when_memory_runs_out(tmp_path: Path) -> None:
    """The daemon may hold more memory, but also the models that answer."""
    scores: list[int] = []

    async def look(ask: AskMetadata) -> MetadataPiece | Refused:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        scores.extend(int(Path(f"/proc/{child}/oom_score_adj").read_text()) for child in children)
        return await fetch(ask)

    trust = TufTrust(ROOT, str(tmp_path / "work"), command=REAL)
    judgement = asyncio.run(trust.judge(Question(root=ROOT, now_ns=NOW_NS), look, 30.0))
    assert (judgement.refusal, max(scores)) == ("", 1000)


def test_the_daemon_never_imports_tuf_nor_numpy_to_start() -> None:
    """They cost memory that only the child pays."""
    code = (
        "import sys, edge_agent.main, edge_agent.bootstrap\n"
        "print([one for one in ('tuf', 'securesystemslib', 'urllib3', 'numpy', 'onnxruntime') if one in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(TOP)}
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, cwd=TOP, env=environment, check=True)
    assert done.stdout.strip() == "[]"


def test_a_child_that_trusts_imports_no_runtime(tmp_path: Path) -> None:
    """Nor one that tries a model python-tuf: each command imports what it needs."""
    code = "import sys, edge_agent.judging\nprint([n for n in ('numpy', 'onnxruntime') if n in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(TOP)}
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, cwd=TOP, env=environment, check=True)
    assert done.stdout.strip() == "[]"
