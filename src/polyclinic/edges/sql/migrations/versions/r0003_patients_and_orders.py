"""Patients, orders and procedure steps of the record."""

from __future__ import annotations

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Patients, orders and procedure steps of the record."""
