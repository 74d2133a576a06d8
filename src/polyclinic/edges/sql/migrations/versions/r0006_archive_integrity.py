"""Deletion, retention, search and integrity of the archive."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from polyclinic.edges.sql.migrations.archive_search import upgrade_search

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Deletion, retention, search and integrity of the archive."""
    upgrade_search()
    op.create_table(
        "archive_deletion",
        sa.Column("segment", sa.String(length=64), nullable=False),
        sa.Column("offset_bytes", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("kept_aside", sa.Boolean(), nullable=False),
        sa.Column("received_at_us", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.Column("deleted_by", sa.String(length=80), nullable=False),
        sa.Column("deleted_at_us", sa.BigInteger(), nullable=False),
        sa.Column("voided", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("segment", "offset_bytes"),
    )
    with op.batch_alter_table("archive_deletion", schema=None) as batch_op:
        batch_op.create_index("ix_archive_deletion_study", ["study_instance_uid", "deleted_at_us"], unique=False)
        batch_op.create_index("ix_archive_deletion_instance", ["sop_instance_uid"], unique=False)
        batch_op.create_index(
            "ix_archive_deletion_open",
            ["segment"],
            unique=False,
            sqlite_where=sa.text("NOT voided"),
            postgresql_where=sa.text("NOT voided"),
        )
