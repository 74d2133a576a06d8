"""FHIR resources that others wrote."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """FHIR resources that others wrote."""
    op.create_table(
        "fhir_index",
        sa.Column("resource_type", sa.String(length=32), nullable=False),
        sa.Column("parameter", sa.String(length=32), nullable=False),
        sa.Column("value", sa.String(length=300), nullable=False),
        sa.Column("low_us", sa.BigInteger(), nullable=False),
        sa.Column("high_us", sa.BigInteger(), nullable=False),
        sa.Column("resource_id", sa.String(length=64), nullable=False),
        comment="what the current versions are found by",
    )
    with op.batch_alter_table("fhir_index", schema=None) as batch_op:
        batch_op.create_index("ix_fhir_index_resource", ["resource_type", "resource_id"], unique=False)
        batch_op.create_index(
            "ix_fhir_index_value", ["resource_type", "parameter", "value", "resource_id"], unique=False
        )

    op.create_table(
        "fhir_page",
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("person_id", sa.String(length=64), nullable=False),
        sa.Column("search", sa.Text(), nullable=False),
        sa.Column("made_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token"),
        comment="where a search goes on; addresses of next pages say nothing of what was searched",
    )
    with op.batch_alter_table("fhir_page", schema=None) as batch_op:
        batch_op.create_index("ix_fhir_page_made_at_us", ["made_at_us"], unique=False)

    op.create_table(
        "fhir_patient_id",
        sa.Column("resource_id", sa.String(length=64), nullable=False),
        sa.Column("patient_id", sa.String(length=128), nullable=False),
        sa.Column("issuer", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("resource_id"),
        sa.UniqueConstraint("patient_id", "issuer"),
        comment="addresses hold no patient identifier: they hold a name made from it",
    )

    op.create_table(
        "fhir_resource",
        sa.Column("resource_type", sa.String(length=32), nullable=False),
        sa.Column("resource_id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("current", sa.Boolean(), nullable=False),
        sa.Column("changed_at_us", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("resource_type", "resource_id", "version"),
        comment="one row a version; only `current` changes",
    )
    with op.batch_alter_table("fhir_resource", schema=None) as batch_op:
        batch_op.create_index("ix_fhir_resource_current", ["resource_type", "current", "resource_id"], unique=False)

    op.create_index("reading_proposal_finding_id", "reading_proposal", ["finding_id"], unique=False)
