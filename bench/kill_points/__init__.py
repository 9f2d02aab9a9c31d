"""Kill points: the real agent process, killed or denied its disk at one system call, started again, and judged.

`hub` is the far side on a real broker, `agent` the process with or without strace around it, `calls` what strace saw it
do to its data directory, `points` which of those calls are tried, `judge` what must hold, `trial` one point from
beginning to end.
"""
