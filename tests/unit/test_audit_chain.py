"""The audit ledger: any edit, gap, move or cut is found at its row."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, update

from polyclinic.core.audit import AgentKind, AuditEntry, AuditOutcome
from polyclinic.core.errors import Rejected
from polyclinic.departments.access.audit import (
    GENESIS_SHA256,
    Damage,
    Problem,
    chain,
    check_chain,
    link,
    sign_anchor,
)
from polyclinic.departments.access.audit_anchor import ANCHOR_NAME, Anchorage, load_key, read_anchors
from polyclinic.departments.access.audit_store import Ledger, Question, ledger, metadata
from polyclinic.edges.sql.engine import open_engine, writing

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def entry(number: int = 0, **changes: object) -> AuditEntry:
    plain = AuditEntry(
        at=AT + timedelta(seconds=number),
        action="study.read",
        outcome=AuditOutcome.ALLOWED,
        agent_kind=AgentKind.PERSON,
        agent_id=f"person-{number % 3}",
        roles=("radiologist",),
        address="127.0.0.1",
        study_instance_uid=f"1.2.{number % 4}",
        patient_id=f"P{number % 2}",
        issuer="SITE-A",
        detail={"count": str(number)},
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.fixture
def kept(tmp_path: Path) -> Ledger:
    """A ledger of ten entries."""
    engine = open_engine(f"sqlite:///{tmp_path / 'house.sqlite'}")
    metadata.create_all(engine)
    made = Ledger(engine, writing)
    made.append([entry(n) for n in range(4)])
    made.append([entry(n) for n in range(4, 10)])
    return made


def found(kept: Ledger) -> list[tuple[int, Damage]]:
    return [(problem.sequence, problem.damage) for problem in kept.verify().problems]


def change(kept: Ledger, *statements: object) -> None:
    with kept._engine.begin() as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]


def row(kept: Ledger, sequence: int) -> dict[str, object]:
    with kept._engine.connect() as connection:
        return dict(connection.execute(select(ledger).where(ledger.c.sequence == sequence)).mappings().one())


def test_what_was_appended_is_intact_and_comes_back(kept: Ledger) -> None:
    verification = kept.verify()
    assert verification.intact
    assert (verification.rows, verification.last_sequence) == (10, 10)
    assert [one.entry for one in kept.entries()] == [entry(n) for n in range(10)]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("at_us", 1),
        ("action", "study.export"),
        ("outcome", "denied"),
        ("outcome", "maybe"),
        ("agent_kind", "system"),
        ("agent_id", "person-other"),
        ("roles", "administrator"),
        ("roles", "radiologist,"),
        ("address", "192.0.2.1"),
        ("study_instance_uid", "1.2.99"),
        ("patient_id", "P99"),
        ("issuer", ""),
        ("detail", '{"count":"9999"}'),
        ("detail", '{"count": "5"}'),
        ("detail", "no json"),
        ("sha256", "0" * 64),
    ],
)
def test_an_edit_of_any_column_is_found_at_its_row(kept: Ledger, column: str, value: object) -> None:
    change(kept, update(ledger).where(ledger.c.sequence == 6).values({column: value}))
    problems = found(kept)
    assert problems[0] == (6, Damage.EDITED)
    # A hash that was changed does not fit the row that follows either; nothing else is touched.
    assert {sequence for sequence, _ in problems[1:]} <= {7}


def test_an_edited_row_whose_hash_was_made_anew_is_found_at_the_next(kept: Ledger) -> None:
    before = str(row(kept, 5)["sha256"])
    forged = entry(5, agent_id="somebody-else")
    values = {"agent_id": "somebody-else", "sha256": link(before, 6, forged)}
    change(kept, update(ledger).where(ledger.c.sequence == 6).values(values))
    assert found(kept) == [(7, Damage.EDITED)]


@pytest.mark.parametrize(("gone", "first"), [([1], 1), ([4, 5], 4), ([9], 9), ([2, 8], 2)])
def test_rows_taken_out_are_missed_where_they_were(kept: Ledger, gone: list[int], first: int) -> None:
    change(kept, delete(ledger).where(ledger.c.sequence.in_(gone)))
    assert found(kept)[0] == (first, Damage.MISSING)
    assert all(damage is Damage.MISSING for _, damage in found(kept))


def test_a_gap_that_is_closed_by_renumbering_is_found(kept: Ledger) -> None:
    change(kept, delete(ledger).where(ledger.c.sequence == 4))
    for sequence in range(5, 11):
        change(kept, update(ledger).where(ledger.c.sequence == sequence).values(sequence=sequence - 1))
    assert found(kept)[0] == (4, Damage.EDITED)


def test_two_rows_that_changed_places_are_found(kept: Ledger) -> None:
    three, eight = row(kept, 3), row(kept, 8)
    change(
        kept,
        delete(ledger).where(ledger.c.sequence.in_([3, 8])),
        insert(ledger).values({**three, "sequence": 8}),
        insert(ledger).values({**eight, "sequence": 3}),
    )
    assert {(3, Damage.EDITED), (8, Damage.EDITED)} <= set(found(kept))


def test_a_row_put_in_is_found(kept: Ledger) -> None:
    change(kept, insert(ledger).values({**row(kept, 10), "sequence": 11, "agent_id": "invented"}))
    assert found(kept) == [(11, Damage.EDITED)]


def test_a_cut_end_is_found_by_the_anchor_only(kept: Ledger, tmp_path: Path) -> None:
    Anchorage(kept, tmp_path, every_s=60).write()
    anchors, key = read_anchors(tmp_path / ANCHOR_NAME), load_key(tmp_path)
    assert kept.verify(anchors, key).anchors_matched == 1
    change(kept, delete(ledger).where(ledger.c.sequence > 7))
    assert kept.verify().intact
    (problem,) = kept.verify(anchors, key).problems
    assert (problem.sequence, problem.damage) == (8, Damage.CUT)


def test_an_empty_ledger_does_not_pass_where_an_anchor_was(kept: Ledger, tmp_path: Path) -> None:
    Anchorage(kept, tmp_path, every_s=60).write()
    change(kept, delete(ledger))
    (problem,) = kept.verify(read_anchors(tmp_path / ANCHOR_NAME), load_key(tmp_path)).problems
    assert (problem.sequence, problem.damage) == (1, Damage.CUT)


def test_a_whole_chain_made_anew_is_found_by_the_anchor(kept: Ledger, tmp_path: Path) -> None:
    Anchorage(kept, tmp_path, every_s=60).write()
    change(kept, delete(ledger))
    kept.append([entry(n, agent_id="innocent") for n in range(10)])
    assert kept.verify().intact
    (problem,) = kept.verify(read_anchors(tmp_path / ANCHOR_NAME), load_key(tmp_path)).problems
    assert (problem.sequence, problem.damage) == (10, Damage.REWRITTEN)


def test_a_forged_anchor_is_named(kept: Ledger) -> None:
    sequence, sha256 = kept.head()
    forged = sign_anchor(b"another key", sequence, sha256, AT)
    (problem,) = kept.verify([forged], b"the key").problems
    assert problem.damage is Damage.ANCHOR


def test_an_anchor_is_written_when_it_is_time_and_one_a_day_stays(kept: Ledger, tmp_path: Path) -> None:
    now = AT
    anchorage = Anchorage(kept, tmp_path, every_s=60, clock=lambda: now)
    for number in range(5):
        anchorage.turn()
        kept.append([entry(number)])
        now += timedelta(hours=10)
    anchors = read_anchors(tmp_path / ANCHOR_NAME)
    assert [anchor.sequence for anchor in anchors] == [12, 14]
    assert kept.verify(anchors, load_key(tmp_path)).anchors_matched == 2
    now -= timedelta(hours=10) - timedelta(seconds=59)
    anchorage.turn()
    assert read_anchors(tmp_path / ANCHOR_NAME) == anchors


def test_an_anchor_of_rows_that_were_cut_off_is_not_written_over(kept: Ledger, tmp_path: Path) -> None:
    anchorage = Anchorage(kept, tmp_path, every_s=60)
    anchorage.write()
    change(kept, delete(ledger).where(ledger.c.sequence > 7))
    kept.append([entry(1), entry(2)])
    anchorage.write()
    assert [anchor.sequence for anchor in read_anchors(tmp_path / ANCHOR_NAME)] == [10]


def test_an_anchor_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / ANCHOR_NAME).write_text("nonsense\n")
    with pytest.raises(Rejected, match=r"audit\.bad-anchors"):
        read_anchors(tmp_path / ANCHOR_NAME)


def test_writers_that_append_at_once_make_one_chain(kept: Ledger) -> None:
    def many(number: int) -> None:
        for turn in range(10):
            kept.append([entry(100 * number + turn), entry(100 * number + turn + 50)])

    threads = [threading.Thread(target=many, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    verification = kept.verify()
    assert verification.intact
    assert verification.rows == 10 + 6 * 10 * 2


@pytest.mark.parametrize(
    "hostile", ["a\0b", "\ud800", "' OR 1=1 --", "x" * 200, "\u202e", "名", '","outcome":"denied'], ids=ascii
)
def test_hostile_text_is_kept_and_the_chain_stays_whole(kept: Ledger, hostile: str) -> None:
    for name in ("agent_id", "address", "study_instance_uid", "patient_id", "issuer"):
        kept.append([entry(1, **{name: hostile})])
    kept.append([entry(1, detail={"reason": hostile})])
    assert kept.verify().intact


def test_an_entry_with_too_much_detail_is_refused(kept: Ledger) -> None:
    with pytest.raises(Rejected, match=r"audit\.too-large"):
        kept.append([entry(1, detail={"reason": "x" * 301})])
    assert kept.head()[0] == 10


def test_entries_are_found_by_study_patient_person_and_time(kept: Ledger) -> None:
    def numbers(question: Question) -> list[int]:
        return [one.sequence for one in kept.find(question)]

    assert numbers(Question(study_instance_uids=("1.2.0",))) == [9, 5, 1]
    assert numbers(Question(patients=(("P1", "SITE-A"),))) == [10, 8, 6, 4, 2]
    assert numbers(Question(patients=(("P1", "OTHER"),))) == []
    assert numbers(Question(study_instance_uids=("1.2.0",), patients=(("P1", "SITE-A"),), limit=3)) == [10, 9, 8]
    assert numbers(Question(agent_id="person-0", since=AT + timedelta(seconds=4))) == [10, 7]
    assert numbers(Question(until=AT + timedelta(seconds=2))) == [2, 1]
    assert numbers(Question(before_sequence=3, action="study.read")) == [2, 1]


texts = st.text(max_size=12)
entries = st.builds(
    AuditEntry,
    at=st.timedeltas(timedelta(0), timedelta(days=30_000)).map(lambda later: AT + later),
    action=texts,
    outcome=st.sampled_from(AuditOutcome),
    agent_kind=st.sampled_from(AgentKind),
    agent_id=texts,
    roles=st.lists(texts, max_size=2).map(tuple),
    address=texts,
    study_instance_uid=texts,
    patient_id=texts,
    issuer=texts,
    detail=st.dictionaries(texts, texts, max_size=2),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(entries, min_size=2, max_size=8), st.data())
def test_law_one_changed_entry_is_found_exactly_there(made: list[AuditEntry], data: st.DataObject) -> None:
    rows = list(chain((0, GENESIS_SHA256), made))
    assert list(check_chain(rows)) == rows
    position = data.draw(st.integers(0, len(rows) - 1))
    other = data.draw(entries.filter(lambda e: e != made[position]))
    rows[position] = replace(rows[position], entry=other)
    problems = [one for one in check_chain(rows) if isinstance(one, Problem)]
    assert [(one.sequence, one.damage) for one in problems] == [(position + 1, Damage.EDITED)]
