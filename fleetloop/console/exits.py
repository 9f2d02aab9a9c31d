"""What the exit code of a command says, so that scripts need not read its words."""

from enum import IntEnum

from fleetloop.client import HubError


class Exit(IntEnum):
    """The codes."""

    DONE = 0
    FAILED = 1
    """The hub has a defect, or what was watched did not end well."""
    USAGE = 2
    """The command or what it asks for makes no sense (422)."""
    UNREACHABLE = 3
    """No answer: asking again later may help."""
    DENIED = 4
    """The API key is not good, or not good enough (401, 403)."""
    UNKNOWN = 5
    """What was named does not exist (404)."""
    CONFLICT = 6
    """It contradicts how things stand (409, 412)."""
    TOO_FAST = 7
    """Wait, then go on (429)."""
    DIFFERS = 8
    """`plan`: the fleet is not as the file says."""


_BY_STATUS = {
    0: Exit.UNREACHABLE,
    401: Exit.DENIED,
    403: Exit.DENIED,
    404: Exit.UNKNOWN,
    409: Exit.CONFLICT,
    412: Exit.CONFLICT,
    422: Exit.USAGE,
    429: Exit.TOO_FAST,
}


def exit_of(error: HubError) -> Exit:
    """The code for what the hub said."""
    return _BY_STATUS.get(error.status, Exit.FAILED)
