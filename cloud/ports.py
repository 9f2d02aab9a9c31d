"""What the hub's services need of the world, beside `wire.ports`. Matched by shape; adapters own the threads."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from sqlalchemy import Connection

from wire.identity import Broker, RecoverRequest
from wire.trust import Bin, Listed, RootKeys, Standing

T = TypeVar("T")


class Store(Protocol):
    """The database. A function passed in is synchronous and atomic: all of it is committed, or nothing."""

    async def write(self, call: Callable[[Connection], T]) -> T:
        """Run `call` in a writing transaction and return its result once it is durable.

        `call` may be run several times, of which one counts: it changes nothing but rows. Raises StoreError.
        """

    async def read(self, call: Callable[[Connection], T]) -> T:
        """Run `call` on a consistent snapshot. Raises StoreError."""


class Publisher(Protocol):
    """The part of `wire.ports.Link` that speaks."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Return once the broker has acknowledged. Raises LinkError."""


class ObjectMissingError(Exception):
    """No object has this digest."""


class ObjectStoreError(Exception):
    """The object cannot be stored: no room, no permission, or the object store does not answer."""


@dataclass(frozen=True, slots=True)
class Staged:
    """An upload that has come in whole, in a file of this machine, and is nothing yet."""

    path: str
    sha256: str
    bytes: int


