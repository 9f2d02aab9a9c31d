"""Tries models in the installer child. Whatever becomes of it is a verdict with its reason."""

import time
from collections.abc import Callable

from edge_agent.adapters.child import COMMAND, NoVerdictError, run_child
from edge_agent.canary import CanaryOrder, Verdict
from edge_agent.installer import Limits, Order
from edge_agent.ports import CanaryRequest, CanaryVerdict
from wire.codec import MAX_CONTROL_BYTES, decode
from wire.errors import WireError


class ChildInstaller:
    """Implements `edge_agent.ports.Installer`."""

    def __init__(self, locate: Callable[[str], str], command: tuple[str, ...] = COMMAND) -> None:
        self._locate = locate
        self._command = command

    async def canary(self, request: CanaryRequest) -> CanaryVerdict:
        """Try the model in a fresh process."""
        began = time.monotonic()
        try:
            verdict = await self._run(request)
        except NoVerdictError as error:
            verdict = Verdict(reason=str(error))
        return CanaryVerdict(
            reason=verdict.reason,
            golden=verdict.golden,
            p50_ms=verdict.p50_ms,
            rss_bytes=verdict.rss_bytes,
            seconds=time.monotonic() - began,
        )

    async def _run(self, request: CanaryRequest) -> Verdict:
        what = CanaryOrder(
            model=self._locate(request.model),
            golden=self._locate(request.golden),
            logits=request.logits,
            tolerance=request.tolerance,
        )
        order = Order(limits=Limits(cpu_s=max(1, int(request.time_limit_s))), what=what)
        said: list[bytes] = []

        async def take(line: bytes) -> None:
            said.append(line)

        await run_child(self._command, order, request.time_limit_s, take, MAX_CONTROL_BYTES)
        try:
            verdict = decode(said[0], Verdict)
        except WireError as error:
            raise NoVerdictError(f"the installer child gave no verdict: {error}") from error
        if not verdict.reason and verdict.golden is None:
            raise NoVerdictError("the installer child gave no golden result")
        return verdict
