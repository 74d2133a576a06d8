"""Tables of the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Tables of the first release."""
    op.create_table(
        "archive_instance",
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(length=64), nullable=False),
        sa.Column("instance_number", sa.BigInteger(), nullable=True),
        sa.Column("rows", sa.Integer(), nullable=True),
        sa.Column("columns", sa.Integer(), nullable=True),
        sa.Column("number_of_frames", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=32), nullable=False),
        sa.Column("derived", sa.Boolean(), nullable=False),
        sa.Column("received_at_us", sa.BigInteger(), nullable=False),
        sa.Column("segment", sa.String(length=64), nullable=False),
        sa.Column("offset_bytes", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("dataset_offset", sa.Integer(), nullable=False),
        sa.Column("pixel_offset", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("sop_instance_uid"),
    )
    with op.batch_alter_table("archive_instance", schema=None) as batch_op:
        batch_op.create_index("ix_archive_instance_segment", ["segment", "offset_bytes"], unique=False)
        batch_op.create_index(
            "ix_archive_instance_series", ["study_instance_uid", "series_instance_uid", "instance_number"], unique=False
        )

    op.create_table(
        "archive_kept_aside",
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=32), nullable=False),
        sa.Column("received_at_us", sa.BigInteger(), nullable=False),
        sa.Column("segment", sa.String(length=64), nullable=False),
        sa.Column("offset_bytes", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("dataset_offset", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("sop_instance_uid", "sha256"),
    )
    with op.batch_alter_table("archive_kept_aside", schema=None) as batch_op:
        batch_op.create_index("ix_archive_kept_aside_segment", ["segment", "offset_bytes"], unique=False)
        batch_op.create_index("ix_archive_kept_aside_study", ["study_instance_uid"], unique=False)

    op.create_table(
        "archive_segment",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "archive_series",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("modality", sa.String(length=32), nullable=False),
        sa.Column("series_number", sa.BigInteger(), nullable=True),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("body_part", sa.String(length=64), nullable=False),
        sa.Column("station_name", sa.String(length=64), nullable=False),
        sa.Column("series_date", sa.String(length=16), nullable=False),
        sa.Column("series_time", sa.String(length=16), nullable=False),
        sa.Column("instance_count", sa.Integer(), nullable=False),
        sa.Column("derived", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", "series_instance_uid"),
    )
    with op.batch_alter_table("archive_series", schema=None) as batch_op:
        batch_op.create_index("ix_archive_series_uid", ["series_instance_uid"], unique=False)

    op.create_table(
        "archive_snapshot",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("made_at_us", sa.BigInteger(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("sop_instance_uids", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", "revision"),
    )
    op.create_table(
        "archive_study",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("patient_id", sa.String(length=128), nullable=False),
        sa.Column("issuer", sa.String(length=128), nullable=False),
        sa.Column("patient_name", sa.Text(), nullable=False),
        sa.Column("patient_name_folded", sa.Text(), nullable=False),
        sa.Column("birth_date", sa.String(length=16), nullable=False),
        sa.Column("sex", sa.String(length=16), nullable=False),
        sa.Column("study_date", sa.String(length=16), nullable=False),
        sa.Column("study_time", sa.String(length=16), nullable=False),
        sa.Column("accession_number", sa.String(length=64), nullable=False),
        sa.Column("study_id", sa.String(length=64), nullable=False),
        sa.Column("referring_physician_name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("modalities", sa.Text(), nullable=False),
        sa.Column("series_count", sa.Integer(), nullable=False),
        sa.Column("instance_count", sa.Integer(), nullable=False),
        sa.Column("primary_count", sa.Integer(), nullable=False),
        sa.Column("settled_count", sa.Integer(), nullable=False),
        sa.Column("kept_aside_count", sa.Integer(), nullable=False),
        sa.Column("first_received_at_us", sa.BigInteger(), nullable=False),
        sa.Column("last_received_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid"),
    )
    with op.batch_alter_table("archive_study", schema=None) as batch_op:
        batch_op.create_index("ix_archive_study_accession", ["accession_number"], unique=False)
        batch_op.create_index("ix_archive_study_date", ["study_date"], unique=False)
        batch_op.create_index("ix_archive_study_name", ["patient_name_folded"], unique=False)
        batch_op.create_index("ix_archive_study_newest", ["last_received_at_us", "study_instance_uid"], unique=False)
        batch_op.create_index("ix_archive_study_patient", ["patient_id", "issuer"], unique=False)
        batch_op.create_index(
            "ix_archive_study_unsettled",
            ["study_instance_uid"],
            unique=False,
            sqlite_where=sa.text("primary_count > settled_count"),
            postgresql_where=sa.text("primary_count > settled_count"),
        )

    op.create_table(
        "reading_agent_run",
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("queue", sa.String(length=16), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("fraction", sa.Float(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("queued_at", sa.Float(), nullable=False),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Column("worker", sa.String(length=80), nullable=False),
        sa.Column("lease_until", sa.Float(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("withheld", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_id"),
    )
    with op.batch_alter_table("reading_agent_run", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_reading_agent_run_study_instance_uid"), ["study_instance_uid"], unique=False
        )
        batch_op.create_index("reading_agent_run_state", ["state", "queue", "queued_at"], unique=False)

    op.create_table(
        "reading_agreement",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("agent_id", sa.String(length=64), nullable=False),
        sa.Column("agent_version", sa.String(length=32), nullable=False),
        sa.Column("accepted", sa.Integer(), nullable=False),
        sa.Column("edited", sa.Integer(), nullable=False),
        sa.Column("rejected", sa.Integer(), nullable=False),
        sa.Column("signed_at", sa.Float(), nullable=False),
        sa.UniqueConstraint("study_instance_uid", "revision", "agent_id", "agent_version"),
    )
    op.create_table(
        "reading_decision",
        sa.Column("origin", sa.String(length=80), nullable=False),
        sa.Column("finding_id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("origin", "finding_id", "version"),
        comment="appended, never changed; the key lets two people decide on a version only once",
    )
    with op.batch_alter_table("reading_decision", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_reading_decision_study_instance_uid"), ["study_instance_uid"], unique=False
        )

    op.create_table(
        "reading_delivery",
        sa.Column("key", sa.String(length=36), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("destination", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    with op.batch_alter_table("reading_delivery", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_reading_delivery_study_instance_uid"), ["study_instance_uid"], unique=False
        )
        batch_op.create_index("reading_delivery_due", ["state", "due_at"], unique=False)

    op.create_table(
        "reading_derived_object",
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("object", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sop_instance_uid"),
    )
    with op.batch_alter_table("reading_derived_object", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_reading_derived_object_study_instance_uid"), ["study_instance_uid"], unique=False
        )

    op.create_table(
        "reading_proposal",
        sa.Column("origin", sa.String(length=80), nullable=False),
        sa.Column("finding_id", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("finding", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("origin", "finding_id"),
        comment="origin is the run, or reader:STUDY for a finding that a person drew; never changed",
    )
    with op.batch_alter_table("reading_proposal", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_reading_proposal_study_instance_uid"), ["study_instance_uid"], unique=False
        )

    op.create_table(
        "reading_signature",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.Column("findings", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", "revision"),
        comment="what was signed, as it was; the key lets one person sign a revision",
    )
    op.create_table(
        "reading_study_run",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", "revision", "run_id"),
    )
    op.create_table(
        "reading_study_status",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("fraction", sa.Float(), nullable=False),
        sa.Column("urgency", sa.String(length=16), nullable=False),
        sa.Column("urgency_reason", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("finding_count", sa.Integer(), nullable=False),
        sa.Column("undecided", sa.Integer(), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.Column("lock", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid"),
    )
    with op.batch_alter_table("reading_study_status", schema=None) as batch_op:
        batch_op.create_index("reading_study_status_changed_at", ["changed_at"], unique=False)
        batch_op.create_index("reading_study_status_state", ["state"], unique=False)

    op.create_table(
        "records_context",
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", "revision"),
    )
    op.create_table(
        "access_account",
        sa.Column("person_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("display", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("roles", sa.Text(), nullable=False),
        sa.Column("sites", sa.Text(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("locked_until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("person_id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "access_bearer",
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("person_id", sa.String(length=36), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("token_sha256"),
    )
    with op.batch_alter_table("access_bearer", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_access_bearer_person_id"), ["person_id"], unique=False)

    op.create_table(
        "access_session",
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("person_id", sa.String(length=36), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("token_sha256"),
    )
    with op.batch_alter_table("access_session", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_access_session_person_id"), ["person_id"], unique=False)
