"""The audit trail: who changed what, in pages and as one file."""

import functools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from sqlalchemy import Select, select

from cloud.api import views
from cloud.api.context import Administrator, Hub
from cloud.api.paging import MAX_LIMIT, Paged, Window
from cloud.api.schemas.access import AuditView
from cloud.tables import audit

router = APIRouter(prefix="/audit", tags=["audit"])

Text = Annotated[str | None, Query(max_length=200)]
Time = Annotated[int | None, Query(ge=0, lt=2**63)]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which changes: of an actor, of a kind (`rollout.`: all of that noun), to a subject, by a request, in a time."""

    actor: Text = None
    action: Text = None
    subject: Text = None
    request: Text = None
    since_ns: Time = None
    until_ns: Time = None

    def query(self) -> Select[Any]:
        """The rows."""
        query = select(audit)
        for column, value in (
            (audit.c.actor, self.actor),
            (audit.c.subject, self.subject),
            (audit.c.request, self.request),
        ):
            query = query if value is None else query.where(column == value)
        if self.action is not None:
            whole = not self.action.endswith(".")
            query = query.where(
                audit.c.action == self.action if whole else audit.c.action.startswith(self.action, autoescape=True)
            )
        if self.since_ns is not None:
            query = query.where(audit.c.at_ns >= self.since_ns)
        return query if self.until_ns is None else query.where(audit.c.at_ns < self.until_ns)


Filter = Annotated[Wanted, Depends(Wanted)]


@router.get("")
async def changes(hub: Hub, caller: Administrator, wanted: Filter, page: Paged) -> list[AuditView]:
    """Changes, oldest first."""
    return page.answer(await hub.read(lambda conn: views.audit_views(conn, page.window, wanted.query())))


@router.get("/export", response_class=StreamingResponse)
async def export(hub: Hub, caller: Administrator, wanted: Filter) -> StreamingResponse:
    """All of them, one JSON object a line. Read page by page, so that it holds up nothing."""

    async def lines() -> AsyncIterator[str]:
        more, window = True, Window(MAX_LIMIT)
        while more:
            part = await hub.read(functools.partial(views.audit_views, window=window, query=wanted.query()))
            for change in part.items:
                yield change.model_dump_json() + "\n"
            more, window = part.end is not None, Window(MAX_LIMIT, part.end)

    return StreamingResponse(lines(), media_type="application/x-ndjson")
