"""Indexes and tallies for searches whose time does not grow with the archive; part of revision 0006.

The text is what `polyclinic.departments.archive` had then; a later change there comes as a revision of its own.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

_SCALES = (40, 33, 26)
_SQLITE_GROUPS = {
    1: "substr(patient_name_folded, 1, instr(patient_name_folded || '=', '=') - 1)",
    2: (
        "substr(substr(patient_name_folded, instr(patient_name_folded || '=', '=') + 1), 1, "
        "instr(substr(patient_name_folded, instr(patient_name_folded || '=', '=') + 1) || '=', '=') - 1)"
    ),
    3: (
        "substr(substr(substr(patient_name_folded, instr(patient_name_folded || '=', '=') + 1), "
        "instr(substr(patient_name_folded, instr(patient_name_folded || '=', '=') + 1) || '=', '=') + 1), 1, "
        "instr(substr(substr(patient_name_folded, instr(patient_name_folded || '=', '=') + 1), "
        "instr(substr(patient_name_folded, instr(patient_name_folded || '=', '=') + 1) || '=', '=') + 1) || '=', '=') "
        "- 1)"
    ),
}
_COMES = """
    INSERT INTO archive_study_tally (scale, bucket, studies) SELECT @scale, NEW.last_received_at_us >> @scale, 0
    WHERE NOT EXISTS (
        SELECT 1 FROM archive_study_tally WHERE scale = @scale AND bucket = NEW.last_received_at_us >> @scale
    );
    UPDATE archive_study_tally SET studies = studies + 1
    WHERE scale = @scale AND bucket = NEW.last_received_at_us >> @scale;"""
_GOES = """
    UPDATE archive_study_tally SET studies = studies - 1
    WHERE scale = @scale AND bucket = OLD.last_received_at_us >> @scale;
    DELETE FROM archive_study_tally
    WHERE scale = @scale AND bucket = OLD.last_received_at_us >> @scale AND studies = 0;"""


def _each_scale(template: str) -> str:
    return "".join(template.replace("@scale", str(scale)) for scale in _SCALES)


_MOVES = "OLD.last_received_at_us >> @finest <> NEW.last_received_at_us >> @finest".replace("@finest", str(_SCALES[-1]))
_SQLITE = [
    f"CREATE TRIGGER IF NOT EXISTS archive_study_added AFTER INSERT ON archive_study BEGIN {_each_scale(_COMES)} END",
    f"CREATE TRIGGER IF NOT EXISTS archive_study_removed AFTER DELETE ON archive_study BEGIN {_each_scale(_GOES)} END",
    "CREATE TRIGGER IF NOT EXISTS archive_study_moved AFTER UPDATE OF last_received_at_us ON archive_study "
    f"WHEN {_MOVES} BEGIN {_each_scale(_GOES)} {_each_scale(_COMES)} END",
]
_POSTGRESQL = [
    """
CREATE OR REPLACE FUNCTION archive_study_tallied() RETURNS trigger LANGUAGE plpgsql AS $tally$
DECLARE
    one integer;
BEGIN
    IF TG_OP = 'UPDATE' AND (OLD.last_received_at_us >> @finest) = (NEW.last_received_at_us >> @finest) THEN
        RETURN NULL;
    END IF;
    FOREACH one IN ARRAY ARRAY[@scales] LOOP
        IF TG_OP <> 'INSERT' THEN
            UPDATE archive_study_tally SET studies = studies - 1
            WHERE scale = one AND bucket = OLD.last_received_at_us >> one;
            DELETE FROM archive_study_tally
            WHERE scale = one AND bucket = OLD.last_received_at_us >> one AND studies = 0;
        END IF;
        IF TG_OP <> 'DELETE' THEN
            INSERT INTO archive_study_tally AS t (scale, bucket, studies)
            VALUES (one, NEW.last_received_at_us >> one, 1)
            ON CONFLICT (scale, bucket) DO UPDATE SET studies = t.studies + 1;
        END IF;
    END LOOP;
    RETURN NULL;
END
$tally$""".replace("@finest", str(_SCALES[-1])).replace("@scales", ", ".join(map(str, _SCALES))),
    "CREATE OR REPLACE TRIGGER archive_study_tallied AFTER INSERT OR DELETE OR UPDATE OF last_received_at_us "
    "ON archive_study FOR EACH ROW EXECUTE FUNCTION archive_study_tallied()",
]


def upgrade_search() -> None:
    """Indexes in the orders that pages have, and the tally of studies by arrival."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    with op.batch_alter_table("archive_study", schema=None) as batch_op:
        batch_op.drop_index("ix_archive_study_date")
        batch_op.drop_index("ix_archive_study_name")
        batch_op.create_index("ix_archive_study_day", ["study_date", "study_instance_uid"], unique=False)
        batch_op.create_index(
            "ix_archive_study_modalities", ["modalities", "study_date", "study_instance_uid"], unique=False
        )
        batch_op.create_index(
            "ix_archive_study_only_fetched",
            ["study_instance_uid"],
            unique=False,
            sqlite_where=sa.text("primary_count = 0"),
            postgresql_where=sa.text("primary_count = 0"),
        )
    for number, expression in _SQLITE_GROUPS.items():
        group = f"(split_part(patient_name_folded, '=', {number}) COLLATE \"C\")" if postgresql else expression
        find = "strpos" if postgresql else "instr"
        where = "" if number == 1 else f" WHERE {find}(patient_name_folded, '=') > 0"
        op.execute(f"CREATE INDEX ix_archive_study_name_{number} ON archive_study ({group}, study_instance_uid){where}")
    op.create_table(
        "archive_study_tally",
        sa.Column("scale", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("bucket", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("studies", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("scale", "bucket"),
    )
    for scale in _SCALES:
        op.execute(_FILL.replace("@scale", str(scale)))
    for statement in _POSTGRESQL if postgresql else _SQLITE:
        op.execute(statement)


_FILL = """
    INSERT INTO archive_study_tally (scale, bucket, studies)
    SELECT @scale, last_received_at_us >> @scale, count(*) FROM archive_study
    GROUP BY last_received_at_us >> @scale"""
