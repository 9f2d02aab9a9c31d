"""A deterministic asyncio loop: time jumps to the next timer, and a seed decides the order of what is ready at once.

Unmodified asyncio code runs on it (tasks, TaskGroup, timeouts, queues). Threads cannot: executors run inline as one
event, and sockets, subprocesses and signals raise NotImplementedError. A run that waits for something that nobody will
ever do is a deadlock and raises; so does an exception that no task's owner looked at.

Work belongs to a `Process` through its context. Killing a process is what a power cut is: none of its callbacks, timers
or tasks takes one step more, and no `finally` runs.
"""

import asyncio
import contextvars
import gc
import heapq
import logging
import warnings
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from simulator.core.guard import guarded
from simulator.core.rng import Rng
from wire.ports import SECOND

T = TypeVar("T")

COMPACT_FROM = 1_000
"""The heap is rebuilt without its cancelled calls when it is twice as long as it was then, and so long at least."""
COLLECT_EVERY = 500_000
"""Events between garbage collections: at fixed points, because finalizers must not run at a random moment.

What was there before the run is frozen meanwhile: it is none of the run's business, and looking at all of it takes
longer than a short run (with torch loaded, it is a million objects). What outlives a collection is frozen, too: most of
it is the fleet."""

MAX_CLOSES = 10


class SimulationError(Exception):
    """The run cannot go on, or something in it failed that nobody looked at."""


class DeadlockError(SimulationError):
    """Something is awaited, and nothing is scheduled that could ever bring it."""


