"""Tables of FHIR resources that other systems wrote, and of what FHIR's addresses stand for.

Times are microseconds since 1970 (UTC).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

from polyclinic.departments.records.rules import KEY_CHARACTERS

metadata = MetaData()

resource = Table(
    "fhir_resource",
    metadata,
    Column("resource_type", String(32), primary_key=True),
    Column("resource_id", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("current", Boolean, nullable=False),
    Column("changed_at_us", BigInteger, nullable=False),
    Column("source", String(64), nullable=False),  # id of the person or program that wrote it
    Column("body", Text, nullable=False),
    Index("ix_fhir_resource_current", "resource_type", "current", "resource_id"),
    comment="one row a version; only `current` changes",
)

entry = Table(
    "fhir_index",
    metadata,
    Column("resource_type", String(32), nullable=False),
    Column("parameter", String(32), nullable=False),
    Column("value", String(300), nullable=False),  # code or identifier value, Type/id, or empty for a date
    Column("low_us", BigInteger, nullable=False),
    Column("high_us", BigInteger, nullable=False),
    Column("resource_id", String(64), nullable=False),
    Index("ix_fhir_index_value", "resource_type", "parameter", "value", "resource_id"),
    Index("ix_fhir_index_resource", "resource_type", "resource_id"),
    comment="what the current versions are found by",
)

patient_id = Table(
    "fhir_patient_id",
    metadata,
    Column("resource_id", String(64), primary_key=True),
    Column("patient_id", String(KEY_CHARACTERS), nullable=False),
    Column("issuer", String(KEY_CHARACTERS), nullable=False),
    UniqueConstraint("patient_id", "issuer"),
    comment="addresses hold no patient identifier: they hold a name made from it",
)

page = Table(
    "fhir_page",
    metadata,
    Column("token", String(64), primary_key=True),
    Column("person_id", String(64), nullable=False),
    Column("search", Text, nullable=False),
    Column("made_at_us", BigInteger, nullable=False, index=True),
    comment="where a search goes on; addresses of next pages say nothing of what was searched",
)
