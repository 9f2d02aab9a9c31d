"""Listens to what the programs log: an exception that a service caught and logged is a defect and fails the run."""

import contextlib
import logging
from collections.abc import Callable, Iterator

PROGRAMS = ("cloud", "edge_agent", "federated")


class Alarm(logging.Handler):
    """Hands every logged exception on."""

    def __init__(self, fail: Callable[[BaseException], None]) -> None:
        super().__init__(logging.ERROR)
        self._fail = fail

    def emit(self, record: logging.LogRecord) -> None:
        """One log record."""
        if record.exc_info and record.exc_info[1] is not None:
            self._fail(record.exc_info[1])


@contextlib.contextmanager
def listening(fail: Callable[[BaseException], None]) -> Iterator[None]:
    """Have `fail` called with every exception that is logged inside."""
    alarm = Alarm(fail)
    for name in PROGRAMS:
        logging.getLogger(name).addHandler(alarm)
    try:
        yield
    finally:
        for name in PROGRAMS:
            logging.getLogger(name).removeHandler(alarm)


@contextlib.contextmanager
def quiet_programs() -> Iterator[None]:
    """Inside, hub and agents log errors only: in a simulated storm their warnings are the weather."""
    loggers = [logging.getLogger(name) for name in (*PROGRAMS, "tuf")]
    levels = [logger.level for logger in loggers]
    if logging.getLogger().level > logging.DEBUG:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
