"""Searches find what the rules say, in one order, whichever way into the index they take; and they do take one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, event, insert, select, text, update

from polyclinic.core.names import fold_name
from polyclinic.departments.archive import entrances, pages, schema, search
from polyclinic.departments.archive.search import Level, Query, find_studies, newest, reading
from polyclinic.departments.archive.tally import SCALES, count_studies, skip
from polyclinic.edges.sql.engine import open_engine
from polyclinic.screens import worklist_search

NAMES = (
    "Wang^Wei=王^伟",
    "Wang",
    "WANG^Xiao",
    "Li",
    "Lin^A",
    "Yamada=山田=やまだ",
    "Müller^J",
    "Wang=Wang^Wei",
    "",
    "Li=Lin=Lic",
)
NAME_KEYS = (
    "Wang*",
    "wang",
    "Wang^*",
    "王*",
    "やまだ",
    "L*",
    "Li",
    "=王*",
    "Wang*=王*",
    "*n*",
    "W?ng*",
    "Muller^j",
    "li*",
)
DATES = ("20240101", "20240102", "20240205", "20250101", "")
DATE_KEYS = ("20240101", "20240101-20240131", "-20240131", "20240201-")
COMBINATIONS = ("CT\\", "CT\\SR\\", "MR\\", "DX\\", "")
MODALITY_KEYS = ("CT", "SR", "MR\\DX", "C?", "PT")
PATIENTS = ("P1", "P2", "p1", "Q1")
STUDIES = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(DATES), st.sampled_from(COMBINATIONS), st.sampled_from(PATIENTS)),
    min_size=1,
    max_size=14,
)
KEYS = st.fixed_dictionaries(
    {},
    optional={
        "PatientName": st.sampled_from(NAME_KEYS),
        "StudyDate": st.sampled_from(DATE_KEYS),
        "ModalitiesInStudy": st.sampled_from(MODALITY_KEYS),
        "PatientID": st.sampled_from(("P1", "P*", "P?", "*1")),
        "StudyTime": st.just("10-12"),
    },
)
MICROSECONDS = st.integers(0, 1 << 43)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path_factory.mktemp('search') / 'index.db'}")
    schema.metadata.create_all(engine)
    yield engine
    engine.dispose()


def row(number: int, received_us: int = 0, **values: str) -> dict[str, object]:
    columns = {c.name: "" if c.type.python_type is str else 1 for c in schema.study.columns}
    uid = f"1.2.{number:05}"
    return {
        **columns,
        "study_instance_uid": uid,
        "last_received_at_us": received_us or number,
        "study_time": "110000",
        **values,
    }


def fill(engine: Engine, rows: list[dict[str, object]]) -> None:
    with engine.begin() as connection:
        connection.execute(delete(schema.study))
        connection.execute(insert(schema.study), rows)


def uids(rows: object) -> list[str]:
    return [one["study_instance_uid"] for one in rows]  # type: ignore[attr-defined]


@settings(max_examples=50, deadline=None)
@given(studies=STUDIES, keys=KEYS, limit=st.integers(1, 5))
def test_every_way_in_finds_the_same_in_the_same_order(
    engine: Engine, studies: list[tuple[str, str, str, str]], keys: dict[str, str], limit: int
) -> None:
    fill(
        engine,
        [
            row(number, patient_name_folded=fold_name(name), study_date=date, modalities=kinds, patient_id=patient)
            for number, (name, date, kinds, patient) in enumerate(studies, 1)
        ],
    )
    with engine.connect() as connection:
        checks = search._checks(Query(matches=keys), keys)
        expected = set(connection.execute(select(schema.study.c.study_instance_uid).where(*checks)).scalars())
    orders = []
    for few, very_few in ((0, 0), (1_000_000, 0), (1_000_000, 3)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(entrances, "FEW", few)
            patch.setattr(pages, "_VERY_FEW", very_few)
            patch.setattr(entrances.leads_to, "__defaults__", (few,))
            whole = uids(find_studies(engine, Query(matches=keys)))
            paged = [
                uid
                for offset in range(0, len(studies) + limit, limit)
                for uid in uids(find_studies(engine, Query(matches=keys, limit=limit, offset=offset)))
            ]
        assert paged == whole
        orders.append(whole)
    assert orders[0] == orders[1] == orders[2]
    assert sorted(orders[0]) == sorted(expected)
    with search.matches(engine, Level.STUDY, Query(matches=keys), ["StudyInstanceUID"]) as found:
        assert sorted(one["StudyInstanceUID"] for one in found) == sorted(expected)


@settings(max_examples=40, deadline=None)
@given(
    arrivals=st.lists(MICROSECONDS, min_size=1, max_size=20),
    moved=st.lists(st.tuples(st.integers(0, 19), MICROSECONDS), max_size=10),
    removed=st.sets(st.integers(0, 19)),
)
def test_a_page_at_any_depth_is_the_slice_of_the_list(
    engine: Engine, arrivals: list[int], moved: list[tuple[int, int]], removed: set[int]
) -> None:
    fill(engine, [row(number, received_us=us) for number, us in enumerate(arrivals)])
    study = schema.study.c
    with engine.begin() as connection:
        for number, us in moved:
            at = study.study_instance_uid == row(number)["study_instance_uid"]
            connection.execute(update(schema.study).where(at).values(last_received_at_us=us))
        for number in removed:
            at = study.study_instance_uid == row(number)["study_instance_uid"]
            connection.execute(delete(schema.study).where(at))
    with reading(engine) as connection:
        order = (study.last_received_at_us.desc(), study.study_instance_uid.desc())
        everything = list(connection.execute(select(study.study_instance_uid).order_by(*order)).scalars())
        assert count_studies(connection, schema.tally) == len(everything)
        for offset in range(len(everything) + 2):
            assert uids(newest(connection, limit=3, offset=offset)) == everything[offset : offset + 3]
        tallied = connection.execute(select(schema.tally)).all()
        assert all(one.studies > 0 for one in tallied)
        assert {one.scale for one in tallied} == (set(SCALES) if everything else set())


def test_a_deep_page_skips_by_numbers_not_by_rows(engine: Engine) -> None:
    fill(engine, [row(number, received_us=number << 27) for number in range(1, 200)])
    with reading(engine) as connection:
        assert skip(connection, schema.tally, 150) == ((49 * 2 + 1) << 26, 0)  # the 49th, at the end of its bucket
        assert skip(connection, schema.tally, 199) is None


@pytest.mark.parametrize(
    ("keys", "indexes"),
    [
        ({"PatientName": "Wang*"}, {"ix_archive_study_name_1", "ix_archive_study_name_2", "ix_archive_study_name_3"}),
        ({"PatientName": "王^伟"}, {"ix_archive_study_name_1", "ix_archive_study_name_2", "ix_archive_study_name_3"}),
        ({"StudyDate": "20240101-20240131"}, {"ix_archive_study_day"}),
        ({"StudyDate": "20240101"}, {"ix_archive_study_day"}),
        ({"ModalitiesInStudy": "CT"}, {"ix_archive_study_modalities"}),
        ({"ModalitiesInStudy": "CT", "StudyDate": "20240101-20240131"}, {"ix_archive_study_modalities"}),
        ({"PatientID": "P1"}, {"ix_archive_study_patient"}),
        ({"AccessionNumber": "A1"}, {"ix_archive_study_accession"}),
    ],
)
def test_no_search_goes_through_all_studies(engine: Engine, keys: dict[str, str], indexes: set[str]) -> None:
    fill(engine, [row(n, modalities=m, study_date="20240101") for n, m in enumerate(("CT\\", "CT\\SR\\", "MR\\"), 1)])

    def find() -> None:
        find_studies(engine, Query(matches=keys))
        with search.matches(engine, Level.STUDY, Query(matches=keys), ["StudyInstanceUID"]):
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entrances, "FEW", 0)
        plans = plan(engine, find)
    assert indexes <= {word for line in plans for word in line.split() if word.startswith("ix_")}
    assert not [line for line in plans if line.startswith("SCAN archive_study") and "INDEX" not in line]


def plan(engine: Engine, run: object) -> list[str]:
    """How SQLite goes about every statement that `run` executes."""
    lines: list[str] = []

    def explain(connection: object, cursor: object, statement: str, parameters: object, *_: object) -> None:
        if statement.startswith(("SELECT", "WITH")):
            found = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[attr-defined]
            lines.extend(line[3] for line in found)

    event.listen(engine, "before_cursor_execute", explain)
    try:
        run()  # type: ignore[operator]
    finally:
        event.remove(engine, "before_cursor_execute", explain)
    return lines


@pytest.mark.parametrize("few", [0, 1000])
@pytest.mark.parametrize(
    ("searched", "expected"),
    [
        ("wang", [1, 2, 3]),
        ("伟", [1]),
        ("王", [1]),
        ("p-1", [1, 2]),
        ("acc9", [3]),
        ("xiao", [2]),
        ("%", []),
        ("-1", []),
    ],
)
def test_the_worklist_finds_beginnings_and_parts_of_names(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, few: int, searched: str, expected: list[int]
) -> None:
    names = ("Wang^Wei=王^伟", "Wang^Xiao", "wang")
    patients, accessions = ("P-1", "P-10", "Q-1"), ("A1", "A2", "ACC9")
    fill(
        engine,
        [
            row(n, patient_name_folded=fold_name(name), patient_id=patient, accession_number=accession)
            for n, (name, patient, accession) in enumerate(zip(names, patients, accessions, strict=True), 1)
        ],
    )
    monkeypatch.setattr(worklist_search, "FEW", few)
    with reading(engine) as connection:
        hits = worklist_search.found(connection, searched)
        found = connection.execute(select(schema.study.c.study_instance_uid).where(hits.condition)).scalars()
        assert sorted(found) == [row(n)["study_instance_uid"] for n in expected]


def test_parts_of_names_are_looked_for_among_the_newest(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(engine, [row(n, patient_name_folded=fold_name(name)) for n, name in enumerate(("A^Wei", "B^Wei", "Wei"), 1)])
    monkeypatch.setattr(worklist_search, "RECENT_STUDIES", 2)
    with reading(engine) as connection:
        hits = worklist_search.found(connection, "wei")
        found = connection.execute(select(schema.study.c.study_instance_uid).where(hits.condition)).scalars()
        assert sorted(found) == [row(2)["study_instance_uid"], row(3)["study_instance_uid"]]


def test_statistics_do_not_lead_astray(engine: Engine) -> None:
    fill(engine, [row(n, patient_name_folded=f"name{n}", study_date="20240101") for n in range(1, 300)])
    with engine.begin() as connection:
        connection.execute(text("ANALYZE"))
    plans = plan(engine, lambda: find_studies(engine, Query(matches={"PatientName": "name1*", "StudyDate": "2024-"})))
    assert not [line for line in plans if line.startswith("SCAN archive_study") and "INDEX" not in line]
