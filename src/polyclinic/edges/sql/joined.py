"""Several stores in one transaction: all of it stays or nothing does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from sqlalchemy import Connection, Engine


class _Joined:
    """A connection inside somebody else's transaction: it neither begins nor ends one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def exec_driver_sql(self, statement: str, *arguments: Any, **options: Any) -> Any:
        """As of the connection; ``BEGIN`` has happened already."""
        if statement.upper().startswith("BEGIN"):
            return None
        return self._connection.exec_driver_sql(statement, *arguments, **options)

    def commit(self) -> None:
        """The outermost transaction commits."""


class _JoinedEngine:
    """Stands for an engine while a transaction is open on one of its connections."""

    def __init__(self, connection: Connection) -> None:
        self._joined = _Joined(connection)
        self.dialect = connection.dialect

    @contextmanager
    def connect(self) -> Iterator[_Joined]:
        yield self._joined

    begin = connect


@contextmanager
def one_transaction(engine: Engine) -> Iterator[Engine]:
    """What is done on the engine given back is committed together at the end, or rolled back on an error.

    On SQLite the write lock is taken at the start. A store that caught an error of its own statement would leave a
    broken transaction on PostgreSQL: errors must reach the end of the ``with``.
    """
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield cast(Engine, _JoinedEngine(connection))
        connection.commit()
