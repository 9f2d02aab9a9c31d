"""Every parser that reads what comes from elsewhere, with good samples and the errors that it may raise."""

from collections.abc import Callable
from functools import partial
from hashlib import sha256
from operator import eq
from typing import Any, Final

import msgspec
import numpy as np
from onnx import TensorProto, helper

from bench.fuzzing import samples as good
from bench.fuzzing.assault import Parser
from bench.fuzzing.trust import trust_parsers
from cloud.core.plausible import check_reported, check_status, check_telemetry
from edge_agent.canary import Verdict
from edge_agent.core import pointer, spool
from edge_agent.core.reading import Newest, read_assignment
from edge_agent.core.slot import State
from edge_agent.core.trust import Given, Heard, Judgement, Said, dump_files, founded_on, parse_files
from edge_agent.errors import DamagedRecordError, EnrolmentError, RefusedError
from edge_agent.installer import MAX_ORDER_BYTES
from edge_agent.service.claims import parse_claim
from federated.core.replies import Limits, check_offer, check_update
from federated.records import ARRAYS, from_object
from wire import golden
from wire.adapters.keys import verifiers
from wire.asks import Answer, Ask, SignedTime
from wire.assignment import Assignment
from wire.codec import MAX_ASSIGNMENT_BYTES, MAX_RELEASE_BYTES, Document, decode, encode
from wire.dsse import ASSIGNMENT_TYPE, TIME_TYPE, Verify, seal, unseal
from wire.federated import Down, Reply
from wire.identity import ClaimFile, EnrolReply, EnrolRequest, RecoverRequest
from wire.messages import GoldenResult, Phase, Receipt, Reported, Status, Telemetry, Want
from wire.onnx_file import takes_other_files
from wire.release import Release
from wire.topics import Topics
from wire.transfer import bitmap
from wire.transfer.chunks import CHUNK_BYTES, frame, frames, unframe
from wire.transfer.receiver import Receiver, Rejected, Write

FLOOR: Final = 40
RECORD: Final = pointer.Record(
    boot=3,
    heard={"k": Heard(sequence=41)},
    director="k",
    floors={"watch": 5},
    slots={"main": State(phase=Phase.FETCHING, desired=good.ASSIGNMENT.slots[0])},
)
TOPICS: Final = Topics()
FRAMES: Final = tuple(spool.Frame(seq, b"telemetry %d" % seq, done=seq - 1) for seq in (7, 8, 11))
HELD: Final = {"timestamp.json": b"{}", "2.root.json": b'{"signed":{}}'}


def parsers() -> tuple[Parser, ...]:
    """All of them."""
    return (*trust_parsers(), *_signed(), *_control(), *_device_files(), *_child(), *_binary())


def _signed() -> tuple[Parser, ...]:
    """What a signature covers: damaged, it is refused, or it still says exactly what was signed."""
    payload = encode(good.ASSIGNMENT)
    anyone: Verify = lambda signature, message: True  # noqa: E731
    told = encode(SignedTime(device=good.DEVICE, nonce=good.NONCE, now_ns=7))

    def assignment(data: bytes) -> Assignment:
        envelope = seal(data, ASSIGNMENT_TYPE, {"k": lambda message: b""})
        heard: Callable[[str], Heard] = lambda key: Heard(sequence=FLOOR)  # noqa: E731
        return read_assignment(envelope, {"k": anyone}, good.DEVICE, heard, Newest("k", "")).assignment

    return (
        Parser(
            "assignment envelope",
            _envelopes(payload, ASSIGNMENT_TYPE),
            _unseal(ASSIGNMENT_TYPE),
            sound=partial(eq, payload),
        ),
        Parser("signed time", _envelopes(told, TIME_TYPE), _unseal(TIME_TYPE), sound=partial(eq, told)),
        Parser("assignment", (payload,), assignment, (RefusedError,), _acceptable),
        _document("release", (good.RELEASE,), Release, MAX_RELEASE_BYTES),
    )


def _envelopes(payload: bytes, payload_type: str) -> tuple[bytes, ...]:
    one, two = _signer("a"), _signer("b")
    return (seal(payload, payload_type, one), seal(payload, payload_type, {**one, **two}))


def _signer(key: str) -> dict[str, Callable[[bytes], bytes]]:
    """Stands in for a signature: a digest of the message, so that only the signed one matches, without any curve."""
    return {key: lambda message: sha256(message).digest()}


def _unseal(payload_type: str) -> Callable[[bytes], bytes]:
    trusted: dict[str, Verify] = {"a": lambda signature, message: signature == sha256(message).digest()}
    return lambda data: unseal(data, payload_type, trusted, limit=2 * MAX_ASSIGNMENT_BYTES)


def _acceptable(assignment: Assignment) -> bool:
    return assignment.device == good.DEVICE and assignment.sequence >= FLOOR and _round_trip(assignment)


def _control() -> tuple[Parser, ...]:
    """Messages between device and hub."""
    return (
        _document("ask", good.ASKS, Ask),
        _document("answer", good.ANSWERS, Answer),
        _document("status", (good.STATUS,), Status, check=check_status),
        _document("reported", (good.REPORTED,), Reported, check=check_reported),
        _document("telemetry", (good.TELEMETRY,), Telemetry, check=check_telemetry),
        _document("receipt", (good.RECEIPT,), Receipt),
        _document("want", (good.WANT,), Want),
        _document("federated task", good.DOWNS, Down),
        _document("federated reply", (good.REPLY,), Reply, check=lambda reply: check_offer(good.TASK, reply, Limits())),
        _document("enrolment request", good.ENROLMENTS[:2], EnrolRequest),
        _document("recovery request", good.ENROLMENTS[2:], RecoverRequest),
        _document("enrolment reply", good.ENROL_REPLIES, EnrolReply),
        Parser("topic", _topics(), lambda data: TOPICS.parse(data.decode("utf-8", "replace"))),
    )


