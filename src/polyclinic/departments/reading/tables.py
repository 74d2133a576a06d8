"""Tables of the reading room.

JSON columns hold nouns in the form of `polyclinic.core.plain`; times are seconds since 1970 UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import (
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from polyclinic.core.errors import NotFound
from polyclinic.core.plain import to_plain

metadata = MetaData()

study_status = Table(
    "reading_study_status",
    metadata,
    Column("study_instance_uid", String(64), primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("step", Text, nullable=False, default=""),
    Column("fraction", Float, nullable=False, default=0.0),
    Column("urgency", String(16), nullable=False, default="routine"),
    Column("urgency_reason", Text, nullable=False, default=""),
    Column("reason", Text, nullable=False, default=""),
    Column("evidence", Text, nullable=False, default=""),
    Column("finding_count", Integer, nullable=False, default=0),
    Column("undecided", Integer, nullable=False, default=0),
    Column("changed_at", Float, nullable=False),
    Column("lock", Integer, nullable=False, default=0),
    Index("reading_study_status_changed_at", "changed_at"),
    Index("reading_study_status_state", "state"),
)

agent_run = Table(
    "reading_agent_run",
    metadata,
    Column("run_id", String(36), primary_key=True),
    Column("study_instance_uid", String(64), nullable=False, index=True),
    Column("revision", Integer, nullable=False),
    Column("queue", String(16), nullable=False),
    Column("task", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("step", Text, nullable=False, default=""),
    Column("fraction", Float, nullable=False, default=0.0),
    Column("attempt", Integer, nullable=False, default=0),
    Column("reason", Text, nullable=False, default=""),
    Column("queued_at", Float, nullable=False),
    Column("not_before", Float, nullable=False, default=0.0),
    Column("worker", String(80), nullable=False, default=""),
    Column("lease_until", Float, nullable=False, default=0.0),
    Column("summary", Text, nullable=False, default="{}"),
    Column("withheld", Text, nullable=False, default="[]"),
    Index("reading_agent_run_state", "state", "queue", "queued_at"),
    Index("reading_agent_run_queued_at", "queued_at"),
)

study_run = Table(
    "reading_study_run",
    metadata,
    Column("study_instance_uid", String(64), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("run_id", String(36), primary_key=True),
)

proposal = Table(
    "reading_proposal",
    metadata,
    Column("origin", String(80), primary_key=True),
    Column("finding_id", String(64), primary_key=True),
    Column("study_instance_uid", String(64), nullable=False, index=True),
    Column("position", Integer, nullable=False),
    Column("finding", Text, nullable=False),
    Index("reading_proposal_finding_id", "finding_id"),
    comment="origin is the run, or reader:STUDY for a finding that a person drew; never changed",
)

decision = Table(
    "reading_decision",
    metadata,
    Column("origin", String(80), primary_key=True),
    Column("finding_id", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("study_instance_uid", String(64), nullable=False, index=True),
    Column("decision", Text, nullable=False),
    comment="appended, never changed; the key lets two people decide on a version only once",
)

signature = Table(
    "reading_signature",
    metadata,
    Column("study_instance_uid", String(64), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("signature", Text, nullable=False),
    Column("report", Text, nullable=False),
    Column("findings", Text, nullable=False),
    comment="what was signed, as it was; the key lets one person sign a revision",
)

derived_object = Table(
    "reading_derived_object",
    metadata,
    Column("sop_instance_uid", String(64), primary_key=True),
    Column("study_instance_uid", String(64), nullable=False, index=True),
    Column("revision", Integer, nullable=False),
    Column("object", Text, nullable=False),
)

delivery = Table(
    "reading_delivery",
    metadata,
    Column("key", String(36), primary_key=True),
    Column("study_instance_uid", String(64), nullable=False, index=True),
    Column("revision", Integer, nullable=False),
    Column("destination", String(200), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("sop_instance_uid", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("reason", Text, nullable=False, default=""),
    Column("due_at", Float, nullable=False),
    Index("reading_delivery_due", "state", "due_at"),
)

agreement = Table(
    "reading_agreement",
    metadata,
    Column("study_instance_uid", String(64), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("agent_id", String(64), nullable=False),
    Column("agent_version", String(32), nullable=False),
    Column("accepted", Integer, nullable=False),
    Column("edited", Integer, nullable=False),
    Column("rejected", Integer, nullable=False),
    Column("signed_at", Float, nullable=False),
    UniqueConstraint("study_instance_uid", "revision", "agent_id", "agent_version"),
)


def insert_new(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> int:
    """Insert the rows whose key is not there yet; how many were new."""
    if not rows:
        return 0
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    new = dialect.insert(table).values(rows).on_conflict_do_nothing()
    # Without being told to, SQLAlchemy forgets how many rows PostgreSQL has inserted
    return connection.execute(new, execution_options={"preserve_rowcount": True}).rowcount


def lock_study(connection: Connection, study_instance_uid: str) -> None:
    """Take the study for this transaction, so that deciding and signing happen one after another.

    A write takes the lock of SQLite and the row lock of PostgreSQL alike.

    Raises
    ------
    NotFound
        ``reading.no-study``.
    """
    taken = connection.execute(
        update(study_status)
        .where(study_status.c.study_instance_uid == study_instance_uid)
        .values(lock=study_status.c.lock + 1)
    )
    if taken.rowcount == 0:
        raise NotFound("reading.no-study", "This study is not in the reading room; check its address")


def dump(value: object) -> str:
    """A noun, or a sequence of nouns, as JSON text."""
    return orjson.dumps(to_plain(value)).decode()


def seconds(at: datetime) -> float:
    """Seconds since 1970 of an aware time."""
    return at.timestamp()


def moment(value: float) -> datetime:
    """The aware UTC time of seconds since 1970."""
    return datetime.fromtimestamp(value, UTC)
