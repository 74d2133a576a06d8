"""Tables of the worklist; times are seconds since 1970 UTC."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

item = Table(
    "workitems_item",
    metadata,
    Column("uid", String(64), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("transaction_uid", String(64), nullable=False),
    Column("performer", String(16), nullable=False),
    Column("run_id", String(36), nullable=False),
    Column("patient_id", Text, nullable=False),
    Column("study_instance_uid", String(64), nullable=False),
    Column("worklist_label", Text, nullable=False),
    Column("dataset", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    Index("ix_workitems_item_created", "created_at", "uid"),
    Index("ix_workitems_item_state", "state", "created_at"),
    Index("ix_workitems_item_patient", "patient_id"),
    Index("ix_workitems_item_study", "study_instance_uid"),
    Index("ix_workitems_item_performer", "performer", "state"),
)

subscription = Table(
    "workitems_subscription",
    metadata,
    Column("ae_title", String(16), primary_key=True),
    Column("workitem_uid", String(64), primary_key=True),
    Column("subscribed", Boolean, nullable=False),
    Column("deletion_lock", Boolean, nullable=False),
    Column("filter", Text, nullable=False),
    Column("suspended_at", Float, nullable=True),
    Index("ix_workitems_subscription_item", "workitem_uid"),
    comment="one for all (by its well-known UID), or of one workitem, which then counts more",
)

event = Table(
    "workitems_event",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("ae_title", String(16), nullable=False),
    Column("at", Float, nullable=False),
    Column("report", Text, nullable=False),
    Index("ix_workitems_event_ae", "ae_title", "number"),
    Index("ix_workitems_event_at", "at"),
    comment="event reports that wait for their subscriber's channel",
)
