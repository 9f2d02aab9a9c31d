"""The canary, in the installer child: load a model that nobody has run on this device, and try its golden vectors."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge_agent.adapters.machine import peak_rss_bytes
from edge_agent.adapters.onnx_runtime import open_session
from edge_agent.errors import brief
from wire.codec import Document
from wire.messages import GoldenResult
from wire.onnx_file import takes_other_files

if TYPE_CHECKING:
    from edge_agent.ports import Floats

TIMED_RUNS = 20
NO_AGREEMENT = 1e9
"""Reported in place of an infinite error, which JSON cannot hold."""


class CanaryOrder(Document, frozen=True, kw_only=True, tag="canary"):
    """What to try. Paths are absolute."""

    model: str
    golden: str
    logits: str
    tolerance: float


class Verdict(Document, frozen=True, kw_only=True):
    """What was seen. `reason` is empty when the model passed."""

    reason: str = ""
    golden: GoldenResult | None = None
    p50_ms: float = 0.0
    rss_bytes: int = 0


def attempt(order: CanaryOrder) -> Verdict:
    """Load the model and run the golden vectors through it. Whatever the file causes is its verdict."""
    try:
        return _attempt(order)
    except Exception as error:  # the file is hostile until proven otherwise
        return Verdict(reason=brief(error))


def _attempt(order: CanaryOrder) -> Verdict:
    import numpy as np

    from wire import golden

    with open(order.golden, "rb") as file:
        vectors = golden.parse(file.read(golden.MAX_GOLDEN_BYTES + 1))
    expected = vectors.logits.get(order.logits)
    if expected is None:
        return Verdict(reason=f"the golden vectors have no tensor {order.logits!r}")
    with open(order.model, "rb") as file:
        if takes_other_files(file.read()):
            return Verdict(reason="the model takes data from other files; a model is one file")
    session = open_session(order.model)
    actual = np.asarray(session.run(["logits"], {"x": vectors.inputs})[0])
    p50_ms = _p50_ms(lambda: session.run(["logits"], {"x": vectors.inputs[:1]}))
    judged = golden.check(expected, actual, order.tolerance)
    seen = GoldenResult(
        matched=_matched(expected, actual, order.tolerance),
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


def _p50_ms(call: Callable[[], object]) -> float:
    times = []
    for _ in range(TIMED_RUNS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return 1_000 * sorted(times)[len(times) // 2]
