"""The ledger and the worklist on PostgreSQL: writers at once make one chain, and one claim wins."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgresql_server import postgresql
from sqlalchemy import Engine, update

from polyclinic.departments.access import audit_store
from polyclinic.departments.access.audit import Damage
from polyclinic.departments.access.audit_store import Ledger, Question, ledger
from polyclinic.departments.workitems import tables
from polyclinic.departments.workitems.contracts import State
from polyclinic.departments.workitems.store import Refused, WorkitemStore
from polyclinic.departments.workitems.subscriptions import Subscriptions
from polyclinic.edges.sql.engine import writing

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))
from test_audit_chain import entry
from test_workitems import new


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """With the tables of the ledger and the worklist."""
    with postgresql() as made:
        audit_store.metadata.create_all(made)
        tables.metadata.create_all(made)
        yield made


def at_once(work: list[threading.Thread]) -> None:
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()


def test_writers_at_once_make_one_chain_and_damage_is_found(engine: Engine) -> None:
    kept = Ledger(engine, writing)

    def many(number: int) -> None:
        for turn in range(25):
            kept.append([entry(100 * number + turn), entry(number, patient_id="王\0'\ud800")])

    at_once([threading.Thread(target=many, args=(number,)) for number in range(6)])
    verification = kept.verify()
    assert verification.intact
    assert verification.rows == verification.last_sequence == 300
    with engine.begin() as connection:
        connection.execute(update(ledger).where(ledger.c.sequence == 77).values(address="192.0.2.9"))
    assert [(p.sequence, p.damage) for p in kept.verify().problems] == [(77, Damage.EDITED)]
    assert kept.find(Question(study_instance_uids=("a\0",), patients=(("b\0", "\ud800"),), agent_id="c\0")) == ()


def test_of_many_who_claim_one_gets_the_work(engine: Engine) -> None:
    store, subscriptions = WorkitemStore(engine, writing), Subscriptions(engine, writing)
    store.create("1.2", new())
    subscriptions.subscribe("WATCHER", "1.2")
    won: list[str] = []

    def claim(lock: str) -> None:
        try:
            store.change_state("1.2", State.IN_PROGRESS, lock)
        except Refused:
            return
        won.append(lock)

    at_once([threading.Thread(target=claim, args=(f"1.9.{n}",)) for n in range(1, 9)])
    assert [store.get("1.2").transaction_uid] == won
    states = [report["00741000"]["Value"][0] for _, report in subscriptions.waiting("WATCHER")]
    assert states == ["SCHEDULED", "IN PROGRESS"]
