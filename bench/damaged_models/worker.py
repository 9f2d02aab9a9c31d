"""`python -m bench.damaged_models.worker`: the installer's own judgement, one model after the other.

A fresh child per model costs a quarter of a second, most of it imports; this one lives until a model kills it.
"""

import sys

from edge_agent.installer import Order, carry_out, limit
from wire.codec import decode, encode


def main() -> None:
    """Orders come as lines of JSON, the first of which sets the limits; verdicts go out the same way."""
    limited = False
    for line in sys.stdin.buffer:
        order = decode(line, Order)
        if not limited:
            limit(order.limits)
            limited = True
        sys.stdout.buffer.write(encode(carry_out(order.what)) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
