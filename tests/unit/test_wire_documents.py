"""Control documents: unknown fields, wrong types, truncation and excess size are refused, and the reason names them."""

import pytest

from wire.assignment import Assignment, Execution, SlotAssignment
from wire.codec import MAX_ASSIGNMENT_BYTES, decode, encode
from wire.errors import MalformedError, OversizeError
from wire.messages import Status
from wire.release import ObjectRef, object_ref

REF = object_ref(b"release")
SLOT = SlotAssignment(
    slot="main",
    model="m",
    version=1,
    variant="int8",
    sha256=REF.sha256,
    release=REF.brief(),
    execution=Execution(id="e"),
)
ASSIGNMENT = Assignment(device="p01-left", sequence=3, issued_ns=5, slots=(SLOT,))


def test_round_trip() -> None:
    """What was encoded decodes to the same value."""
    assert decode(encode(ASSIGNMENT), Assignment) == ASSIGNMENT


def test_unknown_field_is_named() -> None:
    """A field that this schema does not know is an error, at any depth."""
    with pytest.raises(MalformedError, match="surprise"):
        decode(b'{"online": true, "surprise": 1}', Status)
    deep = encode(ASSIGNMENT).replace(b'"attempt":1', b'"attempt":1,"surprise":2')
    with pytest.raises(MalformedError, match="surprise"):
        decode(deep, Assignment)


def test_wrong_type_names_its_place() -> None:
    """The path of the offending value is in the message."""
    with pytest.raises(MalformedError, match=r"\$\.online"):
        decode(b'{"online": "yes"}', Status)


@pytest.mark.parametrize("cut", [0, 1, 20, len(encode(ASSIGNMENT)) - 1])
def test_truncated_document_is_refused(cut: int) -> None:
    """Every proper prefix is an error."""
    with pytest.raises(MalformedError):
        decode(encode(ASSIGNMENT)[:cut], Assignment)


def test_oversize_is_refused_before_it_is_parsed() -> None:
    """The limit is checked on the bytes, and both numbers are named."""
    with pytest.raises(OversizeError, match=r"8193 bytes, at most 8192"):
        decode(b"x" * (MAX_ASSIGNMENT_BYTES + 1), Assignment, limit=MAX_ASSIGNMENT_BYTES)


def test_a_digest_is_64_lower_case_hex_digits() -> None:
    """A shortened or upper-case digest, or a zero length, is not an object reference."""
    for text in (b'{"sha256":"ab","bytes":1}', b'{"sha256":"' + b"AB" * 32 + b'","bytes":1}'):
        with pytest.raises(MalformedError, match="sha256"):
            decode(text, ObjectRef)
    with pytest.raises(MalformedError, match="bytes"):
        decode(b'{"sha256":"' + b"ab" * 32 + b'","bytes":0}', ObjectRef)