class Process:
    """A program of the simulation. Everything started inside `run` belongs to it."""

    __slots__ = ("_home", "alive", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self._home: contextvars.Context | None = None

    def run(self, call: Callable[..., T], *args: object) -> T:
        """Call `call` so that whatever it schedules belongs to this process."""
        return self._context().run(call, *args)

    @property
    def home(self) -> contextvars.Context:
        """A context of this process for what the loop calls on its behalf, always the same one: it cannot be nested."""
        if self._home is None:
            self._home = self._context()
        return self._home

    def _context(self) -> contextvars.Context:
        context = contextvars.copy_context()
        context.run(_PROCESS.set, self)
        return context


_WORLD = Process("world")
_PROCESS: contextvars.ContextVar[Process] = contextvars.ContextVar("process", default=_WORLD)


def current_process() -> Process:
    """The process whose code is running."""
    return _PROCESS.get()


class Call(list[Any]):
    """A call at a moment: [nanoseconds, number, what is called or None, its arguments, its context].

    A list, because the heap compares lists without running a line of Python. It stands where asyncio has its handles.
    """

    __slots__ = ()

    def cancel(self) -> None:
        """Do not call."""
        self[2:] = None, (), None

    def cancelled(self) -> bool:
        """Will it not be called?"""
        return self[2] is None

    def when(self) -> float:
        """Seconds since the start."""
        return float(self[0] / SECOND)


class NumberedTask(asyncio.Task[Any]):
    """A task that hashes by its number: sets of tasks (asyncio keeps some) then iterate in the same order every run."""

    __slots__ = ("number", "process")

    def __init__(
        self,
        number: int,
        coro: Coroutine[Any, Any, Any],
        loop: "VirtualLoop",
        name: str,
        context: contextvars.Context | None,
    ) -> None:
        self.number = number
        self.process = _PROCESS.get() if context is None else context.get(_PROCESS, _WORLD)
        super().__init__(coro, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self.number


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop. `events` counts the callbacks that ran, `now_ns` is nanoseconds since the start."""

    _ready: deque[Any]
    _stopping: bool

    def __init__(self, rng: Rng, collect_every: int = COLLECT_EVERY) -> None:
        super().__init__()
        self._collect_every = self._collect_at = collect_every
        self.now_ns = 0
        self.events = 0
        self._rng = rng
        self._heap: list[Call] = []
        self._compact_at = COMPACT_FROM
        self._calls = 0
        self._tasks = 0
        self._failures: list[BaseException] = []
        self._dead: list[NumberedTask] = []

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` to its end and close the loop.

        Raises:
            DeadlockError: nothing is left that could happen, and `main` is not done.
            SimulationError: a callback or task failed and nobody retrieved its exception; that is the cause.
        """
        was_enabled = gc.isenabled()
        gc.freeze()
        gc.disable()
        try:
            with guarded():
                result = self.run_until_complete(main)
            gc.collect()
            self._raise_failures()
            return result
        finally:
            self._bury()
            self.close()
            gc.unfreeze()
            if was_enabled:
                gc.enable()

    def kill(self, process: Process) -> None:
        """Nothing of `process` runs any more. Its tasks are kept: collecting a coroutine would run its `finally`."""
        process.alive = False
        for task in asyncio.all_tasks(self):
            if isinstance(task, NumberedTask) and task.process is process:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                self._dead.append(task)

    # What asyncio asks of a loop.

    def time(self) -> float:
        """Seconds since the start."""
        return self.now_ns / SECOND

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Call:
        """Schedule by seconds, rounded to the nanosecond."""
        return self.call_at_ns(round(when * SECOND), callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Call:
        """Schedule by a delay in seconds."""
        return self.call_at_ns(self.now_ns + round(delay * SECOND), callback, *args, context=context)

    def call_at_ns(
        self, when_ns: int, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Call:
        """Schedule at a moment in nanoseconds since the start."""
        self._calls += 1
        if context is None:
            context = contextvars.copy_context()
        call = Call((when_ns, self._calls, callback, args, context))
        heapq.heappush(self._heap, call)
        if len(self._heap) > self._compact_at:
            self._compact()
        return call

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Call:
        """Schedule for the next turn."""
        if context is None:
            context = contextvars.copy_context()
        call = Call((self.now_ns, 0, callback, args, context))
        self._ready.append(call)
        return call

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: contextvars.Context | None = None
    ) -> NumberedTask:
        """Schedule the first step of a coroutine."""
        self._tasks += 1
        return NumberedTask(self._tasks, coro, self, name or f"task {self._tasks}", context)

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run inline, as one event: the result is there at the next turn and no virtual time passes."""
        future: asyncio.Future[T] = self.create_future()
        self.call_soon(_run_inline, future, func, args)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """There is none."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Whatever nobody handled ends the run."""
        task = context.get("task") or context.get("future")
        if isinstance(task, NumberedTask) and not task.process.alive:
            return
        error = context.get("exception")
        self.fail(error if isinstance(error, BaseException) else SimulationError(context["message"]))

    def fail(self, error: BaseException) -> None:
        """End the run with `error` after the events of this moment."""
        self._failures.append(error)

    def _compact(self) -> None:
        self._heap[:] = [call for call in self._heap if call[2] is not None]
        heapq.heapify(self._heap)
        self._compact_at = max(COMPACT_FROM, 2 * len(self._heap))

    def _process_events(self, event_list: object) -> None:
        """No selector, no events from outside."""

    def _write_to_self(self) -> None:
        """Nobody has to be woken from a wait that does not exist."""

    def _run_once(self) -> None:
        """Turn after turn, until somebody stops the loop."""
        ready = self._ready
        while not self._stopping:
            turn: Sequence[Call]
            if not ready:
                turn = self._next_moment()
            elif len(ready) == 1:
                turn = (ready.popleft(),)
            else:
                turn = list(ready)
                ready.clear()
                self._rng.shuffle(turn)
            for _, _, callback, args, context in turn:
                if callback is not None and context.get(_PROCESS, _WORLD).alive:
                    try:
                        context.run(callback, *args)
                    except (SystemExit, KeyboardInterrupt):
                        raise
                    except BaseException as error:
                        self.call_exception_handler({"message": "a callback failed", "exception": error})
            self.events += len(turn)
            if self._failures:
                self._raise_failures()
            if self.events >= self._collect_at:
                self._collect()

    def _next_moment(self) -> Sequence[Call]:
        """Go to the moment of the next call: everything that is due then."""
        heap, pop = self._heap, heapq.heappop
        while heap:
            call = pop(heap)
            if call[2] is not None:
                break
        else:
            raise DeadlockError(f"nothing is scheduled any more at {self.time():.3f} s, and the run is not done")
        now_ns = self.now_ns = max(self.now_ns, call[0])
        if not heap or heap[0][0] > now_ns:
            return (call,)
        calls = [call]
        while heap and heap[0][0] <= now_ns:
            calls.append(pop(heap))
        calls = [call for call in calls if call[2] is not None]
        self._rng.shuffle(calls)
        return calls

    def _collect(self) -> None:
        self._collect_at += self._collect_every
        gc.collect()
        gc.freeze()

    def _raise_failures(self) -> None:
        if self._failures:
            first = self._failures[0]
            self._failures.clear()
            raise SimulationError(f"nobody handled {type(first).__name__}: {first}") from first

    def _bury(self) -> None:
        """Close what did not end. It may complain or refuse, and that means nothing: the run is over."""
        left = {task.number: task for task in self._dead}
        left |= {task.number: task for task in asyncio.all_tasks(self) if isinstance(task, NumberedTask)}
        logging.disable(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # what a `finally` would have awaited is not
            for number in sorted(left):
                left[number]._log_destroy_pending = False  # type: ignore[attr-defined]
                _close(left[number].get_coro())
        logging.disable(logging.NOTSET)
        self._ready.clear()
        self._heap.clear()
        self._dead.clear()


def _close(coroutine: Any) -> None:
    """Throw GeneratorExit into the coroutine until it gives in; a `finally` that awaits takes several times."""
    for _ in range(MAX_CLOSES):
        try:
            coroutine.close()
        except (Exception, BaseExceptionGroup):  # noqa: S112
            continue
        return


def _run_inline(future: asyncio.Future[T], func: Callable[..., T], args: tuple[Any, ...]) -> None:
    if future.cancelled():
        return
    try:
        future.set_result(func(*args))
    except Exception as error:
        future.set_exception(error)
