"""Which messages were accepted: hashes only, kept as long as a sender may repeat one."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Engine, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from polyclinic.departments.records.ports import InboxEntry
from polyclinic.departments.records.tables import message, to_microseconds

KEPT_FOR = timedelta(days=30)
_FORGET_EVERY = 256


class SqlInbox:
    """Port `polyclinic.departments.records.ports.Inbox`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._noted = 0

    def accepted(self, entry: InboxEntry) -> bool:
        """See `Inbox.accepted`."""
        query = select(message.c.kind).where(
            message.c.sender_sha256 == entry.sender_sha256,
            message.c.control_id_sha256 == entry.control_id_sha256,
            message.c.body_sha256 == entry.body_sha256,
        )
        with self._engine.connect() as connection:
            return connection.execute(query).first() is not None

    def note(self, entry: InboxEntry) -> None:
        """See `Inbox.note`. Now and then what is older than `KEPT_FOR` is forgotten."""
        row = {
            "sender_sha256": entry.sender_sha256,
            "control_id_sha256": entry.control_id_sha256,
            "body_sha256": entry.body_sha256,
            "kind": entry.kind[:32],
            "received_at_us": to_microseconds(entry.received_at),
        }
        with self._engine.begin() as connection:
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            connection.execute(dialect.insert(message).values(row).on_conflict_do_nothing())
            if self._noted % _FORGET_EVERY == 0:
                oldest = to_microseconds(entry.received_at - KEPT_FOR)
                connection.execute(delete(message).where(message.c.received_at_us < oldest))
        self._noted += 1
