"""Studies follow what becomes known of their patient: merges and late corrections, with every step kept.

Files never change. The rows of the index get the new identity, and files of such studies leave with it
(`polyclinic.dicom.identity`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Engine, delete, func, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from polyclinic.core.names import fold_name
from polyclinic.core.people import Patient
from polyclinic.core.plain import from_plain, to_plain
from polyclinic.departments.archive import schema
from polyclinic.departments.archive.contracts import IdentityCorrection, IdentityStep
from polyclinic.departments.archive.identity_tables import correction, identity_step, known_identity
from polyclinic.departments.archive.intake import date_of

IDENTITY_COLUMNS = frozenset({"patient_id", "issuer", "patient_name", "patient_name_folded", "birth_date", "sex"})
_study = schema.study.c
_ADVISORY_LOCK = 7204
"""PostgreSQL: a new study and a correction of its patient must not pass each other unseen. SQLite has one writer."""


def follow(engine: Engine, change: IdentityCorrection) -> tuple[str, ...]:
    """Give the studies of an identity what is known of it now, in one transaction; idempotent.

    Returns
    -------
    tuple of str
        Study Instance UIDs of the studies that say something new.
    """
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _ADVISORY_LOCK})
        issuers = _spellings(change.issuer, change.site_issuer)
        mine = (_study.patient_id == change.patient_id, _study.issuer.in_(issuers))
        changed, outdated = [], [] if change.before is None else [change.before]
        for row in connection.execute(select(schema.study).where(*mine)).mappings().all():
            before = patient_of_row(row)
            after = corrected(before, change.patient, site_issuer=change.site_issuer)
            if after is not None:
                _write(connection, row["study_instance_uid"], before, after, said=(change.source, _at_us(change)))
                changed.append(row["study_instance_uid"])
                outdated.append(before)
        for issuer in issuers:
            _remember(connection, change, issuer, outdated)
        _lead_on(connection, change)
        connection.commit()
    return tuple(changed)


def file_under_known(connection: Connection, study_instance_uid: str, values: dict[str, Any]) -> None:
    """A study that has just come in goes to the patient that its identity means by now.

    So does one that was merged away before it came, and one with data that were corrected since; a study that was
    corrected itself before the index was made anew gets that identity back.
    """
    if connection.dialect.name != "sqlite":
        connection.execute(text("SELECT pg_advisory_xact_lock_shared(:number)"), {"number": _ADVISORY_LOCK})
    earlier = connection.execute(
        select(correction.c.patient).where(correction.c.study_instance_uid == study_instance_uid)
    ).scalar_one_or_none()
    if earlier is not None:
        _update_row(connection, study_instance_uid, from_plain(Patient, orjson.loads(earlier)))
        return
    here = (known_identity.c.patient_id == values["patient_id"], known_identity.c.issuer == values["issuer"])
    known = connection.execute(select(known_identity).where(*here)).first()
    if known is None:
        return
    before = patient_of_row(values)
    superseded = [from_plain(Patient, one) for one in orjson.loads(known.superseded)]
    if not known.merged and not any(_same(before, one) for one in superseded):
        return
    after = corrected(before, from_plain(Patient, orjson.loads(known.patient)), site_issuer="")
    if after is not None:
        _write(connection, study_instance_uid, before, after, said=(known.source, known.at_us))


def forget(connection: Connection, study_instance_uid: str) -> None:
    """A deleted study leaves no identity behind."""
    for table in (correction, identity_step):
        connection.execute(delete(table).where(table.c.study_instance_uid == study_instance_uid))


def keeps_identity(connection: Connection, study_instance_uid: str) -> bool:
    """Whether the study was corrected, so that its files no longer say whose it is."""
    query = select(correction.c.number).where(correction.c.study_instance_uid == study_instance_uid)
    return connection.execute(query).first() is not None


def number_of(study_instance_uid: Any) -> ColumnElement[int]:
    """How often the study in a column was corrected, as part of a query; 0 for nearly all."""
    latest = select(correction.c.number).where(correction.c.study_instance_uid == study_instance_uid)
    return func.coalesce(latest.correlate_except(correction).scalar_subquery(), 0).label("corrected")


def steps(connection: Connection, study_instance_uid: str) -> tuple[IdentityStep, ...]:
    """Every correction of a study, oldest first."""
    table = identity_step.c
    query = select(identity_step).where(table.study_instance_uid == study_instance_uid).order_by(table.number)
    return tuple(
        IdentityStep(
            number=row.number,
            before=from_plain(Patient, orjson.loads(row.before)),
            after=from_plain(Patient, orjson.loads(row.after)),
            source=row.source,
            at=schema.from_microseconds(row.at_us),
        )
        for row in connection.execute(query)
    )


def corrected(before: Patient, now: Patient, *, site_issuer: str) -> Patient | None:
    """What a study says of its patient once `now` is known; None when it says that already.

    What is unknown of the patient stays as the study says. The site's own issuer may be left out in images and then
    stays so. A name with groups that the hospital does not send is kept when the others agree.
    """
    issuer = before.issuer if now.issuer == site_issuer and not before.issuer else now.issuer
    after = replace(
        before,
        patient_id=now.patient_id,
        issuer=issuer,
        name=before.name if not now.name or _same_name(before.name, now.name) else now.name,
        birth_date=now.birth_date or before.birth_date,
        sex=now.sex or before.sex,
    )
    return None if after == before else after


def patient_of_row(row: Any) -> Patient:
    """The patient in the columns of a study row."""
    return Patient(
        patient_id=row["patient_id"],
        issuer=row["issuer"],
        name=row["patient_name"],
        birth_date=date_of(row["birth_date"]),
        sex=row["sex"],
    )


def _same(one: Patient, other: Patient) -> bool:
    return (fold_name(one.name), one.birth_date, one.sex) == (fold_name(other.name), other.birth_date, other.sex)


def _same_name(here: str, now: str) -> bool:
    """Whether every group that the new name has is in the old one."""
    ours, theirs = fold_name(here).split("="), fold_name(now).split("=")
    ours += [""] * (len(theirs) - len(ours))
    return all(not new or new == old for new, old in zip(theirs, ours, strict=False))


def _spellings(issuer: str, site_issuer: str) -> tuple[str, ...]:
    """The issuers that mean the same: the site's own may be left out."""
    return tuple(dict.fromkeys((issuer, *(("", site_issuer) if issuer in ("", site_issuer) else ()))))


