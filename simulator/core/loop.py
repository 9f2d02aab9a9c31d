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
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from simulator.core.guard import guarded
from simulator.core.rng import Rng
from wire.ports import SECOND

T = TypeVar("T")

COMPACT_AFTER = 1_000
"""Cancelled timers that are left in the heap before it is rebuilt without them."""
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
        return self.context().run(call, *args)

    def post(self, call: Callable[..., T], *args: object) -> T:
        """As `run`, for a call that does nothing but schedule: it is cheaper, and cannot be nested."""
        if self._home is None:
            self._home = self.context()
        return self._home.run(call, *args)

    def context(self) -> contextvars.Context:
        """A context of this process."""
        context = contextvars.copy_context()
        context.run(_PROCESS.set, self)
        return context


_WORLD = Process("world")
_PROCESS: contextvars.ContextVar[Process] = contextvars.ContextVar("process", default=_WORLD)


def current_process() -> Process:
    """The process whose code is running."""
    return _PROCESS.get()


class Call:
    """A call at a moment. `asyncio.TimerHandle` does the same with more around it."""

    __slots__ = ("_args", "_callback", "_cancelled", "_context", "_loop", "_scheduled")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: "VirtualLoop",
        context: contextvars.Context | None,
    ) -> None:
        self._callback: Callable[..., object] | None = callback
        self._args = args
        self._cancelled = False
        self._context = contextvars.copy_context() if context is None else context
        self._loop = loop
        self._scheduled = True

    def cancel(self) -> None:
        """Do not call."""
        if not self._cancelled:
            self._cancelled = True
            self._callback, self._args = None, ()
            if self._scheduled:
                self._loop._cancelled()

    def _run(self) -> None:
        assert self._callback is not None
        try:
            self._context.run(self._callback, *self._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._loop.call_exception_handler({"message": "a timer failed", "exception": error})


class NumberedTask(asyncio.Task[Any]):
    """A task that hashes by its number: sets of tasks (asyncio keeps some) then iterate in the same order every run."""

    def __init__(self, number: int, coro: Coroutine[Any, Any, Any], loop: "VirtualLoop", **options: Any) -> None:
        self.number = number
        context: contextvars.Context = options.get("context") or contextvars.copy_context()
        self.process = context.get(_PROCESS, _WORLD)
        super().__init__(coro, loop=loop, **options)

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
        self._heap: list[tuple[int, int, Any]] = []
        self._timers = 0
        self._tasks = 0
        self._cancelled_timers = 0
        self._failures: list[BaseException] = []
        self._dead: list[NumberedTask] = []
        self.set_task_factory(self._make_task)

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
    ) -> asyncio.TimerHandle:
        """Schedule by seconds, rounded to the nanosecond."""
        return self._timer(round(when * SECOND), asyncio.TimerHandle(when, callback, args, self, context))

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Schedule by a delay in seconds."""
        when_ns = self.now_ns + round(delay * SECOND)
        return self._timer(when_ns, asyncio.TimerHandle(when_ns / SECOND, callback, args, self, context))

    def call_at_ns(
        self, when_ns: int, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Call:
        """Schedule at a moment in nanoseconds since the start."""
        call = Call(callback, args, self, context)
        self._push(when_ns, call)
        return call

    def _timer(self, when_ns: int, handle: asyncio.TimerHandle) -> asyncio.TimerHandle:
        handle._scheduled = True  # type: ignore[attr-defined]
        self._push(when_ns, handle)
        return handle

    def _push(self, when_ns: int, handle: Any) -> None:
        self._timers += 1
        heapq.heappush(self._heap, (when_ns, self._timers, handle))

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

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self._cancelled()

    def _cancelled(self) -> None:
        self._cancelled_timers += 1
        if self._cancelled_timers > COMPACT_AFTER and self._cancelled_timers * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if not entry[2]._cancelled]
            heapq.heapify(self._heap)
            self._cancelled_timers = 0

    def _process_events(self, event_list: object) -> None:
        """No selector, no events from outside."""

    def _write_to_self(self) -> None:
        """Nobody has to be woken from a wait that does not exist."""

    def _run_once(self) -> None:
        if not self._ready and not self._advance():
            if self._stopping:
                return
            raise DeadlockError(f"nothing is scheduled any more at {self.time():.3f} s, and the run is not done")
        ready = self._ready
        count = len(ready)
        if count == 1:
            _run(ready.popleft())
        else:
            batch = list(ready)
            ready.clear()
            self._rng.shuffle(batch)
            for handle in batch:
                _run(handle)
        if self._failures:
            self._raise_failures()
        self.events += count
        if self.events >= self._collect_at:
            self._collect_at += self._collect_every
            gc.collect()
            gc.freeze()

    def _advance(self) -> bool:
        """Go to the moment of the next timer and make all timers of that moment ready."""
        heap = self._heap
        while heap and heap[0][2]._cancelled:
            heapq.heappop(heap)
            self._cancelled_timers -= 1
        if not heap:
            return False
        self.now_ns = max(self.now_ns, heap[0][0])
        while heap and heap[0][0] <= self.now_ns:
            handle = heapq.heappop(heap)[2]
            handle._scheduled = False
            if handle._cancelled:
                self._cancelled_timers -= 1
            else:
                self._ready.append(handle)
        return True

    def _make_task(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> NumberedTask:
        self._tasks += 1
        return NumberedTask(self._tasks, coro, self, **options)

    def _raise_failures(self) -> None:
        if self._failures:
            first = self._failures[0]
            self._failures.clear()
            raise SimulationError(f"nobody handled {type(first).__name__}: {first}") from first

    def _bury(self) -> None:
        """Close what did not end. It may complain or refuse, and that means nothing: the run is over."""
        left = {task.number: task for task in self._dead}
        left |= {task.number: task for task in asyncio.all_tasks(self) if isinstance(task, NumberedTask)}
        for number in sorted(left):
            left[number]._log_destroy_pending = False  # type: ignore[attr-defined]
            _close(left[number].get_coro())
        self._ready.clear()
        self._heap.clear()
        self._dead.clear()


def _run(handle: Any) -> None:
    """Run what is scheduled, unless it was cancelled or its process is dead."""
    if not handle._cancelled and handle._context.get(_PROCESS, _WORLD).alive:
        handle._run()


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
