"""Measuring one candidate in a process of its own, so that nothing but the model is in its memory and its way.

`python -m optimize.measure REQUEST` takes a request as JSON and prints one JSON object. Order matters: peak memory is
taken with the candidate alone; only then come the parent, for latency in turns, and the holdout.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
from safetensors.numpy import load_file

from optimize.gates import Measurement
from optimize.session import Floats, LoadError, Session
from optimize.spec import Metrics
from wire.golden import check, parse

_WARM_UP = 50
_BLOCKS = 15
_BLOCK = 40
_TIMEOUT_S = 120.0
_MIB = 1024 * 1024


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Paths of what to measure and against what. `examples` is a safetensors file with x float32 and y int64."""

    model: str
    parent: str
    golden: str
    golden_logits: str
    golden_tolerance: float
    examples: str


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    metrics: Metrics | None = None
    fault: str = ""


def measure(request: Request) -> Measurement:
    """Run `request` in a fresh process. A model that crashes or hangs the process counts as one that does not load."""
    size = Path(request.model).stat().st_size
    argument = msgspec.json.encode(request).decode()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "optimize.measure", argument],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
        answer = msgspec.json.decode(done.stdout, type=_Answer)
    except subprocess.TimeoutExpired:
        return Measurement(size, None, f"measuring it took longer than {_TIMEOUT_S:.0f} s")
    except subprocess.CalledProcessError as error:
        last_words = error.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return Measurement(size, None, f"the measuring process ended with {error.returncode}: {' '.join(last_words)}")
    except msgspec.DecodeError as error:
        return Measurement(size, None, f"the measuring process gave no answer: {error}")
    return Measurement(size, answer.metrics, answer.fault)


def measure_here(request: Request) -> _Answer:
    """The work itself, in this process."""
    golden = parse(Path(request.golden).read_bytes())
    one = golden.inputs[:1]
    try:
        session = Session(Path(request.model).read_bytes())
        for _ in range(_WARM_UP):
            session(one)
    except LoadError as error:
        return _Answer(fault=str(error))
    rss_mb = peak_rss_bytes() / _MIB
    verdict = check(
        golden.logits[request.golden_logits], session.predict(golden.inputs, batch=1), request.golden_tolerance
    )
    parent = Session(Path(request.parent).read_bytes())
    own, reference = _latencies_ms(session, parent, one)
    examples = load_file(request.examples)
    predicted = session.predict(examples["x"]).argmax(axis=1)
    expected = parent.predict(examples["x"]).argmax(axis=1)
    metrics = Metrics(
        accuracy=float((predicted == examples["y"]).mean()),
        agreement=float((predicted == expected).mean()),
        p50_ms=float(np.percentile(own, 50)),
        p95_ms=float(np.percentile(own, 95)),
        latency_ratio=float(np.percentile(own, 50) / np.percentile(reference, 50)),
        rss_mb=rss_mb,
        golden_worst=min(verdict.worst, float(np.finfo(np.float64).max)),
    )
    return _Answer(metrics=metrics, fault=verdict.reason)


def peak_rss_bytes() -> int:
    """The most memory this process has held. Not `ru_maxrss` where there is a better source: it survives exec, so a
    child of a large parent would report the parent's."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _latencies_ms(session: Session, parent: Session, x: Floats) -> tuple[list[float], list[float]]:
    """Times of single calls. The two take turns in blocks, so that a busy machine slows both alike."""
    own: list[float] = []
    reference: list[float] = []
    for _ in range(_BLOCKS):
        for timed, times in ((session, own), (parent, reference)):
            for _ in range(_BLOCK):
                begin = time.perf_counter()
                timed(x)
                times.append((time.perf_counter() - begin) * 1e3)
    return own, reference


if __name__ == "__main__":
    answer = measure_here(msgspec.json.decode(sys.argv[1], type=Request))
    sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
