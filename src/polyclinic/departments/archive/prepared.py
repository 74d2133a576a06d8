"""Statements of the hot path: compiled once and run on a connection that is kept.

Taking a connection from the pool and executing through SQLAlchemy costs several times what SQLite itself needs for a
row, so the few statements that every instance needs go to the driver directly. All others use SQLAlchemy as usual.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine


class Prepared:
    """A statement as the database's own text; every value must be one that its driver takes as it is."""

    def __init__(self, engine: Engine, statement: Any, *columns: str) -> None:
        compiled = statement.compile(dialect=engine.dialect, column_keys=list(columns) or None)
        self._text = str(compiled)
        self._order: tuple[str, ...] | None = tuple(compiled.positiontup) if compiled.positiontup else None
        self._defaults = {name: value for name, value in compiled.params.items() if value is not None}

    def run(self, cursor: Any, *rows: dict[str, Any]) -> None:
        """Execute once for each row, on a cursor of the driver."""
        if len(rows) == 1:
            cursor.execute(self._text, self._bound(rows[0]))
        else:
            cursor.executemany(self._text, [self._bound(row) for row in rows])

    def _bound(self, values: dict[str, Any]) -> Any:
        if self._order is None:
            return self._defaults | values
        return tuple(values[name] if name in values else self._defaults[name] for name in self._order)


class Pinned:
    """One connection that is kept, used by one thread at a time; dropped and replaced after an error."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._connection: Connection | None = None

    @contextmanager
    def transaction(self) -> Iterator[tuple[Connection, Any]]:
        """The connection and a cursor of its driver; committed at the end, rolled back on an error."""
        with self._lock:
            if self._connection is None:
                self._connection = self._engine.connect()
            connection = self._connection
            cursor = connection.connection.cursor()
            try:
                if self._engine.dialect.name == "sqlite":
                    cursor.execute("BEGIN IMMEDIATE")  # what is read before writing stays true
                yield connection, cursor
                cursor.close()
                if connection.in_transaction():
                    connection.commit()
                else:
                    connection.connection.commit()
            except BaseException:
                self._drop()
                raise

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """A cursor of the driver for one query."""
        with self._lock:
            if self._connection is None:
                self._connection = self._engine.connect()
            raw = self._connection.connection
            cursor = raw.cursor()
            try:
                yield cursor
                cursor.close()
                if self._engine.dialect.name != "sqlite":  # SQLite ends a read with its cursor
                    raw.rollback()
            except BaseException:
                self._drop()
                raise

    def close(self) -> None:
        """Give the connection back."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()
