"""Access: the table row by row, accounts, sessions, tokens and locks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from polyclinic.core.errors import Conflict, Forbidden, Rejected
from polyclinic.core.people import Person
from polyclinic.departments.access.contracts import Action, Actor, Resource, Role
from polyclinic.departments.access.rules import (
    ALLOWED_ROLES,
    OPEN_TO_ALL,
    csrf_token,
    decide,
    lock_s,
    same_token,
)
from polyclinic.departments.access.store import AccessStore
from polyclinic.edges.sql.engine import open_engine
from polyclinic.edges.sql.migrations import migrate

PASSWORD = "correct horse battery"
MAY: dict[Action, set[Role]] = {
    Action.METRICS_READ: {Role.ADMINISTRATOR},
    Action.WORKLIST_READ: {Role.RADIOLOGIST, Role.TECHNICIAN, Role.ADMINISTRATOR},
    Action.STUDY_READ: {Role.RADIOLOGIST, Role.TECHNICIAN, Role.ADMINISTRATOR},
    Action.FINDING_DECIDE: {Role.RADIOLOGIST},
    Action.REPORT_SIGN: {Role.RADIOLOGIST},
    Action.RUN_RETRY: {Role.RADIOLOGIST, Role.TECHNICIAN, Role.ADMINISTRATOR},
    Action.DICOM_SEARCH: {Role.RADIOLOGIST, Role.TECHNICIAN, Role.ADMINISTRATOR, Role.DEVICE},
    Action.DICOM_READ: {Role.RADIOLOGIST, Role.TECHNICIAN, Role.ADMINISTRATOR, Role.DEVICE},
    Action.DICOM_STORE: {Role.TECHNICIAN, Role.ADMINISTRATOR, Role.DEVICE},
    Action.DICOM_DELETE: {Role.ADMINISTRATOR},
    Action.WORKITEM_READ: {Role.RADIOLOGIST, Role.TECHNICIAN, Role.ADMINISTRATOR, Role.DEVICE},
    Action.WORKITEM_WORK: {Role.TECHNICIAN, Role.ADMINISTRATOR, Role.DEVICE},
    Action.AUDIT_READ: {Role.ADMINISTRATOR},
    Action.FHIR_READ: {Role.RADIOLOGIST, Role.TECHNICIAN, Role.ADMINISTRATOR, Role.DEVICE},
    Action.FHIR_WRITE: {Role.TECHNICIAN, Role.ADMINISTRATOR, Role.DEVICE},
}


def actor(*roles: str, sites: tuple[str, ...] = ("*",)) -> Actor:
    return Actor(person=Person(person_id="p", name="P", roles=frozenset(roles)), sites=frozenset(sites))


@pytest.mark.parametrize("action", list(MAY))
@pytest.mark.parametrize("role", list(Role))
def test_each_role_may_what_the_table_says(action: Action, role: Role) -> None:
    decision = decide(actor(role), action, Resource())
    assert decision.allowed == (role in MAY[action])
    assert decision.reason


@pytest.mark.parametrize("action", list(Action))
def test_nobody_may_only_what_is_open(action: Action) -> None:
    assert decide(None, action, Resource()).allowed == (action in OPEN_TO_ALL)


def test_this_test_knows_every_action() -> None:
    assert set(MAY) == set(ALLOWED_ROLES)
    assert set(MAY) | OPEN_TO_ALL == set(Action)


def test_an_agent_may_nothing() -> None:
    assert not any(decide(actor(Role.AGENT), action, Resource()).allowed for action in MAY)


@pytest.mark.parametrize(("sites", "allowed"), [(("north",), True), (("south",), False), (("*",), True), ((), False)])
def test_a_study_of_a_site_is_for_its_people(sites: tuple[str, ...], allowed: bool) -> None:
    resource = Resource(study_instance_uid="1.2", site="north")
    decision = decide(actor(Role.RADIOLOGIST, sites=sites), Action.STUDY_READ, resource)
    assert decision.allowed is allowed
    assert "1.2" not in decision.reason


def test_a_page_token_belongs_to_its_session_and_server() -> None:
    token = csrf_token(b"key", "session")
    assert same_token(token, csrf_token(b"key", "session"))
    assert not same_token(token, csrf_token(b"key", "other"))
    assert not same_token(token, csrf_token(b"another", "session"))
    assert not same_token("", token)


def test_locks_grow() -> None:
    assert [lock_s(n) for n in (0, 4, 5, 6, 50)] == [0.0, 0.0, 30.0, 60.0, 900.0]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AccessStore]:
    engine = open_engine(f"sqlite:///{tmp_path / 'access.sqlite'}")
    migrate(engine)
    made = AccessStore(engine)
    made.add_person(name="ann", display="Ann", roles={Role.RADIOLOGIST}, password=PASSWORD, sites={"north"})
    yield made
    engine.dispose()


def test_sign_in_gives_a_session_that_ends(store: AccessStore) -> None:
    session = store.sign_in("ann", PASSWORD, now=0.0, lasting_s=100.0)
    assert session.actor.person.name == "Ann"
    assert session.actor.sites == {"north"}
    assert store.session(session.token, now=99.0) == session
    assert store.session(session.token, now=101.0) is None
    assert store.session("guess", now=1.0) is None


def test_sign_out(store: AccessStore) -> None:
    session = store.sign_in("ann", PASSWORD, now=0.0, lasting_s=100.0)
    store.end_session(session.token)
    assert store.session(session.token, now=1.0) is None


def test_wrong_passwords_lock_for_a_while(store: AccessStore) -> None:
    for _ in range(5):
        with pytest.raises(Forbidden, match="wrong-password"):
            store.sign_in("ann", "wrong", now=0.0, lasting_s=1.0)
    with pytest.raises(Forbidden, match="locked"):
        store.sign_in("ann", PASSWORD, now=29.0, lasting_s=1.0)
    assert store.sign_in("ann", PASSWORD, now=31.0, lasting_s=1.0)


def test_no_secret_is_kept_in_the_clear(store: AccessStore, tmp_path: Path) -> None:
    session = store.sign_in("ann", PASSWORD, now=0.0, lasting_s=100.0)
    token = store.new_bearer(session.actor.person.person_id, "ct-1")
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("access.sqlite*"))
    for secret in (PASSWORD, session.token, token):
        assert secret.encode() not in kept


def test_bearer(store: AccessStore) -> None:
    person = store.add_person(name="ct-1", display="CT 1", roles={Role.DEVICE}, password=PASSWORD)
    found = store.bearer(store.new_bearer(person.person_id, "ct-1"))
    assert found is not None
    assert found.person == person
    assert store.bearer("guess") is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"roles": {"wizard"}}, "bad-role"),
        ({"roles": set()}, "bad-name"),
        ({"name": "  "}, "bad-name"),
        ({"name": "x" * 81}, "bad-name"),
        ({"password": "short"}, "weak-password"),
    ],
)
def test_an_account_that_cannot_be(store: AccessStore, changes: dict[str, object], code: str) -> None:
    values = {"name": "bob", "display": "Bob", "roles": {Role.RADIOLOGIST}, "password": PASSWORD} | changes
    with pytest.raises(Rejected, match=code):
        store.add_person(**values)


def test_a_name_is_taken_once(store: AccessStore) -> None:
    with pytest.raises(Conflict, match="name-taken"):
        store.add_person(name="ann", display="", roles={Role.DEVICE}, password=PASSWORD)
