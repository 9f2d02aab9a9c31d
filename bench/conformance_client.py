"""The client that the public TUF suite drives: the agent's own trust service and installer child, over a real broker.

`python -m bench.conformance_client --broker-port N` and then the words of the suite's CLIENT-CLI.md. Two sessions are
opened. One is the device: it asks for metadata and pulls chunks as in the field. The other stands for the hub: it
answers from the suite's web server. The suite's roots name no director, so nobody can sign the time and the device
judges by its clock, which the suite moves with faketime.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

from edge_agent.adapters.onnx_trainer import onnx_trainer
from edge_agent.adapters.posix_disk import PosixDisk, prepare
from edge_agent.adapters.tuf_trust import TufTrust
from edge_agent.core.patience import Patience
from edge_agent.core.pointer import Record
from edge_agent.core.trust import Listed, parse_files
from edge_agent.errors import AgentError
from edge_agent.ports import Ports
from edge_agent.service.asking import Asking
from edge_agent.service.courier import Uplink
from edge_agent.service.downloads import Downloads
from edge_agent.service.durable import Journal
from edge_agent.service.objects import Objects
from edge_agent.service.tasks import Tasks
from edge_agent.service.transfer import Line
from edge_agent.service.trusting import METADATA, TRUST_WORK, Change, Trusting
from simulator.fakes.device import FixedMachine, MemoryCaptures
from simulator.fakes.runtime import LightRuntime, MemoryInstaller
from wire.adapters.mqtt_link import Credentials, MqttLink
from wire.adapters.system import SystemClock, SystemIds, ThreadOffload
from wire.asks import MAX_PIECE_BYTES, Answer, Ask, AskMetadata, MetadataPiece, Refused
from wire.assignment import TransferPolicy
from wire.codec import decode, encode
from wire.identity import Broker
from wire.ports import Inbound
from wire.release import ObjectRef, object_ref
from wire.topics import Chunk, Topics
from wire.transfer.chunks import frames
from wire.transfer.pace import Bucket

DEVICE = "conformance"
TOPICS = Topics("conformance/1")
DATA = ".agent"
"""The device's data directory, in the suite's metadata directory."""
ROOT = "claim.root.json"
CONNECT_TIMEOUT_S = 10.0
HTTP_TIMEOUT_S = 10.0
STALL_S = 5.0


class Hub:
    """Answers questions for metadata from a web server, and retains the chunks of targets."""

    def __init__(self, broker: Broker, metadata_url: str) -> None:
        self.link = MqttLink(broker, Credentials("hub", "", "hub"))
        self.link.on_message = self._on_message
        self._url = metadata_url
        self._files: dict[str, bytes | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def offer(self, url: str) -> tuple[ObjectRef, list[str]]:
        """Retain what lies at `url`; returns what it is and the topics. Raises AgentError: nothing does."""
        data = await asyncio.to_thread(_get, url)
        if not data:
            raise AgentError(f"{url}: there is nothing")
        ref = object_ref(data)
        topics = [TOPICS.blob(ref.sha256, index) for index in range(len(ref.chunks))]
        for topic, payload in zip(topics, frames(data), strict=True):
            await self.link.publish(topic, payload, retain=True)
        return ref, topics

    def _on_message(self, message: Inbound) -> None:
        task = asyncio.create_task(self._answer(decode(message.payload, Ask)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        message.ack()

    async def _answer(self, ask: Ask) -> None:
        what: MetadataPiece | Refused = Refused(reason="nobody here can sign that")
        if isinstance(ask.what, AskMetadata):
            what = await self._piece(ask.what)
        await self.link.publish(TOPICS.dn(DEVICE, "answer"), encode(Answer(id=ask.id, what=what)))

    async def _piece(self, ask: AskMetadata) -> MetadataPiece | Refused:
        if ask.offset == 0:
            try:
                self._files[ask.name] = await asyncio.to_thread(_get, self._url + ask.name)
            except OSError as error:
                return Refused(reason=str(error)[:500])
        data = self._files.get(ask.name)
        if data is None:
            return MetadataPiece(found=False)
        piece = data[ask.offset : ask.offset + MAX_PIECE_BYTES]
        return MetadataPiece(found=True, total=len(data), offset=ask.offset, data=piece)


@dataclass(frozen=True, slots=True)
class Client:
    """The device's side, and the hub at the other end of the broker."""

    trusting: Trusting
    downloads: Downloads
    disk: PosixDisk
    hub: Hub


@contextlib.asynccontextmanager
async def connected(broker: Broker, data: Path, metadata_url: str) -> AsyncIterator[Client]:
    """Device and hub, connected."""
    hub = Hub(broker, metadata_url)
    link = MqttLink(broker, Credentials(DEVICE, ""))
    clock, ids, offload = SystemClock(), SystemIds(), ThreadOffload(name="disk")
    disk = PosixDisk(data, offload)
    ports = Ports(
        link=link,
        clock=clock,
        ids=ids,
        disk=disk,
        trust=TufTrust((data / ROOT).read_bytes(), disk.locate(TRUST_WORK), built_ns=0),
        installer=MemoryInstaller(disk, clock),
        runtime=LightRuntime(disk, clock),
        captures=MemoryCaptures(),
        machine=FixedMachine(),
        make_trainer=onnx_trainer,
    )
    tasks = Tasks(lambda error: print(f"{error!r}", file=sys.stderr))
    asking = Asking(Uplink(DEVICE, TOPICS, link, clock, tasks), ids)
    line = Line(link, clock, ids, TOPICS, asking.put, TransferPolicy, Bucket(clock.monotonic_ns()))
    downloads = Downloads(disk, Objects(disk), line)
    trusting = Trusting(ports, DEVICE, asking)
    await _remembering(trusting, Journal(disk))

    def on_message(message: Inbound) -> None:
        parsed = TOPICS.parse(message.topic)
        if isinstance(parsed, Chunk):
            downloads.on_chunk(parsed.sha256, parsed.chunk, message.payload)
        else:
            asking.on_answer(message.payload)
        message.ack()

    link.on_message = on_message
    await _up(hub.link, TOPICS.all_up("ask"))
    await _up(link, TOPICS.dn(DEVICE, "answer"))
    try:
        yield Client(trusting, downloads, disk, hub)
    finally:
        await link.stop()
        await hub.link.stop()
        await tasks.stop()
        offload.close()


