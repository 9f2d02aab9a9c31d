"""Following something at the hub to its end, for `watch`: a hub that is away for a while is waited for."""

import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator

from fleetloop.client import HubError, Json

AGAIN_S, MOST_S = 1.0, 30.0
"""A hub that is away is asked again after the first, then ever more seldom."""


def followed(ask: Callable[[], Iterable[Json]], ended: Collection[str]) -> Iterator[Json]:
    """Every view that `ask` yields, asked again and again, until one has a state that is in `ended`.

    A hub that is away or busy is waited for once it has answered at all. Raises HubError.
    """
    answered, wait_s = False, AGAIN_S
    while True:
        try:
            for view in ask():
                answered, wait_s = True, AGAIN_S
                yield view
                if view["state"] in ended:
                    return
        except HubError as error:
            if not (error.passing and answered):
                raise
            wait_s = max(wait_s, error.retry_after_s)
            print(f"fleetloop: {error}; asking again in {wait_s:g} s", file=sys.stderr)
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, MOST_S)
