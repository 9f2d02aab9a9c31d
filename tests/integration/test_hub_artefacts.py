"""Uploads and downloads over HTTP: the real inspection child, files on disk, ranges."""

import asyncio
import contextlib
import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from cloud.adapters.inspection_child import InspectionChild
from cloud.adapters.upload_files import UploadFiles
from cloud.api import problems
from cloud.api.bounds import Bounds
from cloud.api.limits import MAX_UPLOADS, MAX_UPLOADS_OF_A_KEY
from cloud.ports import Staged, UploadTooLongError
from simulator.fakes.offload import InlineOffload
from tests.samples.model_files import onnx_model, pickled, safetensors
from tests.worlds.api_world import Api, api
from wire.release import MAX_OBJECT_BYTES

MODEL = onnx_model()
DIGEST = hashlib.sha256(MODEL).hexdigest()
OPERATOR = {"Authorization": "Bearer flk_operator"}


async def put(call: Api, data: Any, digest: str = "", **headers: str) -> httpx.Response:
    """Upload as an operator."""
    sha256 = digest or hashlib.sha256(data).hexdigest()
    return await call.http.put(f"/api/v1/artefacts/{sha256}", content=data, headers=OPERATOR | headers)


async def get(call: Api, **headers: str) -> httpx.Response:
    """Download as an operator."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await call.http.get(f"/api/v1/artefacts/{DIGEST}/content", headers=OPERATOR | named)


def left_behind(call: Api) -> list[Path]:
    """Files that uploads have left in the hub's directory."""
    folder = call.world.directory
    return [path for place in ("uploads", "objects") for path in (folder / place).rglob("*") if path.is_file()]


def test_an_upload_becomes_an_artefact_once(tmp_path: Path) -> None:
    """201 with what it is; again: 200, and nothing is read; the audit trail has one entry."""

    async def scenario(call: Api) -> None:
        made = await put(call, MODEL)
        assert (made.status_code, made.json()["kind"], made.json()["bytes"]) == (201, "onnx", len(MODEL))
        assert made.json()["facts"]["operators"] == ["MatMul"]
        assert (await put(call, b"not even looked at", DIGEST)).status_code == 200
        weights = safetensors()
        assert (await put(call, weights)).json()["kind"] == "safetensors"
        assert len(await call("viewer", "GET", "/artefacts?limit=1")) == 1
        listed = await call("viewer", "GET", "/artefacts")
        assert {one["sha256"] for one in listed} == {DIGEST, hashlib.sha256(weights).hexdigest()}
        assert {path.name for path in left_behind(call)} == {DIGEST, hashlib.sha256(weights).hexdigest()}

    api(tmp_path, scenario)


def test_nothing_stays_of_what_is_refused(tmp_path: Path) -> None:
    """A pickle (which is not run), other bytes than announced, a viewer's upload."""

    async def scenario(call: Api) -> None:
        trace = tmp_path / "harm"
        refused = await put(call, pickled(str(trace)))
        assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
        assert "it is a pickle, which runs code" in refused.json()["detail"]
        assert "announced was" in (await put(call, MODEL, "0" * 64)).json()["detail"]
        viewer = await put(call, MODEL, Authorization="Bearer flk_viewer")
        assert viewer.status_code == 403
        assert not trace.exists()
        assert left_behind(call) == []
        assert await call("viewer", "GET", f"/artefacts/{DIGEST}", status=404)

    api(tmp_path, scenario)


def test_an_upload_is_bounded_whatever_it_announces(tmp_path: Path) -> None:
    """413 before a byte is read when the length is announced; and else when it is passed."""

    async def scenario(call: Api) -> None:
        announced = await put(call, b"x", DIGEST, **{"Content-Length": str(MAX_OBJECT_BYTES + 1)})
        assert announced.status_code == 413

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield bytes(8 * 1024 * 1024)

        assert (await put(call, endless(), DIGEST)).status_code == 413
        assert left_behind(call) == []

    api(tmp_path, scenario)