async def _remembering(trusting: Trusting, journal: Journal) -> None:
    """Own the record as the reconciler does in the agent."""
    record = await journal.load()

    async def remember(change: Change) -> None:
        nonlocal record
        record = change(record)
        await journal.save(record)

    def current() -> Record:
        return record

    trusting.record, trusting.remember = current, remember


async def _up(link: MqttLink, topic: str) -> None:
    up = asyncio.Event()
    link.on_up = up.set
    await link.subscribe(topic)
    await link.start()
    await asyncio.wait_for(up.wait(), CONNECT_TIMEOUT_S)


def _get(url: str) -> bytes | None:
    """What the server has; None when it says that there is nothing. Raises OSError."""
    try:
        with urllib.request.urlopen(url, timeout=HTTP_TIMEOUT_S) as response:  # noqa: S310 - the suite's server
            data: bytes = response.read()
            return data
    except urllib.error.HTTPError as error:
        if error.code in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN):
            return None
        raise


def init(metadata: Path, root: Path) -> None:
    """Begin with this root."""
    prepare(metadata / DATA)
    shutil.copyfile(root, metadata / DATA / ROOT)
    shutil.copyfile(root, metadata / "root.json")


async def act(words: argparse.Namespace) -> None:
    """Refresh, or download targets. Raises AgentError: something was refused."""
    metadata = Path(words.metadata_dir)
    url = words.metadata_url.rstrip("/") + "/"
    async with connected(Broker(host="127.0.0.1", port=words.broker_port), metadata / DATA, url) as client:
        try:
            if words.command == "refresh":
                await client.trusting.refresh()
            else:
                await download(client, words)
        finally:
            show(metadata)


async def download(client: Client, words: argparse.Namespace) -> None:
    """All targets in order, each unless its file is there."""
    for listed in await client.trusting.vouch_all(tuple(words.target_name)):
        place = Path(words.target_dir) / quote(listed.path, "")
        if place.exists() and agrees(listed, place.read_bytes()):
            continue
        ref, topics = await client.hub.offer(target_url(Path(words.metadata_dir), words.target_base_url, listed))
        try:
            data = await client.downloads.fetch_bytes(ref, Patience(STALL_S))
        finally:
            for topic in topics:
                await client.hub.link.publish(topic, b"", retain=True)
        if not agrees(listed, data):
            raise AgentError(f"{listed.path}: what came is another file than the metadata says")
        place.write_bytes(data)


def agrees(listed: Listed, data: bytes) -> bool:
    """Is it the target? The agent itself knows targets by SHA-256 alone; the suite has others, too."""
    known = listed.hashes and all(name in hashlib.algorithms_available for name in listed.hashes)
    same = (
        all(hashlib.new(name, data).hexdigest() == digest for name, digest in listed.hashes.items()) if known else False
    )
    return same and len(data) == listed.bytes


def target_url(metadata: Path, base: str, listed: Listed) -> str:
    """Where the suite's server has the target."""
    folder, slash, name = listed.path.rpartition("/")
    root = json.loads((metadata / "root.json").read_bytes())
    prefix = f"{next(iter(listed.hashes.values()))}." if root["signed"]["consistent_snapshot"] else ""
    return f"{base.rstrip('/')}/{quote(f'{folder}{slash}{prefix}{name}')}"


def show(metadata: Path) -> None:
    """Lay what the device holds out as the suite wants to see it."""
    record = metadata / DATA / METADATA
    files = parse_files(record.read_bytes()) if record.exists() else {}
    roots = {int(name.partition(".")[0]): data for name, data in files.items() if name.endswith(".root.json")}
    newest = roots[max(roots)] if roots else (metadata / DATA / ROOT).read_bytes()
    shown = {name: data for name, data in files.items() if not name.endswith(".root.json")} | {"root.json": newest}
    for path in metadata.glob("*.json"):
        if path.name not in shown:
            path.unlink()
    for name, data in shown.items():
        (metadata / name).write_bytes(data)


def main() -> int:
    """Do what the suite says; 1 when it was refused."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--broker-port", type=int, required=True)
    for name in ("--metadata-dir", "--metadata-url", "--target-dir", "--target-base-url"):
        parser.add_argument(name)
    parser.add_argument("--target-name", action="append")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("root")
    commands.add_parser("refresh")
    commands.add_parser("download")
    words = parser.parse_args()
    if words.command == "init":
        init(Path(words.metadata_dir), Path(words.root))
        return 0
    try:
        asyncio.run(act(words))
    except (AgentError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
