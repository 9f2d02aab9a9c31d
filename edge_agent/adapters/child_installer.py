"""Models, deltas and training graphs go to the installer child. Whatever becomes of it is a verdict with its reason."""

import time
from collections.abc import Callable
from typing import TypeVar

from edge_agent.adapters.child import COMMAND, NoVerdictError, run_child
from edge_agent.canary import CanaryOrder, Verdict
from edge_agent.installer import Limits, Order
from edge_agent.ports import CanaryRequest, CanaryVerdict, RehearsalRequest, UnpackRequest
from edge_agent.rehearsal import RehearsalOrder, Rehearsed
from edge_agent.unpack import Unpacked, UnpackOrder, address_space_bytes
from wire.codec import MAX_CONTROL_BYTES, decode
from wire.errors import WireError

Told = TypeVar("Told", Verdict, Unpacked, Rehearsed)


class ChildInstaller:
    """Implements `edge_agent.ports.Installer`."""

    def __init__(self, locate: Callable[[str], str], command: tuple[str, ...] = COMMAND) -> None:
        self._locate = locate
        self._command = command

    async def canary(self, request: CanaryRequest) -> CanaryVerdict:
        """Try the model in a fresh process."""
        began = time.monotonic()
        try:
            verdict = await self._try(request)
        except NoVerdictError as error:
            verdict = Verdict(reason=str(error))
        return CanaryVerdict(
            reason=verdict.reason,
            golden=verdict.golden,
            p50_ms=verdict.p50_ms,
            rss_bytes=verdict.rss_bytes,
            seconds=time.monotonic() - began,
        )

    async def unpack(self, request: UnpackRequest) -> str:
        """Unpack a delta in a fresh process."""
        what = UnpackOrder(
            base=self._locate(request.base),
            delta=self._locate(request.delta),
            target=self._locate(request.target),
            length=request.length,
        )
        limits = Limits(
            cpu_s=max(1, int(request.time_limit_s)),
            address_space_bytes=address_space_bytes(request.base_bytes, request.length),
            file_bytes=request.length,
        )
        try:
            unpacked = await self._verdict(Order(limits=limits, what=what), request.time_limit_s, Unpacked)
        except NoVerdictError as error:
            return str(error)
        return unpacked.reason

    async def rehearse(self, request: RehearsalRequest) -> str:
        """Learn a little in a fresh process."""
        what = RehearsalOrder(
            train_step=self._locate(request.train_step),
            eval=self._locate(request.eval),
            learning=request.learning,
            input=request.input,
            classes=request.classes,
        )
        order = Order(limits=Limits(cpu_s=max(1, int(request.time_limit_s))), what=what)
        try:
            return (await self._verdict(order, request.time_limit_s, Rehearsed)).reason
        except NoVerdictError as error:
            return str(error)

    async def _try(self, request: CanaryRequest) -> Verdict:
        what = CanaryOrder(
            model=self._locate(request.model),
            golden=self._locate(request.golden),
            logits=request.logits,
            tolerance=request.tolerance,
        )
        order = Order(limits=Limits(cpu_s=max(1, int(request.time_limit_s))), what=what)
        verdict = await self._verdict(order, request.time_limit_s, Verdict)
        if not verdict.reason and verdict.golden is None:
            raise NoVerdictError("the installer child gave no golden result")
        return verdict

    async def _verdict(self, order: Order, time_limit_s: float, kind: type[Told]) -> Told:
        said: list[bytes] = []

        async def take(line: bytes) -> None:
            said.append(line)

        await run_child(self._command, order, time_limit_s, take, MAX_CONTROL_BYTES)
        try:
            return decode(said[0], kind)
        except WireError as error:
            raise NoVerdictError(f"the installer child gave no verdict: {error}") from error
