"""Many rows or many names in one statement, on either database.

SQLite takes rows one after the other at next to no cost, if its driver gets all of them ready made. PostgreSQL wants
them as arrays, one for each column: a statement for each row costs it several times what the row does. Names travel as
one value as well, so that the statement is the same text however many there are.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Dialect,
    String,
    Table,
    Text,
    TypeDecorator,
    and_,
    bindparam,
    column,
    func,
    select,
    update,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from cloud.upsert import upsert

POSTGRESQL = "postgresql"

Row = Mapping[str, Any]
Given = Mapping[str, ColumnElement[Any]]
"""What a statement is given, by the names of columns."""
Ready = tuple[str, Callable[[Row], tuple[Any, ...]]]
"""For a driver that takes rows one after the other: its statement, and what makes a row of it."""


class Many:
    """A statement that is carried out for every row it is given. Make it where the module is loaded."""

    def __init__(self, table: Table, names: Sequence[str], each: Any, together: Callable[[Any], Any]) -> None:
        types = {name: table.c[name].type for name in names}
        self._types = types
        self._each = each({name: bindparam(_given(name), type_=kind) for name, kind in types.items()})
        arrays = (bindparam(_given(name), type_=ARRAY(_boundless(kind), dimensions=1)) for name, kind in types.items())
        columns = (column(name, kind) for name, kind in types.items())
        self._together = together(func.unnest(*arrays).table_valued(*columns, name="given").render_derived())
        self._ready: WeakKeyDictionary[Dialect, Ready] = WeakKeyDictionary()

    def run(self, conn: Connection, rows: Sequence[Row]) -> None:
        """Carry it out. Every row has a value for each column, and no two are of the same key."""
        if not rows:
            return
        if conn.dialect.name == POSTGRESQL:
            conn.execute(self._together, {_given(name): [row[name] for row in rows] for name in self._types})
            return
        text, made = self._ready.get(conn.dialect) or self._prepared(conn.dialect)
        conn.exec_driver_sql(text, [made(row) for row in rows])

    def _prepared(self, dialect: Dialect) -> Ready:
        compiled = self._each.compile(dialect=dialect)
        of = {_given(name): name for name in self._types}
        names = [of[place] for place in compiled.positiontup]
        written = {name: self._types[name].dialect_impl(dialect).bind_processor(dialect) for name in self._types}
        ready = self._ready[dialect] = str(compiled), _maker(names, {n: p for n, p in written.items() if p is not None})
        return ready


def updating(table: Table, keys: Sequence[str], columns: Sequence[str], **same: ColumnElement[Any]) -> Many:
    """Change `columns` of the rows with these `keys`; and to the `same` for all of them."""

    def statement(given: Given) -> Any:
        here = and_(*(table.c[name] == given[name] for name in keys))
        return update(table).where(here).values({name: given[name] for name in columns} | same)

    return Many(table, (*keys, *columns), statement, lambda given: statement(given.c))


def entering(table: Table, keys: Sequence[str], columns: Sequence[str]) -> Many:
    """Insert rows; where one with these `keys` is there, change its `columns`."""
    names = (*keys, *columns)

    def entered(statement: Any) -> Any:
        news = {name: statement.excluded[name] for name in columns}
        return statement.on_conflict_do_update(index_elements=keys, set_=news)

    def each(given: Given) -> Any:
        return entered(upsert(table).values({name: given[name] for name in names}))

    def together(given: Any) -> Any:
        return entered(upsert(table).from_select(names, select(*(given.c[name] for name in names))))

    return Many(table, names, each, together)


class _Names(TypeDecorator[Sequence[str]]):
    """Names as one value."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """An array where there are such."""
        return dialect.type_descriptor(ARRAY(Text()) if dialect.name == POSTGRESQL else Text())

    def process_bind_param(self, value: Sequence[str] | None, dialect: Dialect) -> Any:
        """Else JSON."""
        names = list(value or ())
        return names if dialect.name == POSTGRESQL else msgspec.json.encode(names).decode()


class _Each(FunctionElement[str]):
    """The names, a row each."""

    name = "each"
    type = Text()
    inherit_cache = True


def among(one: ColumnElement[str], parameter: str) -> ColumnElement[bool]:
    """Is it one of the names that the statement is given as `parameter`?"""
    return one.bool_op("IN")(_Each(bindparam(parameter, type_=_Names())))


@compiles(_Each)
def _of_json(element: _Each, compiler: SQLCompiler, **how: Any) -> str:
    return f"(SELECT value FROM json_each({compiler.process(element.clauses, **how)}))"  # noqa: S608 - made by the compiler


@compiles(_Each, POSTGRESQL)
def _of_array(element: _Each, compiler: SQLCompiler, **how: Any) -> str:
    return f"(SELECT unnest({compiler.process(element.clauses, **how)}))"


def _given(name: str) -> str:
    """A column's own name is not free for a parameter."""
    return f"given_{name}"


def _boundless(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """A cast to a bounded text would cut it off without a word."""
    return Text() if isinstance(kind, String) else kind


def _maker(names: Sequence[str], written: Mapping[str, Callable[[Any], Any]]) -> Callable[[Row], tuple[Any, ...]]:
    if written:
        return lambda row: tuple([written[name](row[name]) if name in written else row[name] for name in names])
    return itemgetter(*names)
