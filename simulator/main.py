"""Silence for the programs that are simulated."""

import contextlib
import logging
from collections.abc import Iterator

from simulator.alarm import PROGRAMS


@contextlib.contextmanager
def quiet_programs() -> Iterator[None]:
    """Inside, hub and agents log errors only: in a simulated storm their warnings are the weather."""
    loggers = [logging.getLogger(name) for name in PROGRAMS]
    levels = [logger.level for logger in loggers]
    if logging.getLogger().level > logging.DEBUG:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
