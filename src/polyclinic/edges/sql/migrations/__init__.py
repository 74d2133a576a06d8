"""The schema, forwards from every released one (Alembic).

A released revision is never edited; a change of a table adds the next one.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine

from polyclinic.core.errors import Rejected

FOLDER = Path(__file__).parent


def configuration() -> Config:
    """Alembic's configuration without a file of its own."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    return config


def migrate(engine: Engine) -> None:
    """Bring the database to the newest schema; harmless when it is there already.

    Raises
    ------
    Rejected
        ``sql.newer-schema`` when a newer version of the platform has used this database.
    """
    from alembic.util import CommandError  # noqa: PLC0415 - alembic loads much; most processes never migrate

    config = configuration()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise Rejected(
                "sql.newer-schema",
                "The database belongs to a newer version of Polyclinic; run that version, or restore an older backup",
            ) from error
