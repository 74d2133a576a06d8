"""One writer of the record at a time, in one process or many: what is read first is still true when it is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import orjson
from sqlalchemy import Connection, Engine, text

from polyclinic.core.plain import from_plain, to_plain

T = TypeVar("T")

_ADVISORY_LOCK = 7203
"""Number of the record's lock on PostgreSQL; messages come some a second, so one lock is enough."""


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that has the record for itself; committed at the end, rolled back on an error."""
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _ADVISORY_LOCK})
        yield connection
        connection.commit()


def dump(noun: object) -> str:
    """A noun as JSON text."""
    return orjson.dumps(to_plain(noun)).decode()


def load(kind: type[T], value: Any) -> T:
    """The noun that `dump` wrote."""
    return from_plain(kind, orjson.loads(value))
