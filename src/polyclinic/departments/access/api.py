"""The door: who is asking, may they, and signing in and out.

Every route names its action with ``Depends(gate.allow(Action...))``; a test walks all routes and finds any that do not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import HTTPConnection

from polyclinic.core.errors import Forbidden
from polyclinic.core.people import Person
from polyclinic.departments.access.audit_web import Audit, NoAudit
from polyclinic.departments.access.contracts import Action, Actor, Resource, Session
from polyclinic.departments.access.rules import OPEN_TO_ALL, csrf_token, decide, same_token
from polyclinic.departments.access.store import AccessStore

COOKIE = "polyclinic_session"
CSRF_HEADER = "X-CSRF-Token"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
NOBODY = Person(person_id="", name="", roles=frozenset())


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks: an actor, and the session when it came by cookie rather than by token."""

    actor: Actor | None = None
    session: Session | None = None


class Allow:
    """A dependency that lets a request pass or raises; gives the person who asks.

    `outer` stands before routes that ask the gate again by themselves, which is then what is recorded.
    """

    def __init__(self, gate: Gate, action: Action, *, outer: bool = False) -> None:
        self._gate = gate
        self.action = action
        self._outer = outer

    def __call__(self, request: HTTPConnection) -> Person:
        study = str(request.path_params.get("study_instance_uid", ""))
        return self._gate.check(request, self.action, study, recorded=not self._outer)


class Gate:
    """Finds out who asks and applies the access rules."""

    def __init__(
        self,
        store: AccessStore,
        *,
        secret: bytes,
        lasting_s: float,
        secure_cookie: bool,
        clock: Callable[[], float] = time.time,
        audit: Audit | None = None,
    ) -> None:
        self.store = store
        self.audit: Audit = audit or NoAudit()
        self._secret = secret
        self.lasting_s = lasting_s
        self._secure_cookie = secure_cookie
        self.clock = clock

    def allow(self, action: Action, *, outer: bool = False) -> Allow:
        """The dependency for a route that does `action`."""
        return Allow(self, action, outer=outer)

    def check(
        self, request: HTTPConnection, action: Action, study_instance_uid: str = "", *, recorded: bool = True
    ) -> Person:
        """Raise unless the asker may; a change that comes with a cookie must carry the page's token.

        Both answers go to the audit ledger, a change before it is done; `recorded` is False where the route asks again.

        Raises
        ------
        Forbidden
            ``access.sign-in`` (nobody is signed in), ``access.csrf`` or ``access.forbidden``.
        """
        caller = self.caller(request)
        try:
            self._decide(request, caller, action, study_instance_uid)
        except Forbidden as error:
            self.audit.refused(request, action, caller.actor, study_instance_uid, code=error.code)
            raise
        if recorded:
            self.audit.passed(request, action, caller.actor, study_instance_uid)
        return caller.actor.person if caller.actor else NOBODY

    def _decide(self, request: HTTPConnection, caller: Caller, action: Action, study_instance_uid: str) -> None:
        decision = decide(caller.actor, action, Resource(study_instance_uid=study_instance_uid))
        if not decision.allowed:
            if caller.actor is None:
                raise Forbidden("access.sign-in", "Sign in first")
            raise Forbidden("access.forbidden", f"You may not do this: {decision.reason}")
        changes = request.scope.get("method", "GET") not in _SAFE_METHODS and action not in OPEN_TO_ALL
        if caller.session is not None and changes:
            self.check_csrf(request, caller.session)

    def check_csrf(self, request: HTTPConnection, session: Session) -> None:
        """Raise when a change does not carry the token of the session."""
        if not same_token(request.headers.get(CSRF_HEADER, ""), csrf_token(self._secret, session.token)):
            raise Forbidden("access.csrf", f"The header {CSRF_HEADER} is missing or old; reload the page")

    def caller(self, request: HTTPConnection) -> Caller:
        """Who asks, by bearer token or by cookie; looked up once a request."""
        known = getattr(request.state, "caller", None)
        if isinstance(known, Caller):
            return known
        found = Caller()
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            found = Caller(actor=self.store.bearer(token.strip()))
        elif cookie := request.cookies.get(COOKIE):
            session = self.store.session(cookie, now=self.clock())
            if session is not None:
                found = Caller(actor=session.actor, session=session)
        request.state.caller = found
        return found

    def set_cookie(self, response: Response, session: Session) -> None:
        """Give the browser its session."""
        response.set_cookie(
            COOKIE,
            session.token,
            max_age=int(self.lasting_s),
            httponly=True,
            samesite="strict",
            secure=self._secure_cookie,
            path="/",
        )

    def describe(self, session: Session | None, *, demo: bool, version: str) -> dict[str, Any]:
        """What a page may know of its session."""
        person = session.actor.person if session else None
        return {
            "person": {"id": person.person_id, "name": person.name, "roles": sorted(person.roles)} if person else None,
            "csrf": csrf_token(self._secret, session.token) if session else None,
            "demo": demo,
            "version": version,
        }


class SignIn(BaseModel):
    """Name and password."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=80)
    password: str = Field(min_length=1, max_length=200)


def session_router(gate: Gate, *, version: str, demo_reader: Actor | None = None) -> APIRouter:
    """``/session``: who is signed in, sign in, sign out.

    Parameters
    ----------
    demo_reader
        Signed in by itself when nobody is; only ever given when the server listens on loopback.
    """
    router = APIRouter(tags=["session"], dependencies=[Depends(gate.allow(Action.SESSION_USE))])
    demo = demo_reader is not None

    def recorded(request: Request, action: str, session: Session) -> None:
        person = session.actor.person
        gate.audit.session(request, action, person_id=person.person_id, roles=person.roles)

    @router.get("/session", operation_id="getSession")
    def get_session(request: Request, response: Response) -> dict[str, Any]:
        session = gate.caller(request).session
        if session is None and demo_reader is not None:
            session = gate.store.open_session(demo_reader, now=gate.clock(), lasting_s=gate.lasting_s)
            recorded(request, "session.sign-in", session)
            gate.set_cookie(response, session)
        return gate.describe(session, demo=demo, version=version)

    @router.post("/session", operation_id="signIn")
    def sign_in(form: SignIn, request: Request, response: Response) -> dict[str, Any]:
        try:
            session = gate.store.sign_in(form.name, form.password, now=gate.clock(), lasting_s=gate.lasting_s)
        except Forbidden as error:
            # Not the name as it was typed: people type their password there.
            known = gate.store.person_named(form.name)
            person_id = known.person.person_id if known else ""
            gate.audit.session(request, "session.sign-in", person_id=person_id, roles=frozenset(), code=error.code)
            raise
        recorded(request, "session.sign-in", session)
        gate.set_cookie(response, session)
        return gate.describe(session, demo=demo, version=version)

    @router.delete("/session", operation_id="signOut")
    def sign_out(request: Request, response: Response) -> dict[str, Any]:
        session = gate.caller(request).session
        if session is not None:
            gate.check_csrf(request, session)
            recorded(request, "session.sign-out", session)
            gate.store.end_session(session.token)
        response.delete_cookie(COOKIE, path="/")
        return gate.describe(None, demo=demo, version=version)

    return router
