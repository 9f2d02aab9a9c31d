"""A child that judges models until one kills it, and is then replaced; its lines are read as the daemon reads them."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from edge_agent.adapters.child import _environment, _signal_name
from edge_agent.canary import Verdict
from edge_agent.installer import Order
from edge_agent.rehearsal import RehearsalOrder, Rehearsed
from wire.codec import decode, encode
from wire.errors import WireError

START_LIMIT_S = 60.0
RENEWED_AFTER = 1_000
"""Models after which a child is replaced anyway, as its memory only grows."""


Said = Verdict | Rehearsed


class Gate:
    """One child at a time. `starts` counts them."""

    def __init__(self, time_limit_s: float) -> None:
        self._time_limit_s = time_limit_s
        self._child: subprocess.Popen[bytes] | None = None
        self._judged = 0
        self.starts = 0

    def judge(self, order: Order) -> tuple[Said, int]:
        """The verdict as the daemon would read it, and the signal that ended the child: 0 = none, -1 = too slow."""
        child = self._living()
        assert child.stdin is not None
        assert child.stdout is not None
        first = self._judged == 0
        self._judged += 1
        try:
            child.stdin.write(encode(order) + b"\n")
            child.stdin.flush()
        except BrokenPipeError:
            return self._dead(child)
        line = _line(child.stdout.fileno(), START_LIMIT_S if first else self._time_limit_s)
        if line is None:
            child.kill()
            child.wait()
            self._child = None
            return Verdict(reason=f"not done after {self._time_limit_s:g} s"), -1
        return (_read(line, order), 0) if line.endswith(b"\n") else self._dead(child)

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def _living(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._judged >= RENEWED_AFTER:
            self.close()
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "bench.damaged_models.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                start_new_session=True,
            )
            self._judged = 0
            self.starts += 1
        return self._child

    def _dead(self, child: subprocess.Popen[bytes]) -> tuple[Said, int]:
        child.communicate()
        self._child = None
        number = -min(0, child.returncode)
        end = f"was killed by {_signal_name(number)}" if number else f"failed with exit code {child.returncode}"
        return Verdict(reason=f"the installer child {end}"), number


def _read(line: bytes, order: Order) -> Said:
    try:
        return decode(line, Rehearsed) if isinstance(order.what, RehearsalOrder) else decode(line, Verdict)
    except WireError as error:
        return Verdict(reason=f"the installer child gave no verdict: {error}")


@contextmanager
def gate(time_limit_s: float) -> Iterator[Gate]:
    """A gate that leaves no child behind."""
    one = Gate(time_limit_s)
    try:
        yield one
    finally:
        one.close()


def _line(descriptor: int, limit_s: float) -> bytes | None:
    """A line, or what came before the end of the stream; None when the time is over."""
    data, deadline = b"", time.monotonic() + limit_s
    while not data.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            return None
        piece = os.read(descriptor, 1 << 16)
        if not piece:
            return data
        data += piece
    return data
