"""The proof with the public TUF suite: what it says without the suite, and that its client works over a real broker."""

import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from bench import tuf_conformance
from bench.mosquitto import running
from simulator.fakes.tuf_repository import TufRepository
from tests.worlds.trust_world import DIRECTOR

TOP = Path(__file__).parents[2]
PATH, DATA = "watch/1.json", b"release one"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, *words: object) -> None:
        """Nothing."""


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A web server with a repository: `metadata/` and `targets/`, as the suite has."""
    repository = TufRepository((DIRECTOR.public_hex,), time.time_ns())
    repository.add(PATH, DATA, 1)
    for folder in ("metadata", "targets/watch"):
        (tmp_path / "served" / folder).mkdir(parents=True)
    for name, data in repository.files.items():
        (tmp_path / "served" / "metadata" / name).write_bytes(data)
    digest = repository.bins[next(name for name, held in repository.bins.items() if held)][PATH].sha256
    (tmp_path / "served" / "targets" / "watch" / f"{digest}.1.json").write_bytes(DATA)
    handler = partial(Quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_without_the_suite_it_says_how_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    """It is on no package index."""
    assert tuf_conformance.run(tuf_conformance.Settings()) == 2
    assert "git clone" in capsys.readouterr().err


def test_its_client_refreshes_and_downloads_over_mosquitto(tmp_path: Path, url: str) -> None:
    """As the suite calls it: exit code 0, metadata under plain names, the target; and 1 for what is not listed."""
    metadata, targets = tmp_path / "metadata", tmp_path / "downloaded"
    metadata.mkdir()
    targets.mkdir()
    root = tmp_path / "served" / "metadata" / "1.root.json"
    with running(tmp_path) as mosquitto:
        base = [sys.executable, "-m", "bench.conformance_client", "--broker-port", str(mosquitto.broker.port)]
        base += ["--metadata-dir", str(metadata)]
        fetch = [*base, "--metadata-url", f"{url}/metadata", "--target-base-url", f"{url}/targets"]
        fetch += ["--target-dir", str(targets)]

        def client(*words: str) -> int:
            return subprocess.run(words, cwd=TOP, check=False, timeout=60).returncode

        assert client(*base, "init", str(root)) == 0
        assert client(*fetch, "--target-name", PATH, "download") == 0
        assert client(*fetch, "--target-name", "watch/2.json", "download") == 1
    assert [path.read_bytes() for path in targets.iterdir()] == [DATA]
    names = {path.name for path in metadata.glob("*.json")}
    assert {"root.json", "timestamp.json", "snapshot.json", "targets.json"} <= names
