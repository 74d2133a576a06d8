"""Rows whose bytes did not reach the disk."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from polyclinic.departments.archive import schema
from polyclinic.departments.archive.counting import count_again
from polyclinic.departments.archive.segments import Segments


def take_back_row(connection: Connection, segments: Segments, segment: str, offset_bytes: int) -> bool:
    """Remove the row of the entry there, as if it had never come; whether there was one.

    A row is committed while the disk still writes its bytes, and the sender is answered after both. So this is about an
    instance that was never answered with success: the disk failed, or the power did.
    """
    for table in (schema.instance, schema.aside):
        here = (table.c.segment == segment, table.c.offset_bytes == offset_bytes)
        study_instance_uid = connection.execute(select(table.c.study_instance_uid).where(*here)).scalar()
        if study_instance_uid is not None:
            connection.execute(delete(table).where(*here))
            count_again(connection, segments, study_instance_uid)
            return True
    return False
