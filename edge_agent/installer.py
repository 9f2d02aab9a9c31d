"""The installer child: `python -m edge_agent.installer`, one request as JSON on stdin, one verdict as JSON on stdout.

It loads a model that nobody has run on this device yet, under resource limits, and compares it with its golden
vectors. Whatever the file does to this process, the daemon only sees a verdict, or that there was none.
"""

import resource
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import msgspec

from edge_agent import unpack
from edge_agent.adapters.machine import peak_rss_bytes
from edge_agent.adapters.onnx_runtime import open_session
from wire.codec import Document, decode, encode
from wire.errors import WireError
from wire.messages import GoldenResult

if TYPE_CHECKING:
    from edge_agent.ports import Floats

TIMED_RUNS = 20
NO_AGREEMENT = 1e9
"""Reported in place of an infinite error, which JSON cannot hold."""


class Request(Document, frozen=True, kw_only=True, tag="canary"):
    """What to try. Paths are absolute."""

    model: str
    golden: str
    logits: str
    tolerance: float


class Limits(Document, frozen=True, kw_only=True):
    """What the process may use."""

    cpu_s: Annotated[int, msgspec.Meta(ge=1)]
    address_space_bytes: Annotated[int, msgspec.Meta(ge=1)] = 2 * 1024**3
    file_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Length of the longest file that it may write."""


class Order(Document, frozen=True, kw_only=True):
    """What to do, and within which limits."""

    limits: Limits
    what: Request | unpack.UnpackOrder


class Verdict(Document, frozen=True, kw_only=True):
    """What was seen. `reason` is empty when the model passed."""

    reason: str = ""
    golden: GoldenResult | None = None
    p50_ms: float = 0.0
    rss_bytes: int = 0


def main() -> int:
    """Read the request, try the model, write the verdict. Exit code 2: the request was not one."""
    try:
        request = decode(sys.stdin.buffer.read(), Order)
    except WireError as error:
        print(error, file=sys.stderr)
        return 2
    _limit(request.limits)
    done = unpack.attempt(request.what) if isinstance(request.what, unpack.UnpackOrder) else attempt(request.what)
    sys.stdout.buffer.write(encode(done))
    return 0


def attempt(request: Request) -> Verdict:
    """Load the model and run the golden vectors through it. Whatever the file causes is its verdict."""
    try:
        return _attempt(request)
    except Exception as error:  # the file is hostile until proven otherwise
        lines = str(error).splitlines()
        return Verdict(reason=f"{type(error).__name__}: {lines[0][:300] if lines else 'no reason given'}")


def _attempt(request: Request) -> Verdict:
    import numpy as np

    from wire import golden

    with open(request.golden, "rb") as file:
        vectors = golden.parse(file.read(golden.MAX_GOLDEN_BYTES + 1))
    expected = vectors.logits.get(request.logits)
    if expected is None:
        return Verdict(reason=f"the golden vectors have no tensor {request.logits!r}")
    session = open_session(request.model)
    actual = np.asarray(session.run(["logits"], {"x": vectors.inputs})[0])
    p50_ms = _p50_ms(lambda: session.run(["logits"], {"x": vectors.inputs[:1]}))
    judged = golden.check(expected, actual, request.tolerance)
    seen = GoldenResult(
        matched=_matched(expected, actual, request.tolerance),
        total=len(expected),
        max_error=min(judged.worst, NO_AGREEMENT),
    )
    return Verdict(reason=judged.reason, golden=seen, p50_ms=p50_ms, rss_bytes=peak_rss_bytes())


def _matched(expected: "Floats", actual: "Floats", tolerance: float) -> int:
    """Inputs that get the right class with every logit within `tolerance` of the whole range."""
    import numpy as np

    if actual.shape != expected.shape:
        return 0
    bound = tolerance * float(expected.max() - expected.min())
    near = (np.abs(actual - expected) <= bound).all(axis=1)
    return int((near & (actual.argmax(axis=1) == expected.argmax(axis=1))).sum())


def _limit(limits: Limits) -> None:
    """The model may use memory and time, but write nothing and open little."""
    for what, most in (
        (resource.RLIMIT_AS, limits.address_space_bytes),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (bound, bound))


def _p50_ms(call: Callable[[], object]) -> float:
    times = []
    for _ in range(TIMED_RUNS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return 1_000 * sorted(times)[len(times) // 2]


if __name__ == "__main__":
    sys.exit(main())
