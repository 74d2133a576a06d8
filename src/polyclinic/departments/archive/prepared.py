"""Statements of the hot path, compiled once: SQLAlchemy's own execution costs more than SQLite's."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, CursorResult, Engine


class Prepared:
    """A statement as the database's own text; every value must be one that its driver takes as it is."""

    def __init__(self, engine: Engine, statement: Any, *columns: str) -> None:
        compiled = statement.compile(dialect=engine.dialect, column_keys=list(columns) or None)
        self._text = str(compiled)
        self._order: tuple[str, ...] | None = tuple(compiled.positiontup) if compiled.positiontup else None
        self._defaults = {name: value for name, value in compiled.params.items() if value is not None}

    def run(self, connection: Connection, values: dict[str, Any]) -> CursorResult[Any]:
        """Execute once."""
        return connection.exec_driver_sql(self._text, self._bound(values))

    def run_all(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        """Execute once for each row."""
        if len(rows) == 1:
            self.run(connection, rows[0])
        else:
            connection.exec_driver_sql(self._text, [self._bound(row) for row in rows])

    def _bound(self, values: dict[str, Any]) -> Any:
        if self._order is None:
            return self._defaults | values
        return tuple(values[name] if name in values else self._defaults[name] for name in self._order)
