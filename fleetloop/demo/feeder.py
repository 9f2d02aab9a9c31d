"""The application on every device, played by one process: it shows each window to the agent and later tells the truth.

`python -m fleetloop.demo.feeder SPEC.json` reads commands from standard input, one a line: `play` plays every recording
once, from its first window to its last. It answers with JSON lines: progress, then `{"event": "played", ...}`. An agent
that is down is waited for, as an application would; a window whose answer got lost is shown again.
"""

import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path

from edge_agent.client import AgentClient, AgentError
from workloads.base import DeviceStream, Floats
from workloads.registry import load_workload

PATIENCE_S = 90.0
"""How long an application waits for an agent that does not answer."""
RETRY_S = 0.2
PARALLEL = 4


class FeederError(Exception):
    """An agent stayed away for longer than PATIENCE_S."""


def main() -> int:
    """Serve commands until standard input ends."""
    spec = json.loads(Path(sys.argv[1]).read_bytes())
    streams = {stream.device: stream for stream in load_workload(spec["workload"]).streams()}
    sockets: dict[str, str] = spec["sockets"]
    _say("ready", devices=len(sockets))
    for line in sys.stdin:
        if line.strip() == "play":
            _play({name: (streams[name], path) for name, path in sockets.items()})
    return 0


def _play(devices: dict[str, tuple[DeviceStream, str]]) -> None:
    started, windows = time.monotonic(), 0
    with ThreadPoolExecutor(PARALLEL) as pool:
        futures = {pool.submit(_play_device, stream, path): name for name, (stream, path) in devices.items()}
        for number, future in enumerate(as_completed(futures), start=1):
            windows += future.result()
            _say("device", name=futures[future], done=number, total=len(futures))
    _say("played", windows=windows, seconds=round(time.monotonic() - started, 3))


def _play_device(stream: DeviceStream, path: str) -> int:
    client = AgentClient(path)
    for recording in stream.recordings:
        for window, label in zip(recording.examples.x, recording.examples.y, strict=True):
            _show(client, stream.device, window, int(label))
    client.close()
    return len(stream)


def _show(client: AgentClient, device: str, window: Floats, label: int) -> None:
    for _ in _attempts(device):
        with suppress(AgentError, OSError):
            client.feedback(client.predict(window).id, label)
            return


def _attempts(name: str) -> Iterator[None]:
    """One attempt after another until PATIENCE_S have passed."""
    end = time.monotonic() + PATIENCE_S
    yield
    while time.monotonic() < end:
        time.sleep(RETRY_S)
        yield
    raise FeederError(f"{name}: the agent did not answer for {PATIENCE_S:.0f} s")


def _say(event: str, **values: object) -> None:
    print(json.dumps({"event": event, **values}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
