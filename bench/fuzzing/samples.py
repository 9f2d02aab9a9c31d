"""Good documents to damage: small, complete, every optional part present somewhere."""

from typing import Final

import numpy as np
from safetensors.numpy import save

from wire.asks import (
    Answer,
    Ask,
    AskChunks,
    AskMetadata,
    AskRenewal,
    AskTime,
    MetadataPiece,
    Refused,
    Renewed,
    TimeTold,
)
from wire.assignment import Assignment, Delta, Execution, SlotAssignment, TransferPolicy
from wire.federated import Done, Down, Record, Reply, Task
from wire.identity import Broker, ClaimFile, EnrolReply, EnrolRequest, RecoverRequest
from wire.messages import (
    Capabilities,
    GoldenResult,
    Installed,
    ModelStats,
    Outcome,
    Phase,
    Receipt,
    Reported,
    SlotReport,
    Status,
    Telemetry,
    TrustReport,
    Want,
)
from wire.release import (
    Companions,
    Golden,
    Learning,
    Release,
    RuntimeNeeds,
    Tensor,
    Variant,
    object_ref,
)

DEVICE: Final = "p01-left"
NONCE: Final = "0f" * 16
OBJECT: Final = bytes(range(256)) * 500
"""128,000 bytes: two whole chunks and a shorter one."""
REF: Final = object_ref(OBJECT)
INSTALLED: Final = Installed(model="watch", version=3, variant="int8", sha256=REF.sha256)

RELEASE: Final = Release(
    model="watch",
    version=3,
    counter=7,
    input=Tensor(name="x", shape=(-1, 6, 128)),
    classes=("walk", "run", "rest"),
    parent=REF.brief(),
    variants=(
        Variant(
            name="int8",
            precision="int8",
            file=REF,
            needs=RuntimeNeeds(opset=20, operators=("Conv", "QLinearConv"), ram_bytes=1 << 20, flash_bytes=1 << 16),
            golden=Golden(logits="logits/int8", tolerance=0.05),
            metrics={"accuracy": 0.97, "p50_ms": 0.21},
        ),
    ),
    companions=Companions(golden=REF.brief(), parameters=REF.brief(), train_step=REF.brief(), eval=REF.brief()),
    learning=Learning(batch=16, parameters=(Tensor(name="w", shape=(3, 4)),)),
    card=REF.brief(),
)
ASSIGNMENT: Final = Assignment(
    device=DEVICE,
    sequence=41,
    issued_ns=1_795_000_000_000_000_000,
    slots=(
        SlotAssignment(
            slot="main",
            model="watch",
            version=3,
            variant="int8",
            sha256=REF.sha256,
            release=REF.brief(),
            deltas=(Delta(base="ab" * 32, file=REF.brief()),),
            min_counter=5,
            execution=Execution(id="r1-p01", attempt=2),
        ),
    ),
    transfer=TransferPolicy(max_rate=65536),
)
REPORTED: Final = Reported(
    seq=(3 << 32) + 9,
    sequence=41,
    agent="0.1.0",
    capabilities=Capabilities(
        engines={"onnxruntime": "1.31.1"},
        max_opset=21,
        machine="aarch64",
        python="3.11.7",
        ram_bytes=1 << 30,
        disk_free_bytes=1 << 32,
        modules={"torch": False},
    ),
    slots=(
        SlotReport(
            slot="main",
            phase=Phase.COMMITTED,
            current=INSTALLED,
            execution="r1-p01",
            attempt=2,
            outcome=Outcome.SUCCEEDED,
            golden=GoldenResult(matched=32, total=32, max_error=0.001),
        ),
    ),
    trust=TrustReport(root=1, timestamp=9, snapshot=4, verified_ns=1_795_000_000_000_000_000),
)
TELEMETRY: Final = Telemetry(
    seq=(3 << 32) + 12,
    at_ns=1_795_000_000_000_000_000,
    stats=(
        ModelStats(
            model="watch",
            version=3,
            variant="int8",
            predictions=900,
            feedback=40,
            correct=37,
            confidence_sum=812.25,
            latency_us={12: 700, 13: 200},
        ),
    ),
    captured=120,
)
RECORDS: Final = (
    Record(name="arrays", kind="arrays", keys=("w", "b")),
    Record(name="metrics", kind="metrics", values={"num-examples": 40, "train-loss": 0.25}),
)
TASK: Final = Task(
    run="run-1",
    task="run-1.2.p01",
    kind="train",
    round=2,
    model="watch",
    version=3,
    records=(RECORDS[0], Record(name="config", kind="config", values={"lr": 0.01, "seeds": [1, 2]})),
    arrays=REF,
    deadline_ns=5,
)
REPLY: Final = Reply(run="run-1", task="run-1.2.p01", ok=True, records=RECORDS, arrays=REF)
DOWNS: Final = (Down(task=TASK), Down(done=Done(run="run-1", task="run-1.2.p01", accepted=True)))
CLAIM: Final = ClaimFile(
    device=DEVICE,
    broker=Broker(host="127.0.0.1", port=8883, ca_pem="-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"),
    topic_root="fl/1",
    token="t" * 43,
    enrol_username="enrol",
    enrol_password="not a secret",  # noqa: S106 - a sample
    root=b'{"signatures":[],"signed":{"_type":"root","version":1,"x-fleetloop-director":["' + b"d7" * 32 + b'"]}}',
)
ASKS: Final = tuple(
    Ask(id="q1", what=what)
    for what in (
        AskMetadata(name="3.bin-f.json", offset=24576),
        AskTime(nonce=NONCE),
        AskChunks(sha256=REF.sha256, indices=(0, 2)),
        AskRenewal(csr="-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n"),
    )
)
ANSWERS: Final = tuple(
    Answer(id="q1", what=what)
    for what in (
        MetadataPiece(found=True, total=369, offset=0, data=b'{"signed":{}}'),
        TimeTold(envelope=b"{}"),
        Renewed(certificate="-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"),
        Refused(reason="not now"),
    )
)
ENROLMENTS: Final = (
    EnrolRequest(token="t" * 43, verifier="c" * 64),
    EnrolRequest(token="t" * 43, csr="-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n"),
    RecoverRequest(certificate="-----BEGIN CERTIFICATE-----\n", csr="-----BEGIN", proof=b"\x30\x45" + b"\x01" * 60),
)
ENROL_REPLIES: Final = (EnrolReply(ok=True, username=DEVICE), EnrolReply(ok=False, reason="the claim has expired"))
STATUS: Final = Status(online=True, boot=3, session="s1")
RECEIPT: Final = Receipt(channel="reported", seq=4)
WANT: Final = Want(sha256=REF.sha256, indices=(0, 1, 2))

ARRAYS: Final = {"arrays/w": np.ones((3, 4), np.float32), "arrays/b": np.zeros(4, np.float32)}
GOLDEN_FILE: Final = save(
    {"inputs": np.ones((2, 3), np.float16), "logits/int8": np.arange(6, dtype=np.float32).reshape(2, 3)}
)
ARRAYS_FILE: Final = save(ARRAYS)
