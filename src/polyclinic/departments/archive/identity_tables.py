"""Tables of corrected identities: what the hospital said later than the images did."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text

from polyclinic.departments.archive.schema import metadata

known_identity = Table(
    "archive_known_identity",  # what images that still carry an old identity are filed under
    metadata,
    Column("patient_id", String(128), primary_key=True),
    Column("issuer", String(128), primary_key=True),
    Column("merged", Boolean, nullable=False),
    Column("patient", Text, nullable=False),  # `polyclinic.core.people.Patient` as it is now
    Column("superseded", Text, nullable=False),  # a list of what it was before
    Column("into_patient_id", String(128), nullable=False),
    Column("source", String(64), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Index("ix_archive_known_identity_into", "into_patient_id"),
)

correction = Table(
    "archive_correction",  # a row for each study whose files say something else than its index row
    metadata,
    Column("study_instance_uid", String(64), primary_key=True),
    Column("number", Integer, nullable=False),  # of the latest step
    Column("patient", Text, nullable=False),
)

identity_step = Table(
    "archive_identity_step",
    metadata,
    Column("study_instance_uid", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("source", String(64), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    comment="appended, never changed",
)
