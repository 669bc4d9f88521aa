"""Reads the result of a SQL query as columns."""

import hashlib
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv

from rarelab.data.formats import typed
from rarelab.data.stored import as_text
from rarelab.errors import RequestError, one_line

_DUCKDB = ("duckdb:///", "duckdb:")
_FILE = re.compile(
    r"(sqlite(?:\+\w+)?:///|duckdb:(?:///)?)(?!file:|:memory:)([^?]+)(.*)", re.DOTALL
)


def is_query(name: str) -> bool:
    """Whether this is a query rather than the name of a table."""
    return name.lstrip("( \n").lower().startswith(("select ", "select\n", "with ", "from "))


def query(sql: str, uri: str | None, key: str = "dataset.sql") -> pa.Table:
    """The rows of a query, in the order in which the database gives them.

    ``uri`` is SQLAlchemy's (``postgresql://...``), or ``duckdb:///FILE``; without it DuckDB reads
    the files that the query names (``SELECT * FROM 'rows/*.parquet'``).

    Raises:
        RequestError: the database cannot be reached, or refuses the query.
    """
    missing = _FILE.fullmatch(uri or "")
    if missing and not Path(missing[2]).exists():  # SQLite would create it, empty
        raise RequestError(f"{key}: the address of its database: there is no file {missing[2]}")
    try:
        if uri is None or uri.startswith(_DUCKDB):
            return _duckdb(sql, uri)
        return _sqlalchemy(sql, uri)
    except ImportError as error:
        raise RequestError(
            f"{key}: {one_line(error)}: pip install 'rarelab[sql]' and the database's driver"
        ) from None
    except Exception as error:  # every driver has errors of its own
        raise RequestError(f"{key} cannot be run: {one_line(error)[:300]}") from None


def found_anywhere(uri: str) -> str:
    """The address with the absolute path of its database, if that is a file, so that it does not
    depend on the working directory."""
    found = _FILE.fullmatch(uri)
    return f"{found[1]}{Path(found[2]).resolve()}{found[3]}" if found else uri


def identity(table: pa.Table) -> str:
    """The sha256 of the rows as CSV: their values and order, and the columns' names and types."""
    columns = {
        name: as_text(column, name, refuse=False)
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    written = pa.BufferOutputStream()
    csv.write_csv(pa.table(columns), written)
    digest = hashlib.sha256(str([*map(str, table.schema)]).encode())
    digest.update(written.getvalue())
    return f"sql(sha256={digest.hexdigest()})"


def _duckdb(sql: str, uri: str | None) -> pa.Table:
    import duckdb

    file = next((uri.removeprefix(p) for p in _DUCKDB if uri and uri.startswith(p)), "")
    with duckdb.connect(file or ":memory:", read_only=bool(file)) as connection:
        return connection.sql(sql).to_arrow_table()


def _sqlalchemy(sql: str, uri: str) -> pa.Table:
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri)
    try:
        with engine.connect() as connection:
            found = connection.execute(sqlalchemy.text(sql))
            names = [str(name) for name in found.keys()]  # noqa: SIM118
            columns: list[list[Any]] = [[] for _ in names]
            while rows := found.fetchmany(10_000):
                for column, values in zip(columns, zip(*rows, strict=True), strict=True):
                    column.extend(values)
    finally:
        engine.dispose()
    return pa.Table.from_arrays([typed(column) for column in columns], names=names)
