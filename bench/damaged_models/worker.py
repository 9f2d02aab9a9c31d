"""`python -m bench.damaged_models.worker`: the installer's own judgement, one model after the other.

A fresh child per model costs a quarter of a second, most of it imports; this one lives until a model kills it.
"""

import sys

from edge_agent.installer import Request, _limit, attempt
from wire.codec import decode, encode


def main() -> None:
    """Requests come as lines of JSON, the first of which sets the limits; verdicts go out the same way."""
    limited = False
    for line in sys.stdin.buffer:
        request = decode(line, Request)
        if not limited:
            _limit(request)
            limited = True
        sys.stdout.buffer.write(encode(attempt(request)) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
