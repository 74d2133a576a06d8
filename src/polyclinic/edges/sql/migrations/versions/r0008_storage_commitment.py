"""Storage commitments asked of the DICOM node, and by it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Storage commitments asked of the DICOM node, and by it."""
    op.create_table(
        "dimse_commitment",
        sa.Column("direction", sa.String(length=8), nullable=False),
        sa.Column("peer", sa.String(length=16), nullable=False),
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("instances", sa.Text(), nullable=False),
        sa.Column("failures", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("requested_at_us", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("direction", "peer", "transaction_uid"),
    )
    with op.batch_alter_table("dimse_commitment", schema=None) as batch_op:
        batch_op.create_index("ix_dimse_commitment_due", ["direction", "state", "next_attempt_at_us"], unique=False)
