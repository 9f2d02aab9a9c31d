"""Errors of the wire contract. All of them are the peer's fault: what arrived is not what the contract allows."""


class WireError(Exception):
    """Base of everything this package raises on received data."""


class MalformedError(WireError):
    """The bytes do not form the document they claim to be."""


class OversizeError(WireError):
    """The document is larger than the contract allows."""


class SignatureError(WireError):
    """No signature by a trusted key covers these bytes."""


class UnknownSignerError(SignatureError):
    """Only keys that are not trusted (yet) have signed these bytes."""


class TopicError(WireError):
    """The topic is not part of the contract."""