def test_so_many_uploads_at_a_time_and_no_more(tmp_path: Path) -> None:
    """429 for a key that has its share, 503 when the hub has enough; both say when to come back, and room is made."""

    async def scenario(call: Api) -> None:
        go_on = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield MODEL[:10]
            await go_on.wait()
            yield MODEL[10:]

        async def refused(role: str, status: int) -> None:
            answer = await put(call, MODEL, "1" * 64, Authorization=f"Bearer flk_{role}")
            assert (answer.status_code, answer.headers["retry-after"]) == (status, "5")

        held = [asyncio.create_task(put(call, slow(), DIGEST)) for _ in range(MAX_UPLOADS_OF_A_KEY)]
        while len(left_behind(call)) < len(held):
            await asyncio.sleep(0.005)
        await refused("operator", 429)
        with contextlib.ExitStack() as others:
            for number in range(MAX_UPLOADS - MAX_UPLOADS_OF_A_KEY):
                others.enter_context(call.limits.upload(f"another {number}"))
            await refused("admin", 503)
        go_on.set()
        assert {answer.status_code for answer in await asyncio.gather(*held)} == {201}
        assert (await put(call, safetensors())).status_code == 201

    api(tmp_path, scenario)


def test_an_upload_that_stalls_gives_its_place_away(tmp_path: Path) -> None:
    """408 when nothing comes for a while, or next to nothing; nothing stays of it. An answer may take its time."""

    async def scenario() -> None:
        app, waits = FastAPI(), asyncio.Event()
        staging = UploadFiles(tmp_path / "uploads", InlineOffload())
        problems.install(app)
        app.add_middleware(Bounds, refuse=problems.problem, stall_s=0.05)

        @app.put("/api/file")
        async def take(request: Request) -> str:
            await staging.receive(request.stream(), 100)
            assert not await request.is_disconnected()
            await asyncio.sleep(0.1)
            return "taken"

        async def stalling() -> AsyncIterator[bytes]:
            yield b"x"
            await waits.wait()

        async def dripping() -> AsyncIterator[bytes]:
            while True:
                yield b"x"
                await asyncio.sleep(0.02)

        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://hub") as http:
            assert (await http.put("/api/file", content=b"whole")).json() == "taken"
            (whole,) = (tmp_path / "uploads").iterdir()
            for slow in (stalling(), dripping()):
                assert (await http.put("/api/file", content=slow)).status_code == 408
            assert list((tmp_path / "uploads").iterdir()) == [whole]

    asyncio.run(scenario())


def test_staging_keeps_no_more_than_a_part_in_memory(tmp_path: Path) -> None:
    """What came is on disk before the next part is asked for."""

    async def scenario() -> None:
        staging, seen = UploadFiles(tmp_path / "uploads", InlineOffload()), []
        part = bytes(256 * 1024)

        async def parts() -> AsyncIterator[bytes]:
            for _ in range(4):
                yield part
                seen.append(next((tmp_path / "uploads").iterdir()).stat().st_size)

        staged = await staging.receive(parts(), 4 * len(part))
        assert (seen, staged.bytes) == ([len(part) * number for number in (1, 2, 3, 4)], 4 * len(part))
        assert staged.sha256 == hashlib.sha256(4 * part).hexdigest()
        with pytest.raises(UploadTooLongError):
            await staging.receive(parts(), 4 * len(part) - 1)
        assert len(list((tmp_path / "uploads").iterdir())) == 1

    asyncio.run(scenario())


