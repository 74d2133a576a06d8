"""Tables of routing. Times are seconds since 1970 UTC; several values of a column stand one a line."""

from __future__ import annotations

from sqlalchemy import Column, Float, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

job = Table(
    "routing_job",
    metadata,
    Column("key", String(36), primary_key=True),
    Column("study_instance_uid", String(64), nullable=False, index=True),
    Column("revision", Integer, nullable=False),
    Column("since_revision", Integer, nullable=False),
    Column("destination", String(64), nullable=False),
    Column("content", String(16), nullable=False),
    Column("series_instance_uids", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("because", Text, nullable=False),
    Column("state", String(8), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("due_at", Float, nullable=False),
    Column("queued_at", Float, nullable=False),
    Column("sent", Integer, nullable=False),
    Column("refused", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("holder", String(120), nullable=False),
    Column("held_until", Float, nullable=False),
    Index("routing_job_due", "state", "destination", "due_at"),
)

job_instance = Table(
    "routing_job_instance",
    metadata,
    Column("key", String(36), primary_key=True),
    Column("sop_instance_uid", String(64), primary_key=True),
    Column("reason", Text, nullable=False),
    comment="instances of a job that is not sent that are done: they arrived, or were refused (reason)",
)

prior_search = Table(
    "routing_prior_search",
    metadata,
    Column("study_instance_uid", String(64), primary_key=True),
    Column("destination", String(64), primary_key=True),
    Column("state", String(8), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("due_at", Float, nullable=False),
    Column("queued_at", Float, nullable=False),
    Column("holder", String(120), nullable=False),
    Column("held_until", Float, nullable=False),
    Index("routing_prior_search_due", "state", "destination", "due_at"),
)

fetched_prior = Table(
    "routing_fetched_prior",
    metadata,
    Column("study_instance_uid", String(64), primary_key=True),
    Column("destination", String(64), primary_key=True),
    Column("state", String(8), nullable=False),
    Column("kept", Integer, nullable=False),
    Column("refused", Integer, nullable=False),
    Column("expected", Integer),
    Column("reason", Text, nullable=False),
    Column("fetched_at", Float, nullable=False),
    comment="of each prior that was fetched, how its last fetch went",
)