class Objects(Protocol):
    """Content-addressed bytes. Putting the same bytes again is harmless."""

    async def put(self, data: bytes) -> str:
        """Store durably and return the SHA-256 (hex). Raises ObjectStoreError."""

    async def adopt(self, staged: Staged) -> None:
        """Store the content of a staged file durably; the file stays. Raises ObjectStoreError."""

    async def get(self, sha256: str) -> bytes:
        """The bytes, checked against their digest. Raises ObjectMissingError."""

    async def verify(self, sha256: str) -> int:
        """Their length, after they were checked against their digest. Raises ObjectMissingError."""

    async def piece(self, sha256: str, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` on, fewer at the end, not checked. Raises ObjectMissingError."""


class UploadTooLongError(Exception):
    """More bytes came than an upload may have."""


class Staging(Protocol):
    """Where uploads wait for their inspection. What a dead hub has left there is gone at the next start."""

    async def receive(self, parts: AsyncIterator[bytes], most_bytes: int) -> Staged:
        """Write what comes to a file, never more of it in memory than a part. Raises UploadTooLongError."""

    async def discard(self, staged: Staged) -> None:
        """Remove the file."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a file is, by its content alone. Either `kind` and `facts`, or the `refusal`."""

    kind: Literal["onnx", "tflite", "safetensors"] | None
    facts: Mapping[str, Any]
    """onnx: opset, operators, inputs, outputs; tflite: operators, inputs, outputs; safetensors: tensors."""
    refusal: str = ""
    """Why it is no model file that anybody should load; empty when it is one."""


class InspectorError(Exception):
    """The inspection could not be carried out, which says nothing of the file."""


class Inspector(Protocol):
    """Looks into a file that nobody trusts, where it can do no harm."""

    async def inspect(self, staged: Staged) -> Inspection:
        """Judge it. Whatever the file does to whoever reads it is its refusal. Raises InspectorError."""


class DeltaError(Exception):
    """The delta could not be made."""


class DeltaMaker(Protocol):
    """Makes what turns one file into another, away from the event loop."""

    async def make(self, base: bytes, target: bytes) -> bytes:
        """The delta (`wire.adapters.zstd_delta`). Raises DeltaError."""


@dataclass(frozen=True, slots=True)
class BrokerUser:
    """One login. `pinned`: the client id must equal the name, so nobody can take another's session over."""

    name: str
    verifier: str
    """SHA-256 (hex) of the password."""
    publish: tuple[str, ...]
    """Topic patterns it may publish to; `{client}` stands for its client id."""
    receive: tuple[str, ...]
    """Topic patterns it may subscribe to and receive."""
    pinned: bool = True


@dataclass(frozen=True, slots=True)
class RevokedCertificate:
    """A certificate that has not expired and counts no more. Whoever is connected by it has to go."""

    serial: str
    """Hexadecimal."""
    device: str
    revoked_ns: int


@dataclass(frozen=True, slots=True)
class Roster:
    """Everything a broker has to know of who may come in."""

    users: Mapping[str, BrokerUser] = field(default_factory=dict)
    """The hub's own programs, and the devices that log in with passwords."""
    revoked: tuple[RevokedCertificate, ...] = ()
    barred: frozenset[str] = frozenset()
    """Devices that may not come in at all, whatever they show: those of `revoked` that have no other identity."""


class BrokerError(Exception):
    """The broker cannot be started or told who its users are."""


class BrokerControl(Protocol):
    """The broker that the hub runs or administers."""

    @property
    def endpoint(self) -> Broker:
        """Where devices work, with the CA that signed its certificate."""

    @property
    def enrolment(self) -> Broker | None:
        """Where devices get their identity; None = at `endpoint`."""

    @property
    def credential(self) -> Literal["password", "certificate"]:
        """What devices log in with."""

    async def admit(self, roster: Roster) -> None:
        """Make exactly this true, for live connections too, and return when it is in force. Raises BrokerError."""


class SigningRequestError(Exception):
    """A signing request, or a certificate that was shown, is not what a device of this fleet sends."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A device's certificate (PEM). `serial` is hexadecimal."""

    serial: str
    device: str
    pem: str
    expires_ns: int


class Authority(Protocol):
    """The hub's certificate authority. It computes and keeps nothing: what was issued stands in the database."""

    def key_of(self, csr: str) -> str:
        """SHA-256 (hex) of the public key that a signing request is for, and signed by. Raises SigningRequestError."""

    def issue(self, device: str, csr: str, now_ns: int) -> Certificate:
        """A certificate for the key in `csr` that names `device`, whatever else the request says.

        Raises SigningRequestError.
        """

    def proven(self, request: RecoverRequest) -> Certificate:
        """The certificate whose key signed the request, expired or not. Raises SigningRequestError."""


@dataclass(frozen=True, slots=True)
class JobOrder:
    """A job for its own process: `python -m module spec.json` in the job's own directory."""

    job: str
    module: str
    spec: bytes
    files: Mapping[str, bytes]
    """Input files to put beside the spec before the start; those already there are left alone (a resumed job)."""


class JobError(Exception):
    """The job could not be run, or it failed; the message is what the operator sees."""


class JobKilledError(JobError):
    """The job's process was killed from outside. Launched again in its directory, it goes on."""


class Launcher(Protocol):
    """Runs jobs in processes of their own, which die with the hub and can be launched again in the same directory."""

    def directory(self, job: str) -> str:
        """The job's directory, as its process sees it."""

    def run(self, order: JobOrder) -> AsyncGenerator[bytes, None]:
        """Launch and yield each progress line. Raises JobError when it ends badly; closing the iterator ends it.

        Raises JobKilledError when somebody, such as a system short of memory, killed its process.
        """

    async def output(self, job: str, name: str) -> bytes:
        """A file that the job left in its directory. Raises JobError."""

    async def kept(self) -> tuple[str, ...]:
        """Jobs that have a directory."""

    async def discard(self, job: str) -> None:
        """Remove the directory of a job that has ended, with all that is in it."""


class Scheduler(Protocol):
    """Wakes services. It holds no truth: a missed or doubled call does no harm."""

    def every(self, seconds: float, call: Callable[[], None]) -> None:
        """Call `call` about every `seconds`."""


class Notary(Protocol):
    """Judges trust metadata, and holds the hub's own keys: online (snapshot, timestamp) and director.

    Apart from `follow`, functions of bytes. Whatever is judged raises WireError with the reason.
    """

    @property
    def online_keys(self) -> tuple[str, ...]:
        """Public keys (hex) that the hub could sign snapshot and timestamp with."""

    @property
    def director_keys(self) -> tuple[str, ...]:
        """Public keys (hex) that the hub could sign assignments with."""

    @property
    def director(self) -> str:
        """Public key (hex) that signs assignments now."""

    def follow(self, keys: RootKeys) -> bool:
        """Sign assignments with the newest director key that the root names. Did that change anything?"""

    def seal(self, payload: bytes, payload_type: str) -> bytes:
        """A DSSE envelope by the director."""

    def keys_of(self, root: bytes) -> RootKeys:
        """Who holds which role."""

    def check_root(self, root: bytes, before: bytes | None) -> Standing:
        """May it follow `before`?"""

    def check_targets(self, targets: bytes, root: bytes) -> Standing:
        """The top-level targets under this root."""

    def check_bin(self, data: bytes, name: str, targets: bytes) -> Bin:
        """A bin under these targets."""

    def read_bin(self, data: bytes, name: str) -> Bin:
        """What a bin says, whoever signed it."""

    def check_snapshot(self, snapshot: bytes, root: bytes) -> tuple[Standing, Mapping[str, Listed]]:
        """A snapshot under this root, and what it lists by role."""

    def check_timestamp(self, timestamp: bytes, root: bytes) -> Standing:
        """A timestamp under this root."""

    def make_snapshot(self, keys: RootKeys, standing: Standing, listed: Mapping[str, Listed]) -> bytes:
        """A snapshot, signed with the newest online key that the root names."""

    def make_timestamp(self, keys: RootKeys, standing: Standing, snapshot: bytes) -> bytes:
        """A timestamp for it."""
