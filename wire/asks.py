"""What a device asks the cloud, and the answers. Either may be lost or repeated: asking again is harmless.

An answer carries the id of its question, so one that is stale or meant for another question is told apart. Nothing here
is trusted because of where it came from: metadata, time and certificates carry their own signatures.
"""

from typing import Annotated

import msgspec

from wire.codec import SCHEMA, Document
from wire.release import Name, Sha256

MAX_PIECE_BYTES = 24 * 1024
"""Most metadata bytes in one answer: base64 and its envelope stay far below the limit of a control document."""

MetadataName = Annotated[str, msgspec.Meta(pattern=r"^([1-9][0-9]{0,18}\.)?[A-Za-z0-9%._~-]{1,100}\.json$")]
"""A role's name as in a URL, percent-encoded: no slash can stand in it."""
AskId = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Nonce = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
RoleName = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9-]{0,39}$")]
Pem = Annotated[str, msgspec.Meta(min_length=1, max_length=8192)]


class AskMetadata(Document, frozen=True, kw_only=True, tag="metadata"):
    """A piece of a trust metadata file, from byte `offset` on."""

    name: MetadataName
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0


class Holding(Document, frozen=True, kw_only=True):
    """Which trust metadata the asker holds, and what it is about to ask of it."""

    versions: Annotated[dict[RoleName, int], msgspec.Meta(max_length=64)] = {}
    """Role -> version; of roots the newest."""
    paths: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=256)], ...], msgspec.Meta(max_length=16)] = ()
    """Targets."""


class AskTime(Document, frozen=True, kw_only=True, tag="time"):
    """What time is it? The answer is signed together with the nonce."""

    nonce: Nonce
    holding: Holding | msgspec.UnsetType = msgspec.UNSET
    """Where metadata is to be judged: what is newer may be sent along."""


class AskChunks(Document, frozen=True, kw_only=True, tag="chunks"):
    """These chunks of an object, sent to this device alone: for what the broker does not retain."""

    sha256: Sha256
    indices: Annotated[tuple[int, ...], msgspec.Meta(min_length=1, max_length=64)]


class AskRenewal(Document, frozen=True, kw_only=True, tag="renewal"):
    """A certificate for the key in this signing request (PEM)."""

    csr: Pem


class Ask(Document, frozen=True, kw_only=True):
    """One question."""

    schema: int = SCHEMA
    id: AskId
    what: AskMetadata | AskTime | AskChunks | AskRenewal


class MetadataPiece(Document, frozen=True, kw_only=True, tag="metadata"):
    """Bytes `offset` to `offset + len(data)` of a file of `total` bytes; `found` is false when there is none."""

    found: bool
    total: Annotated[int, msgspec.Meta(ge=0)] = 0
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0
    data: bytes = b""


class TimeTold(Document, frozen=True, kw_only=True, tag="time"):
    """A DSSE envelope over a `SignedTime`, by the director."""

    envelope: bytes
    files: Annotated[dict[MetadataName, bytes | None], msgspec.Meta(max_length=64)] | msgspec.UnsetType = msgspec.UNSET
    """Metadata that the asker lacks, as far as there was room; None: there is no such file. As good as any answer to
    `AskMetadata`, and believed as little."""


class Renewed(Document, frozen=True, kw_only=True, tag="renewal"):
    """The new certificate (PEM)."""

    certificate: Pem


class Refused(Document, frozen=True, kw_only=True, tag="refused"):
    """The question was understood and the answer is no."""

    reason: Annotated[str, msgspec.Meta(max_length=500)]


class Answer(Document, frozen=True, kw_only=True):
    """The answer to the question `id`. `AskChunks` is answered by the chunks themselves, or by `Refused`."""

    schema: int = SCHEMA
    id: AskId
    what: MetadataPiece | TimeTold | Renewed | Refused


class SignedTime(Document, frozen=True, kw_only=True):
    """The director's clock, for one device and one question."""

    schema: int = SCHEMA
    device: Name
    nonce: Nonce
    now_ns: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