def _remember(connection: Connection, change: IdentityCorrection, issuer: str, outdated: Sequence[Patient]) -> None:
    """Keep what the identity means now, for images that still come with what it was."""
    table = known_identity.c
    this = (table.patient_id == change.patient_id, table.issuer == issuer)
    known = connection.execute(select(table.superseded, table.merged).where(*this)).first()
    superseded: list[Any] = [] if known is None else orjson.loads(known.superseded)
    now = _as_known(change.patient, issuer, change.site_issuer)
    superseded += [plain for one in outdated if (plain := to_plain(one)) not in superseded]
    merged = change.merged or (known is not None and known.merged)
    values = {
        "merged": merged,
        "patient": orjson.dumps(to_plain(now)).decode(),
        "superseded": orjson.dumps(superseded).decode(),
        "into_patient_id": now.patient_id,
        "source": change.source[:64],
        "at_us": _at_us(change),
    }
    if known is not None:
        connection.execute(update(known_identity).where(*this).values(**values))
    elif merged or superseded:
        connection.execute(insert(known_identity).values(patient_id=change.patient_id, issuer=issuer, **values))


def _as_known(patient: Patient, issuer: str, site_issuer: str) -> Patient:
    """An image without an issuer gets none when the patient's is the site's own."""
    return replace(patient, issuer="") if not issuer and patient.issuer == site_issuer else patient


def _lead_on(connection: Connection, change: IdentityCorrection) -> None:
    """Identities that were merged into this one before mean what it means now."""
    table = known_identity.c
    spellings = _spellings(change.issuer, change.site_issuer)
    merged = (table.merged.is_(True), table.into_patient_id == change.patient_id)
    for row in connection.execute(select(known_identity).where(*merged)).all():
        into = from_plain(Patient, orjson.loads(row.patient))
        itself = row.patient_id == change.patient_id and row.issuer in spellings
        if itself or into.issuer not in spellings:
            continue
        now = _as_known(change.patient, row.issuer, change.site_issuer)
        connection.execute(
            update(known_identity)
            .where(table.patient_id == row.patient_id, table.issuer == row.issuer)
            .values(patient=orjson.dumps(to_plain(now)).decode(), into_patient_id=now.patient_id)
        )


def _write(
    connection: Connection, study_instance_uid: str, before: Patient, after: Patient, *, said: tuple[str, int]
) -> None:
    source, at_us = said
    latest = select(func.coalesce(func.max(identity_step.c.number), 0)).where(
        identity_step.c.study_instance_uid == study_instance_uid
    )
    number = int(connection.execute(latest).scalar_one()) + 1
    now = orjson.dumps(to_plain(after)).decode()
    step = {"before": orjson.dumps(to_plain(before)).decode(), "after": now, "source": source[:64], "at_us": at_us}
    this = {"study_instance_uid": study_instance_uid, "number": number}
    connection.execute(insert(identity_step), this | step)
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    put = dialect.insert(correction).values(**this, patient=now)
    connection.execute(
        put.on_conflict_do_update(index_elements=["study_instance_uid"], set_={"number": number, "patient": now})
    )
    _update_row(connection, study_instance_uid, after)


def _update_row(connection: Connection, study_instance_uid: str, patient: Patient) -> None:
    connection.execute(
        update(schema.study).where(_study.study_instance_uid == study_instance_uid).values(**columns_of(patient))
    )


def columns_of(patient: Patient) -> dict[str, str]:
    """The columns of a study row that say who the patient is."""
    born: date | None = patient.birth_date
    known: dict[str, str] = {"birth_date": born.strftime("%Y%m%d")} if born else {}
    return known | {
        "patient_id": patient.patient_id,
        "issuer": patient.issuer,
        "patient_name": patient.name,
        "patient_name_folded": fold_name(patient.name),
        "sex": patient.sex,
    }


def _at_us(change: IdentityCorrection) -> int:
    return schema.to_microseconds(change.at)
