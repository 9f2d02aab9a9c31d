"""Artefacts: uploading model files, seeing what they are, and downloading any object of the registry."""

import base64
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import Connection, select

from cloud.api import problems
from cloud.api.context import Context, Hub, Operator, Viewer
from cloud.api.paging import Paged, Slice
from cloud.api.schemas.base import DIGEST
from cloud.api.schemas.versions import ArtefactView
from cloud.core.byte_ranges import ByteRange, RangeError, asked
from cloud.errors import TooLongError, UnavailableError, UnknownError
from cloud.ports import ObjectMissingError
from cloud.service import artefacts as service
from cloud.tables import artefacts, objects
from wire.release import MAX_OBJECT_BYTES

router = APIRouter(prefix="/artefacts", tags=["artefacts"])
Digest = Annotated[str, Path(pattern=DIGEST)]
PIECE_BYTES = 1024 * 1024
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_PARTIAL = {"description": "The bytes that the range names", "content": _BINARY}


@router.put("/{sha256}", status_code=201, openapi_extra={"requestBody": {"required": True, "content": _BINARY}})
async def upload(sha256: Digest, request: Request, response: Response, hub: Hub, actor: Operator) -> ArtefactView:
    """Upload an ONNX, TFLite or safetensors file under its SHA-256; 200 when it is here already.

    The body is the file. It is judged by its content; 422 says why it is refused.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > MAX_OBJECT_BYTES:
        raise TooLongError(f"the file has {announced} bytes: an artefact may have {MAX_OBJECT_BYTES}")
    with hub.limits.upload(actor.key):
        if not await hub.artefacts.upload(sha256, request.stream(), actor.name, hub.change):
            response.status_code = HTTPStatus.OK
    return await artefact(sha256, hub, actor)


@router.get("")
async def all_artefacts(hub: Hub, actor: Viewer, page: Paged) -> list[ArtefactView]:
    """Uploaded artefacts by digest."""
    query = select(artefacts, objects.c.bytes).join(objects, objects.c.sha256 == artefacts.c.sha256)
    order = (artefacts.c.sha256,)

    def look(conn: Connection) -> Slice[ArtefactView]:
        return page.window.views(conn, query, order, lambda row: ArtefactView.model_validate(row._mapping))

    return page.answer(await hub.read(look))


@router.get("/{sha256}")
async def artefact(sha256: Digest, hub: Hub, actor: Viewer) -> ArtefactView:
    """What an uploaded file is."""
    row = await hub.read(lambda conn: service.find(conn, sha256))
    if row is None:
        raise UnknownError(f"there is no artefact {sha256}")
    return ArtefactView.model_validate(row._mapping)


@router.head("/{sha256}/content", response_class=Response)
@router.get("/{sha256}/content", response_class=Response, responses={200: {"content": _BINARY}, 206: _PARTIAL})
async def content(sha256: Digest, request: Request, hub: Hub, actor: Viewer) -> Response:
    """The bytes of an object of the registry, or one range of them. Its digest is its entity tag."""
    length = await hub.read(lambda conn: service.length_of(conn, sha256))
    headers = _headers(sha256)
    if request.headers.get("if-none-match") in (headers["ETag"], "*"):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    try:
        part = _range(request, headers["ETag"], length)
    except RangeError as error:
        refused = problems.problem(request, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, str(error))
        refused.headers["Content-Range"] = f"bytes */{length}"
        return refused
    status = HTTPStatus.OK
    if part is not None:
        status = HTTPStatus.PARTIAL_CONTENT
        headers["Content-Range"] = f"bytes {part.first}-{part.last}/{length}"
    span = part or ByteRange(0, length - 1)
    headers["Content-Length"] = str(span.last - span.first + 1)
    if request.method == "HEAD":
        return Response(status_code=HTTPStatus.OK, headers=headers, media_type="application/octet-stream")
    return StreamingResponse(await _pieces(hub, sha256, span), status, headers, "application/octet-stream")


def _headers(sha256: str) -> dict[str, str]:
    digest = base64.b64encode(bytes.fromhex(sha256)).decode()
    return {
        "ETag": f'"{sha256}"',
        "Accept-Ranges": "bytes",
        "Repr-Digest": f"sha-256=:{digest}:",
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Disposition": f'attachment; filename="{sha256}"',
        "X-Content-Type-Options": "nosniff",
    }


def _range(request: Request, tag: str, length: int) -> ByteRange | None:
    """Only for GET; and only as long as the representation is the one that the client has a part of."""
    header = request.headers.get("range")
    if header is None or request.method != "GET" or request.headers.get("if-range", tag) != tag:
        return None
    return asked(header, length)


async def _pieces(hub: Context, sha256: str, span: ByteRange) -> AsyncIterator[bytes]:
    """The bytes, piece by piece; the first one is read before anything is answered. Raises UnavailableError."""
    try:
        first = await hub.objects.piece(sha256, span.first, min(PIECE_BYTES, span.last - span.first + 1))
    except ObjectMissingError as error:
        raise UnavailableError(str(error)) from error

    async def pieces() -> AsyncIterator[bytes]:
        yield first
        for start in range(span.first + len(first), span.last + 1, PIECE_BYTES):
            yield await hub.objects.piece(sha256, start, min(PIECE_BYTES, span.last + 1 - start))

    return pieces()
