"""INSERT and UPDATE of many rows in one statement: every column travels as one array (`unnest`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Column, FromClause, bindparam, column, func, select
from sqlalchemy.dialects.postgresql import ARRAY, Insert, insert

Columns = Sequence[Column[Any]]
_ORDER = "ordinality"


def rows_of(columns: Columns, name: str = "given") -> FromClause:
    """A FROM element with these columns, whose rows `arrays` gives as parameters."""
    # One dimension: a JSON list among the values is a value, not a row of a matrix.
    parameters = [bindparam(f"given_{c.name}", type_=ARRAY(c.type, dimensions=1)) for c in columns]
    shape = [column(c.name, c.type) for c in columns]
    return func.unnest(*parameters).table_valued(*shape, with_ordinality=_ORDER, name=name).render_derived()


def arrays(columns: Columns, rows: Iterable[Sequence[Any]]) -> dict[str, list[Any]]:
    """The parameters of `rows_of(columns)`: row by row in, column by column out.

    A column of NULLs is no values at all: `unnest` fills it up, and the driver encodes each value by itself.
    """
    found = list(zip(*rows, strict=True)) or [()] * len(columns)
    values = ([] if all(value is None for value in column) else column for column in found)
    return {f"given_{c.name}": list(column) for c, column in zip(columns, values, strict=True)}


def insert_rows(columns: Columns) -> Insert:
    """INSERT INTO the columns' table, in the order of the given rows."""
    given = rows_of(columns)
    chosen = select(*[given.c[c.name] for c in columns]).order_by(given.c[_ORDER])
    return insert(columns[0].table).from_select([c.name for c in columns], chosen)
