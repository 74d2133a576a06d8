"""Local accounts, sessions and tokens. Passwords are kept as argon2 hashes, sessions and tokens as SHA-256."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Set
from typing import Any

import argon2
from sqlalchemy import (
    Boolean,
    Column,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from polyclinic.core.errors import Conflict, Forbidden, Rejected
from polyclinic.core.ids import stable_id
from polyclinic.core.people import Person
from polyclinic.departments.access.contracts import EVERY_SITE, Actor, Role, Session
from polyclinic.departments.access.rules import lock_s

metadata = MetaData()

account = Table(
    "access_account",
    metadata,
    Column("person_id", String(36), primary_key=True),
    Column("name", String(80), nullable=False, unique=True),
    Column("display", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("roles", Text, nullable=False),
    Column("sites", Text, nullable=False),
    Column("disabled", Boolean, nullable=False, default=False),
    Column("failures", Integer, nullable=False, default=0),
    Column("locked_until", Float, nullable=False, default=0.0),
)

session = Table(
    "access_session",
    metadata,
    Column("token_sha256", String(64), primary_key=True),
    Column("person_id", String(36), nullable=False, index=True),
    Column("expires_at", Float, nullable=False),
)

bearer = Table(
    "access_bearer",
    metadata,
    Column("token_sha256", String(64), primary_key=True),
    Column("person_id", String(36), nullable=False, index=True),
    Column("label", Text, nullable=False),
)

_SHORTEST_PASSWORD = 10
_hasher = argon2.PasswordHasher()
_NO_ACCOUNT = _hasher.hash(secrets.token_hex(16))
"""Checked when the name is not known, so that the answer takes as long as for a known one."""


class AccessStore:
    """Every method may be called from any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add_person(
        self,
        *,
        name: str,
        display: str,
        roles: Set[str],
        password: str,
        sites: Set[str] = frozenset({EVERY_SITE}),
    ) -> Person:
        """Make a local account.

        Raises
        ------
        Rejected
            ``access.bad-role``, ``access.bad-name`` or ``access.weak-password``.
        Conflict
            ``access.name-taken``.
        """
        if unknown := roles - {role.value for role in Role}:
            known = ", ".join(Role)
            raise Rejected("access.bad-role", f"There is no role {min(unknown)}; choose of {known}")
        if not name.strip() or len(name) > 80 or not roles:
            raise Rejected("access.bad-name", "An account needs a name of at most 80 characters and a role")
        if len(password) < _SHORTEST_PASSWORD:
            raise Rejected("access.weak-password", f"Choose a password of {_SHORTEST_PASSWORD} characters or more")
        row = {
            "person_id": stable_id("person", name.strip()),
            "name": name.strip(),
            "display": display.strip() or name.strip(),
            "password_hash": _hasher.hash(password),
            "roles": ",".join(sorted(roles)),
            "sites": ",".join(sorted(sites)),
        }
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(account).values(row))
        except IntegrityError as error:
            raise Conflict("access.name-taken", "An account with this name exists; choose another name") from error
        return _actor(row).person

    def person_named(self, name: str) -> Actor | None:
        """The account's owner, or None; used where the platform signs somebody in by itself."""
        with self._engine.connect() as connection:
            row = connection.execute(select(account).where(account.c.name == name)).first()
        return _actor(row._mapping) if row else None

    def sign_in(self, name: str, password: str, *, now: float, lasting_s: float) -> Session:
        """A new session for the right password.

        Raises
        ------
        Forbidden
            ``access.wrong-password``, also for a name that is not known, or ``access.locked``.
        """
        with self._engine.connect() as connection:
            row = connection.execute(select(account).where(account.c.name == name)).first()
        if row is not None and row.locked_until > now:
            raise Forbidden("access.locked", "Too many wrong passwords; wait some minutes, then try again")
        try:
            _hasher.verify(row.password_hash if row else _NO_ACCOUNT, password)
        except argon2.exceptions.VerifyMismatchError as error:
            self._note_failure(name, now)
            raise _wrong() from error
        if row is None or row.disabled:
            raise _wrong()
        self._set(name, failures=0, locked_until=0.0)
        return self.open_session(_actor(row._mapping), now=now, lasting_s=lasting_s)

    def open_session(self, actor: Actor, *, now: float, lasting_s: float) -> Session:
        """A session without a password; sessions that have ended are forgotten on the way."""
        token = secrets.token_urlsafe(32)
        row = {
            "token_sha256": _sha256(token),
            "person_id": actor.person.person_id,
            "expires_at": now + lasting_s,
        }
        with self._engine.begin() as connection:
            connection.execute(delete(session).where(session.c.expires_at < now))
            connection.execute(insert(session).values(row))
        return Session(token=token, actor=actor)

    def session(self, token: str, *, now: float) -> Session | None:
        """The session of a cookie, or None when it has ended or its owner is disabled."""
        actor = self._owner(session, token, session.c.expires_at > now)
        return Session(token=token, actor=actor) if actor else None

    def end_session(self, token: str) -> None:
        """Sign out."""
        with self._engine.begin() as connection:
            connection.execute(delete(session).where(session.c.token_sha256 == _sha256(token)))

    def new_bearer(self, person_id: str, label: str) -> str:
        """A token for a program; shown once, kept only as a hash."""
        token = secrets.token_urlsafe(32)
        row = {"token_sha256": _sha256(token), "person_id": person_id, "label": label}
        with self._engine.begin() as connection:
            connection.execute(insert(bearer).values(row))
        return token

    def bearer(self, token: str) -> Actor | None:
        """Who presents this token, or None."""
        return self._owner(bearer, token)

    def _owner(self, table: Table, token: str, *where: Any) -> Actor | None:
        query = (
            select(account)
            .join(table, table.c.person_id == account.c.person_id)
            .where(table.c.token_sha256 == _sha256(token), account.c.disabled.is_(False), *where)
        )
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        return _actor(row._mapping) if row else None

    def _note_failure(self, name: str, now: float) -> None:
        with self._engine.begin() as connection:
            failures = connection.execute(
                update(account)
                .where(account.c.name == name)
                .values(failures=account.c.failures + 1)
                .returning(account.c.failures)
            ).scalar_one_or_none()
            if failures and lock_s(failures):
                connection.execute(
                    update(account).where(account.c.name == name).values(locked_until=now + lock_s(failures))
                )

    def _set(self, name: str, **values: Any) -> None:
        with self._engine.begin() as connection:
            connection.execute(update(account).where(account.c.name == name).values(**values))


def _wrong() -> Forbidden:
    return Forbidden("access.wrong-password", "Name or password is wrong; try again")


def _actor(row: Any) -> Actor:
    return Actor(
        person=Person(person_id=row["person_id"], name=row["display"], roles=frozenset(row["roles"].split(","))),
        sites=frozenset(row["sites"].split(",")),
    )


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
