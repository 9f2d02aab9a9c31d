"""Lists come in pages: `limit` rows after an opaque `cursor`; the `Link` header (RFC 8288) names the next page.

A cursor is the place of the last row in the order of the list, so rows that come and go neither repeat nor hide others.
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Query, Request, Response
from sqlalchemy import ColumnElement, Connection, Row, Select, tuple_

from cloud.errors import InvalidError

T = TypeVar("T")

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Slice(Generic[T]):
    """One page, and where it ends if there is more."""

    items: list[T]
    end: tuple[Any, ...] | None


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a list that was asked for."""

    limit: int = DEFAULT_LIMIT
    after: tuple[Any, ...] | None = None

    def rows(self, conn: Connection, query: Select[Any], *order: ColumnElement[Any]) -> Slice[Row[Any]]:
        """Rows of `query` in this window, ordered by `order`, which tells all rows apart. Raises InvalidError."""
        if self.after is not None:
            query = query.where(tuple_(*order) > tuple_(*_fitting(self.after, order)))
        found = list(conn.execute(query.order_by(*order).limit(self.limit + 1)).all())
        if len(found) <= self.limit:
            return Slice(found, None)
        last = found[self.limit - 1]
        return Slice(found[: self.limit], tuple(last._mapping[column] for column in order))

    def views(
        self, conn: Connection, query: Select[Any], order: tuple[ColumnElement[Any], ...], view: Callable[[Row[Any]], T]
    ) -> Slice[T]:
        """The same, each row as its view."""
        rows = self.rows(conn, query, *order)
        return Slice([view(row) for row in rows.items], rows.end)


@dataclass(frozen=True, slots=True)
class Page:
    """A request for a page, and its answer."""

    window: Window
    request: Request
    response: Response

    def answer(self, part: Slice[T]) -> list[T]:
        """The items; the header says where to go on."""
        if part.end is not None:
            url = self.request.url.include_query_params(cursor=_cursor(part.end), limit=self.window.limit)
            self.response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
        return part.items


async def _page(
    request: Request,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="rows of a page")] = DEFAULT_LIMIT,
    cursor: Annotated[str, Query(max_length=500, description="where a page ended: from its Link header")] = "",
) -> Page:
    return Page(Window(limit, _place(cursor) if cursor else None), request, response)


Paged = Annotated[Page, Depends(_page)]


def _cursor(place: tuple[Any, ...]) -> str:
    return base64.urlsafe_b64encode(json.dumps(place, separators=(",", ":")).encode()).decode().rstrip("=")


def _place(cursor: str) -> tuple[Any, ...]:
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:
        place = None
    if not isinstance(place, list) or not place:
        raise InvalidError("cursor: take it from the Link header of the page before")
    return tuple(place)


def _fitting(place: tuple[Any, ...], order: tuple[ColumnElement[Any], ...]) -> tuple[Any, ...]:
    """A cursor of another list would compare apples with pears."""
    kinds = [column.type.python_type for column in order]
    fits = len(place) == len(kinds) and all(type(value) is kind for value, kind in zip(place, kinds, strict=True))
    fits = fits and all(value.isprintable() for value in place if isinstance(value, str))
    if not fits or any(isinstance(value, int) and abs(value) >= 2**63 for value in place):
        raise InvalidError("cursor: it belongs to another list")
    return place
