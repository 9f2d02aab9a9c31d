"""The hub's own errors, split by whose fault it is. `cloud.api.problems` maps each to one HTTP status."""


class HubError(Exception):
    """Base: a request that cannot be fulfilled; the message says why and what to do."""


class InvalidError(HubError):
    """The request makes no sense as it is (422)."""


class UnknownError(HubError):
    """What the request names does not exist (404)."""


class ConflictError(HubError):
    """The request contradicts how things stand (409)."""


class TooLongError(HubError):
    """The body is longer than it may be (413)."""


class UnavailableError(HubError):
    """The hub itself lacks what it needs for this: room, a file, a helper (503)."""


class UnauthorisedError(HubError):
    """No valid key came with the request (401)."""


class ForbiddenError(HubError):
    """The key may not do this (403)."""


class PreconditionError(HubError):
    """The resource is no longer what the caller believes it is (412)."""


class TooManyError(HubError):
    """The caller goes too fast (429); after `retry_after_s` seconds it may go on."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BusyError(HubError):
    """The hub has as much to do as it can (503); after `retry_after_s` seconds there may be room."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoreError(HubError):
    """The database cannot be opened or reached now. What was to be changed has to be tried again (503)."""