def test_a_download_is_whole_or_one_range(tmp_path: Path) -> None:
    """200, 206 and 304; the digest is the entity tag; ranges of something else ask for all of it."""

    async def scenario(call: Api) -> None:
        await put(call, MODEL)
        whole = await get(call)
        assert (whole.status_code, whole.content, whole.headers["etag"]) == (200, MODEL, f'"{DIGEST}"')
        part = await get(call, Range="bytes=10-19")
        assert (part.status_code, part.content) == (206, MODEL[10:20])
        assert part.headers["content-range"] == f"bytes 10-19/{len(MODEL)}"
        assert (await get(call, Range="bytes=10-", If_Range=f'"{DIGEST}"')).content == MODEL[10:]
        assert (await get(call, Range="bytes=10-", If_Range='"other"')).content == MODEL
        assert (await get(call, If_None_Match=f'"{DIGEST}"')).status_code == 304
        head = await call.http.head(f"/api/v1/artefacts/{DIGEST}/content", headers=OPERATOR)
        assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(MODEL)), b"")

    api(tmp_path, scenario)


@pytest.mark.parametrize("header", ["bytes=99999-", "bytes=0-0,2-2", "bytes=" + ",".join(["0-0"] * 3_000)])
def test_ranges_that_are_refused(tmp_path: Path, header: str) -> None:
    """416 with the length that there is; as many ranges as fit into a header cost no more than one."""

    async def scenario(call: Api) -> None:
        await put(call, MODEL)
        answer = await get(call, Range=header)
        assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(MODEL)}")
        assert answer.headers["content-type"] == "application/problem+json"

    api(tmp_path, scenario)


def test_ten_thousand_ranges_do_not_get_to_the_file(tmp_path: Path) -> None:
    """431: the headers of a request are bounded as a whole."""

    async def scenario(call: Api) -> None:
        await put(call, MODEL)
        answer = await get(call, Range="bytes=" + ",".join(["0-0"] * 10_000))
        assert answer.status_code == 431
        assert answer.headers["content-type"] == "application/problem+json"

    api(tmp_path, scenario)


def test_an_object_that_is_gone_is_the_hubs_own_problem(tmp_path: Path) -> None:
    """503 before anything was answered, not an empty file."""

    async def scenario(call: Api) -> None:
        await put(call, MODEL)
        next((tmp_path / "objects").rglob(DIGEST)).unlink()
        assert (await get(call)).status_code == 503
        assert (await call.http.get(f"/api/v1/artefacts/{'0' * 64}/content", headers=OPERATOR)).status_code == 404

    api(tmp_path, scenario)


def test_what_hangs_or_kills_its_inspection_is_refused(tmp_path: Path) -> None:
    """A pipe that nobody writes to hangs; the parent does not wait for ever, and the child is gone."""

    async def scenario() -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        verdict = await InspectionChild(patience_s=0.5).inspect(Staged(str(pipe), "0" * 64, 1))
        assert verdict.refusal == "inspecting it was not done after 0.5 s"

    asyncio.run(scenario())


def test_a_description_that_is_too_long_refuses_the_file(tmp_path: Path) -> None:
    """Three megabytes of names are the file's own fault: nobody is told to try it again later."""
    names = {
        f"{number:04}{'n' * 3000}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for number in range(1000)
    }
    header = json.dumps(names).encode()

    async def scenario() -> None:
        file = tmp_path / "wordy"
        file.write_bytes(len(header).to_bytes(8, "little") + header)
        verdict = await InspectionChild().inspect(Staged(str(file), "0" * 64, file.stat().st_size))
        assert verdict.refusal.startswith("describing it takes more than")

    asyncio.run(scenario())


def test_the_child_cannot_take_more_memory_than_it_may(tmp_path: Path) -> None:
    """A sparse file of four gigabytes does not fit into its limits: refused in words."""

    async def scenario() -> None:
        huge = tmp_path / "huge"
        with huge.open("wb") as file:
            file.truncate(4 * 1024**3)
        verdict = await InspectionChild().inspect(Staged(str(huge), "0" * 64, 4 * 1024**3))
        assert verdict.refusal == "reading it takes more than there is: MemoryError"

    asyncio.run(scenario())
