"""How many studies there are, by time of their last arrival: a page at any depth is found without counting rows.

The database keeps the numbers itself, by triggers, whoever adds, moves or deletes studies. There are three scales of
buckets (2**40, 2**33 and 2**26 microseconds: 13 days, 2.4 hours, 67 seconds); a place in the list is found by adding up
some hundred of them.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Connection, Integer, MetaData, Table, event, func, select
from sqlalchemy.schema import DDL, ExecutableDDLElement

SCALES = (40, 33, 26)
"""Bits of a microsecond clock that a bucket leaves out."""


def tally_table(metadata: MetaData) -> Table:
    """The table, with the triggers that keep it."""
    table = Table(
        "archive_study_tally",
        metadata,
        Column("scale", Integer, primary_key=True, autoincrement=False),
        Column("bucket", BigInteger, primary_key=True, autoincrement=False),
        Column("studies", Integer, nullable=False),
    )
    for dialect, statements in (("sqlite", _SQLITE), ("postgresql", _POSTGRESQL)):
        for statement in statements:
            ddl: ExecutableDDLElement = DDL(statement)  # type: ignore[no-untyped-call]
            event.listen(metadata, "after_create", ddl.execute_if(dialect=dialect))
    return table


def count_studies(connection: Connection, tally: Table) -> int:
    """All studies."""
    total = select(func.coalesce(func.sum(tally.c.studies), 0)).where(tally.c.scale == SCALES[0])
    return int(connection.execute(total).scalar_one())


def skip(connection: Connection, tally: Table, offset: int) -> tuple[int, int] | None:
    """Where the list of studies, newest first, goes on after `offset` of them.

    Returns
    -------
    tuple or None
        The time of last arrival (microseconds) before which what is left begins, and how many studies must still be
        left out there; None when there are not so many.
    """
    upper: int | None = None
    for scale in SCALES:
        conditions = [tally.c.scale == scale]
        if upper is not None:
            width = SCALES[SCALES.index(scale) - 1] - scale
            conditions += [tally.c.bucket >= upper << width, tally.c.bucket < (upper + 1) << width]
        rows = connection.execute(
            select(tally.c.bucket, tally.c.studies).where(*conditions).order_by(tally.c.bucket.desc())
        )
        upper = None
        for bucket, studies in rows:
            if offset < studies:
                upper = bucket
                break
            offset -= studies
        rows.close()
        if upper is None:
            return None
    return (upper + 1 << SCALES[-1]), offset  # type: ignore[operator]


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
    return "".join(template.replace("@scale", str(scale)) for scale in SCALES)


_MOVES = "OLD.last_received_at_us >> @finest <> NEW.last_received_at_us >> @finest".replace("@finest", str(SCALES[-1]))
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
$tally$""".replace("@finest", str(SCALES[-1])).replace("@scales", ", ".join(map(str, SCALES))),
    "CREATE OR REPLACE TRIGGER archive_study_tallied AFTER INSERT OR DELETE OR UPDATE OF last_received_at_us "
    "ON archive_study FOR EACH ROW EXECUTE FUNCTION archive_study_tallied()",
]
