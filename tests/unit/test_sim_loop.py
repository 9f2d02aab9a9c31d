"""The virtual loop: time jumps, a seed decides the order, deadlocks and unseen errors end the run, killed is killed."""

import asyncio

import pytest

from simulator.core.clock import EPOCH_NS, VirtualClock
from simulator.core.loop import DeadlockError, Process, SimulationError, VirtualLoop
from simulator.core.rng import Rng
from wire.ports import SECOND


def loop(seed: int = 0) -> VirtualLoop:
    """A fresh loop."""
    return VirtualLoop(Rng(seed, "loop"))


def test_a_day_passes_in_no_time_and_to_the_nanosecond() -> None:
    """The clock says exactly how long it was; a day that had to be waited for would outlast the test's own limit."""
    virtual = loop()
    clock = VirtualClock(virtual)

    async def main() -> tuple[int, int]:
        await clock.sleep(24 * 3600 * SECOND + 1)
        return clock.monotonic_ns(), clock.now_ns()

    assert virtual.run(main()) == (24 * 3600 * SECOND + 1, EPOCH_NS + 24 * 3600 * SECOND + 1)


def test_asyncio_works_unmodified() -> None:
    """Task groups, timeouts, queues and executors behave as on the standard loop."""

    async def main() -> str:
        queue: asyncio.Queue[str] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            group.create_task(queue.put("queued"))
            group.create_task(asyncio.sleep(3))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.sleep(60)
        assert asyncio.get_running_loop().time() == 8
        assert await asyncio.get_running_loop().run_in_executor(None, "inline".upper) == "INLINE"
        return await queue.get()

    assert loop().run(main()) == "queued"


def order_of(seed: int) -> list[int]:
    """In which order ten tasks that are ready at once take their steps."""
    order: list[int] = []

    async def step(number: int) -> None:
        order.append(number)
        await asyncio.sleep(1)
        order.append(number)

    async def main() -> None:
        await asyncio.gather(*(step(number) for number in range(10)))

    loop(seed).run(main())
    return order


def test_the_seed_decides_the_order_of_what_is_ready_at_once() -> None:
    """The same seed repeats it, another one differs."""
    assert order_of(1) == order_of(1)
    assert order_of(1) != order_of(2)
    assert sorted(order_of(1)) == sorted(order_of(2))


def test_waiting_for_what_never_comes_is_a_deadlock() -> None:
    """Nothing is scheduled and the run is not done."""

    async def main() -> None:
        await asyncio.sleep(1)
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match=r"1\.000 s"):
        loop().run(main())


def test_an_exception_nobody_looks_at_fails_the_run() -> None:
    """In a task that was forgotten, and in a plain callback."""

    async def fail() -> None:
        raise ValueError("lost")

    async def forgets() -> None:
        asyncio.create_task(fail())  # noqa: RUF006
        await asyncio.sleep(1)

    async def calls_back() -> None:
        asyncio.get_running_loop().call_later(1, int, "no number")
        await asyncio.sleep(2)

    for main in (forgets, calls_back):
        with pytest.raises(SimulationError, match="nobody handled ValueError"):
            loop().run(main())


def test_a_killed_process_takes_no_step_more() -> None:
    """Its tasks, timers and finally blocks stop where they are; others go on."""
    virtual = loop()
    clock = VirtualClock(virtual)
    steps: list[str] = []

    async def work(name: str) -> None:
        try:
            while True:
                await clock.sleep(SECOND)
                steps.append(name)
        finally:
            steps.append(f"{name} cleaned up")

    def start(name: str) -> asyncio.Task[None]:
        clock.call_later(5 * SECOND, lambda: steps.append(f"{name} timer"))
        return virtual.create_task(work(name))

    async def main() -> None:
        doomed, spared = Process("doomed"), Process("spared")
        tasks = [process.run(start, process.name) for process in (doomed, spared)]
        await clock.sleep(2 * SECOND + 1)
        virtual.kill(doomed)
        await clock.sleep(4 * SECOND)
        tasks[1].cancel()

    virtual.run(main())
    del steps[-1]
    assert steps.count("doomed") == 2
    assert steps.count("spared") == 6
    assert "spared timer" in steps
    assert not {"doomed timer", "doomed cleaned up"} & set(steps)
