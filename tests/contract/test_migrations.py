"""The schema that migrations make is the schema that the code expects."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, text

from polyclinic.core.errors import Rejected
from polyclinic.departments.access import audit_store as audit
from polyclinic.departments.access import store as access
from polyclinic.departments.archive import schema as archive
from polyclinic.departments.reading import tables as reading
from polyclinic.departments.records import resource_tables as resources
from polyclinic.departments.records import store as records
from polyclinic.departments.routing import tables as routing
from polyclinic.departments.workitems import tables as workitems
from polyclinic.edges.dimse import commitment_store as commitments
from polyclinic.edges.sql.engine import open_engine
from polyclinic.edges.sql.migrations import migrate

ROOMS: list[MetaData] = [
    commitments.metadata,
    audit.metadata,
    workitems.metadata,
    archive.metadata,
    reading.metadata,
    records.metadata,
    resources.metadata,
    access.metadata,
    routing.metadata,
]


def test_migrating_an_empty_database_gives_every_table_as_declared(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'index.sqlite'}")
    migrate(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = [d for room in ROOMS for d in compare_metadata(context, room) if _is_about(room, d)]
    assert differences == []


def test_migrating_gives_the_indexes_and_triggers_that_the_archive_declares(tmp_path: Path) -> None:
    migrated, declared = (
        open_engine(f"sqlite:///{tmp_path / name}") for name in ("migrated.sqlite", "declared.sqlite")
    )
    migrate(migrated)
    archive.metadata.create_all(declared)
    found = []
    for engine in (migrated, declared):
        with engine.connect() as connection:
            made = connection.execute(
                text(
                    "SELECT name, sql FROM sqlite_master WHERE type IN ('index', 'trigger') AND tbl_name LIKE :archive"
                ),
                {"archive": "archive%"},
            )
            found.append({name: "".join((sql or "").replace('"', "").split()) for name, sql in made})
    assert found[0] == found[1]
    assert "archive_study_moved" in found[0]


def _is_about(room: MetaData, difference: object) -> bool:
    """Tables of the other rooms are unknown to this one, which is as it should be."""
    return not (
        isinstance(difference, tuple)
        and difference[0] in ("remove_table", "remove_index")
        and (difference[1] if difference[0] == "remove_table" else difference[1].table).name not in room.tables
    )


def test_migrating_twice_changes_nothing_and_keeps_rows(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'index.sqlite'}")
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(records.context.insert().values(_row()))
    migrate(engine)
    with engine.connect() as connection:
        assert connection.execute(records.context.select()).one() is not None


def _row() -> dict[str, object]:
    return {c.name: (1 if c.type.python_type is int else "x") for c in records.context.columns}


def test_a_newer_database_is_refused_with_advice(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'index.sqlite'}")
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Rejected, match=r"sql\.newer-schema"):
        migrate(engine)
