"""UPS workitems."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """UPS workitems."""
    op.create_table(
        "workitems_item",
        sa.Column("uid", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("performer", sa.String(length=16), nullable=False),
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("worklist_label", sa.Text(), nullable=False),
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("uid"),
    )
    with op.batch_alter_table("workitems_item", schema=None) as batch_op:
        batch_op.create_index("ix_workitems_item_created", ["created_at", "uid"], unique=False)
        batch_op.create_index("ix_workitems_item_state", ["state", "created_at"], unique=False)
        batch_op.create_index("ix_workitems_item_patient", ["patient_id"], unique=False)
        batch_op.create_index("ix_workitems_item_study", ["study_instance_uid"], unique=False)
        batch_op.create_index("ix_workitems_item_performer", ["performer", "state"], unique=False)

    op.create_table(
        "workitems_subscription",
        sa.Column("ae_title", sa.String(length=16), nullable=False),
        sa.Column("workitem_uid", sa.String(length=64), nullable=False),
        sa.Column("subscribed", sa.Boolean(), nullable=False),
        sa.Column("deletion_lock", sa.Boolean(), nullable=False),
        sa.Column("filter", sa.Text(), nullable=False),
        sa.Column("suspended_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("ae_title", "workitem_uid"),
        comment="one for all (by its well-known UID), or of one workitem, which then counts more",
    )
    with op.batch_alter_table("workitems_subscription", schema=None) as batch_op:
        batch_op.create_index("ix_workitems_subscription_item", ["workitem_uid"], unique=False)

    op.create_table(
        "workitems_event",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("ae_title", sa.String(length=16), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        comment="event reports that wait for their subscriber's channel",
    )
    with op.batch_alter_table("workitems_event", schema=None) as batch_op:
        batch_op.create_index("ix_workitems_event_ae", ["ae_title", "number"], unique=False)
        batch_op.create_index("ix_workitems_event_at", ["at"], unique=False)

    with op.batch_alter_table("reading_agent_run", schema=None) as batch_op:
        batch_op.create_index("reading_agent_run_queued_at", ["queued_at"], unique=False)
