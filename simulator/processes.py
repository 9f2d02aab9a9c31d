"""Processes that share the work of one program. However that ends, they end with it."""

import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from wire.adapters.parent import end_with_parent


def pool(workers: int, prepare: Callable[[], None] | None = None) -> ProcessPoolExecutor:
    """So many fresh interpreters, each of which calls `prepare` first. Ctrl-C ends them at once."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (prepare,))


def _begin(prepare: Callable[[], None] | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent()
    if prepare is not None:
        prepare()
