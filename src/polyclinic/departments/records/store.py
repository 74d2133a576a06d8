"""The record's memory: the context of each study revision, written once."""

from __future__ import annotations

import orjson
from sqlalchemy import Engine, select
from sqlalchemy.dialects import postgresql, sqlite

from polyclinic.core.errors import NotFound
from polyclinic.core.plain import from_plain, to_plain
from polyclinic.departments.records.contracts import ClinicalContext
from polyclinic.departments.records.order_store import SqlOrders
from polyclinic.departments.records.patient_store import SqlPatients
from polyclinic.departments.records.tables import context, metadata

__all__ = ["RecordsStore", "SqlRecord", "context", "metadata"]


class RecordsStore:
    """Every method may be called from any thread and any process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def freeze(self, study_instance_uid: str, revision: int, gathered: ClinicalContext) -> ClinicalContext:
        """Keep the context of a revision; the first one kept is the one that holds, and is returned."""
        row = {
            "study_instance_uid": study_instance_uid,
            "revision": revision,
            "context": orjson.dumps(to_plain(gathered)).decode(),
        }
        with self._engine.begin() as connection:
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            connection.execute(dialect.insert(context).values(row).on_conflict_do_nothing())
        return self.load(study_instance_uid, revision)

    def load(self, study_instance_uid: str, revision: int) -> ClinicalContext:
        """Raises `NotFound` (``records.no-context``)."""
        query = select(context.c.context).where(
            context.c.study_instance_uid == study_instance_uid, context.c.revision == revision
        )
        with self._engine.connect() as connection:
            text = connection.execute(query).scalar_one_or_none()
        if text is None:
            raise NotFound("records.no-context", "Nothing was gathered for this study yet; wait until it is read")
        return from_plain(ClinicalContext, orjson.loads(text))


class SqlRecord(SqlPatients, SqlOrders):
    """Port `polyclinic.departments.records.ports.Record`: identities, orders and steps in one database."""