def _document(
    name: str,
    documents: tuple[Document, ...],
    kind: type[Document],
    limit: int = 64 * 1024,
    check: Callable[[Any], object] = lambda document: None,
) -> Parser:
    def read(data: bytes) -> Document:
        document = decode(data, kind, limit=limit)
        check(document)
        return document

    return Parser(name, tuple(map(encode, documents)), read, sound=_round_trip)


def _round_trip(document: Document) -> bool:
    """What was read can be written and read again."""
    return msgspec.json.decode(encode(document), type=type(document)) == document


def _topics() -> tuple[bytes, ...]:
    digest = good.REF.sha256
    chunks = (TOPICS.up_chunk(good.DEVICE, digest, 7), TOPICS.dn_chunk(good.DEVICE, digest, 0), TOPICS.blob(digest, 12))
    plain = (TOPICS.up(good.DEVICE, "reported"), TOPICS.dn(good.DEVICE, "desired"), TOPICS.enrol("up", "enrol-1"))
    return tuple(topic.encode() for topic in (*chunks, *plain))


def _device_files() -> tuple[Parser, ...]:
    """What lies on the device or is handed to it."""
    record = pointer.dump(RECORD)

    def claim(data: bytes) -> ClaimFile:
        return parse_claim(data, "claim.json")

    def keys(data: bytes) -> object:
        return verifiers(data.decode("utf-8", "replace").split(","))

    return (
        Parser("claim file", (encode(good.CLAIM),), claim, (EnrolmentError,), _round_trip),
        Parser("public keys", (b"d7" * 32 + b"," + b"5a" * 32,), keys),
        Parser("pointer record", (record,), pointer.parse, (DamagedRecordError,), partial(eq, RECORD)),
        Parser("root in a claim", (good.CLAIM.root,), founded_on),
        Parser("held metadata", (dump_files(HELD),), parse_files, (), lambda files: files in ({}, HELD)),
    )


def _child() -> tuple[Parser, ...]:
    """What the installer child and the daemon say to each other."""
    verdict = Verdict(golden=GoldenResult(matched=32, total=32, max_error=0.0), p50_ms=0.4, rss_bytes=1 << 25)
    said = (Said(what=good.ASKS[0].what), Said(what=Judgement(refusal="no", files=HELD)))  # type: ignore[arg-type]
    return (
        _document("canary verdict", (verdict,), Verdict),
        _document("trust child's line", said, Said, MAX_ORDER_BYTES),
        _document("daemon's line", (Given(what=good.ANSWERS[0].what),), Given, MAX_ORDER_BYTES),  # type: ignore[arg-type]
    )


def _binary() -> tuple[Parser, ...]:
    """Chunks and tensors."""
    chunks = (*frames(good.OBJECT), frame(b"small", 0))
    arrays = {name.partition("/")[2]: array for name, array in good.ARRAYS.items()}

    def received(data: bytes) -> object:
        receiver = Receiver(good.REF)
        receiver.start()
        return receiver, receiver.on_chunk(0, data)

    def update(data: bytes) -> str:
        return check_update(arrays, from_object(data, good.RECORDS)[ARRAYS], Limits())

    return (
        Parser("chunk bitmap", (bitmap.pack((0, 2), 3), bitmap.pack(range(99), 100)), _unpacked, ()),
        Parser("outbox file", (_outbox(),), spool.parse, (), _spooled),
        Parser("chunk frame", chunks, unframe, sound=_framed),
        Parser("received chunk", chunks[:2], received, (), _kept),
        Parser("ONNX file", _models(), takes_other_files, sound=_is_bool),
        Parser("golden file", (good.GOLDEN_FILE,), golden.parse),
        Parser("federated update", (good.ARRAYS_FILE,), update),
    )


def _unpacked(data: bytes) -> object:
    return bitmap.unpack(data, 3), bitmap.unpack(data, 100)


def _spooled(found: tuple[spool.Frame, ...]) -> bool:
    """Frames that were written, in order; whole ones may be missing, since each carries its own checksum."""
    return set(found) <= set(FRAMES) and list(found) == sorted(found, key=lambda frame: frame.seq)


def _outbox() -> bytes:
    return b"".join(map(spool.dump, FRAMES))


def _models() -> tuple[bytes, ...]:
    """One file, and one that wants another."""
    weights = np.ones((4, 3), np.float32)
    tensor = helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.tobytes(), raw=True)
    elsewhere = TensorProto(name="w", data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    elsewhere.external_data.add(key="location", value="golden")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "logits")]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["logits"])]
    graphs = [helper.make_graph(nodes, "g", ends[:1], ends[1:], [one]) for one in (tensor, elsewhere)]
    return tuple(helper.make_model(graph).SerializeToString() for graph in graphs)


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _framed(parts: tuple[int, int, memoryview]) -> bool:
    index, total, data = parts
    return 0 <= index < total and 0 < len(data) <= CHUNK_BYTES


def _kept(outcome: tuple[Receiver, list[object]]) -> bool:
    """Either the very chunk is to be written, or nothing changed."""
    receiver, outputs = outcome
    untouched = set(receiver.outstanding) == {0, 1, 2} and not receiver.complete
    match outputs:
        case [Write(0, 0, data)]:
            return data == good.OBJECT[:CHUNK_BYTES] and untouched
        case [Rejected(reason)]:
            return bool(reason) and untouched
        case _:
            return False
