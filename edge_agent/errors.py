"""Errors of the device, split by whose fault it is: the cloud's (`RefusedError`), the environment's, the caller's."""


def brief(error: Exception) -> str:
    """The kind of somebody else's error and the first line of what it says, at most 300 characters of it."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no reason given'}"


class AgentError(Exception):
    """Base of every error this package raises."""


class RefusedError(AgentError):
    """What the cloud sent was checked and is not acceptable; the message says why."""


class UnknownDirectorError(RefusedError):
    """A key signed it that the newest verified root does not name as a director's."""


class SettingsError(AgentError):
    """The device is configured with something that cannot be used; the message says with what."""


class EnrolmentError(AgentError):
    """The device could not get an identity; the message says what to do."""


class DiskError(AgentError):
    """The storage failed an operation."""


class FileMissingError(DiskError):
    """No such file."""


class DiskFullError(DiskError):
    """There is no room for what was to be written."""


class DiskBusyError(DiskError):
    """The system is short of something for now, such as open files: that says nothing of the file."""


class DamagedRecordError(AgentError):
    """A record of our own cannot be read back."""


class NewerRecordError(DamagedRecordError):
    """It is whole, and an agent of a later version wrote it: that version has to be installed again."""


class TransferError(AgentError):
    """An object did not arrive."""


class TransferStalledError(TransferError):
    """Nothing useful came for as long as the execution allows."""


class ModelError(AgentError):
    """A runtime could not load or run a model."""


class RequestError(AgentError):
    """The application asked for something impossible. `status` is the HTTP status that says so."""

    status = 400


class NoModelError(RequestError):
    """There is no model to answer with yet."""

    status = 503


class PredictionFailedError(RequestError):
    """Every model that could have answered failed to."""

    status = 500


class UnknownPredictionError(RequestError):
    """Feedback for an id that is not, or no longer, known."""

    status = 404


class FeedbackGivenError(RequestError):
    """Feedback for this id was given before; the first one counts."""

    status = 409


class UnjudgedError(AgentError):
    """Trust metadata could not be judged here: the disk, the memory or the child failed."""


class UnansweredError(AgentError):
    """The cloud did not answer a question in time."""
