"""`python -m optimize.job SPEC.json`: one job as a process of its own.

Standard output carries progress, one JSON object a line, and nothing else; everything that talks is sent to standard
error. The launcher holds the other end of standard input: when it closes, the launcher is gone and so is the job.
Exit codes: 0 done, 1 failed (last line is an `error` event), 2 unusable specification, 3 the launcher went away.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from pathlib import Path
from typing import TextIO

import msgspec

from optimize.origin import Report
from optimize.pipeline import run
from optimize.spec import JobSpec

_ORPHANED = 3

_log = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Run the job whose specification is the file named in `arguments`; returns the exit code."""
    report = reporter(sys.stdout)
    threading.Thread(target=_exit_with_launcher, args=(sys.stdin.fileno(),), name="launcher-watch", daemon=True).start()
    with contextlib.redirect_stdout(sys.stderr):
        try:
            spec: JobSpec = msgspec.json.decode(Path(arguments[0]).read_bytes(), type=JobSpec)
        except (IndexError, OSError, msgspec.DecodeError) as error:
            report("error", message=f"unusable job specification: {error}")
            return 2
        try:
            run(spec, report)
        except Exception as error:
            _log.exception("job failed")
            report("error", message=f"{type(error).__name__}: {error}")
            return 1
    return 0


def reporter(stream: TextIO) -> Report:
    """Progress as JSON lines on `stream`, each `{"event": ..., ...}`, flushed at once."""

    def report(event: str, /, **fields: object) -> None:
        line = msgspec.json.encode({"event": event, **fields}).decode()
        stream.write(line + "\n")
        stream.flush()

    return report


def _exit_with_launcher(stdin: int) -> None:
    """Read until the end of input, then leave at once: there is nobody to clean up for, and files are written anew.

    Not through `sys.stdin`: its lock, held by this thread, would abort the interpreter's own shutdown.
    """
    while os.read(stdin, 1024):
        pass
    os._exit(_ORPHANED)


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    raise SystemExit(main(sys.argv[1:]))
