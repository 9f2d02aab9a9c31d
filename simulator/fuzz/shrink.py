"""Delta debugging: of the steps of a life that fails, the few without which it would not.

Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (2002): ddmin, down to single steps.
"""

from collections.abc import Callable, Sequence


def shrink(steps: Sequence[int], fails: Callable[[Sequence[int]], bool]) -> tuple[int, ...]:
    """A part of `steps` that still fails, of which no single one can be left out. `fails(steps)` must hold."""
    kept, pieces = list(steps), 2
    while kept:
        size = -(-len(kept) // pieces)
        for start in range(0, len(kept), size):
            fewer = kept[:start] + kept[start + size :]
            if fails(fewer):
                kept, pieces = fewer, max(2, pieces - 1)
                break
        else:
            if size == 1:
                break
            pieces = min(len(kept), 2 * pieces)
    return tuple(kept)
