"""Reads the result of a SQL query as columns."""

import hashlib
from typing import Any

import pyarrow as pa

from rarelab.data.formats import typed
from rarelab.errors import RequestError, one_line

_DUCKDB = ("duckdb:///", "duckdb:")


def query(sql: str, uri: str | None) -> pa.Table:
    """The rows of a query, in the order in which the database gives them.

    ``uri`` is SQLAlchemy's (``postgresql://...``), or ``duckdb:///FILE``; without it DuckDB reads
    the files that the query names (``SELECT * FROM 'rows/*.parquet'``).

    Raises:
        RequestError: the database cannot be reached, or refuses the query.
    """
    try:
        if uri is None or uri.startswith(_DUCKDB):
            return _duckdb(sql, uri)
        return _sqlalchemy(sql, uri)
    except ImportError as error:
        raise RequestError(
            f"dataset.sql: {one_line(error)}: pip install 'rarelab[sql]' and the database's driver"
        ) from None
    except Exception as error:  # every driver has errors of its own
        raise RequestError(f"dataset.sql cannot be run: {one_line(error)[:300]}") from None


def identity(table: pa.Table) -> str:
    """The sha256 of the rows: their values, order, and the columns' names and types."""
    digest = hashlib.sha256()

    class Sink:
        closed = False

        def write(self, block: Any) -> int:
            digest.update(block)
            return len(block)

        def flush(self) -> None: ...
        def close(self) -> None: ...

    with pa.PythonFile(Sink(), mode="w") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks().replace_schema_metadata(None), 100_000)
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
