"""Errors as OperationOutcome, with the HTTP status and issue type that R4 gives them."""

from __future__ import annotations

from collections.abc import Sequence

from polyclinic.core.errors import Conflict, Forbidden, NotFound, PolyclinicError, Rejected, Unavailable
from polyclinic.fhir.check import Fault
from polyclinic.fhir.json_text import Json

STATUS_OF_CODE = {
    "access.sign-in": 401,
    "access.locked": 429,
    "fhir.not-json": 400,
    "fhir.too-deep": 400,
    "fhir.bad-search": 400,
    "fhir.bad-structure": 400,
    "fhir.bad-request": 400,
    "fhir.bad-bundle": 400,
    "fhir.not-acceptable": 406,
    "fhir.media-type": 415,
    "fhir.not-offered": 405,
    "fhir.read-only": 405,
    "fhir.no-create-by-update": 405,
    "fhir.version-moved": 412,
    "fhir.several-match": 412,
    "records.no-page": 410,
}
_STATUS: tuple[tuple[type[PolyclinicError], int, str], ...] = (
    (Forbidden, 403, "forbidden"),
    (NotFound, 404, "not-found"),
    (Conflict, 409, "conflict"),
    (Unavailable, 503, "transient"),
    (Rejected, 422, "processing"),
)
_ISSUE = {
    400: "invalid",
    401: "login",
    404: "not-found",
    405: "not-supported",
    406: "not-supported",
    410: "not-found",
    412: "conflict",
    415: "not-supported",
    429: "throttled",
}


class Faulty(Rejected):
    """A resource whose structure R4 does not allow."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("fhir.bad-structure", "The resource is not as FHIR R4 describes it; see each issue")
        self.faults = tuple(faults)


def status_of(error: PolyclinicError) -> int:
    """The HTTP status of one of our errors."""
    if error.code in STATUS_OF_CODE:
        return STATUS_OF_CODE[error.code]
    return next((status for kind, status, _ in _STATUS if isinstance(error, kind)), 500)


def outcome_of(error: PolyclinicError) -> Json:
    """The OperationOutcome of one of our errors; the stable code is in ``details``."""
    status = status_of(error)
    kind = _ISSUE.get(status) or next((name for cls, _, name in _STATUS if isinstance(error, cls)), "exception")
    if isinstance(error, Faulty):
        return outcome([issue("invalid", fault.text, code=error.code, at=fault.path) for fault in error.faults])
    return outcome([issue(kind, error.message, code=error.code)])


def outcome(issues: Sequence[Json]) -> Json:
    """An OperationOutcome."""
    return {"resourceType": "OperationOutcome", "issue": list(issues)}


def issue(kind: str, text: str, *, severity: str = "error", code: str = "", at: str = "") -> Json:
    """One issue; `at` is a FHIRPath of element names."""
    out: Json = {"severity": severity, "code": kind, "diagnostics": text}
    if code:
        out["details"] = {"coding": [{"system": "urn:polyclinic:errors", "code": code}]}
    if at:
        out["expression"] = [at]
    return out


def warnings(texts: Sequence[str]) -> Json:
    """An OperationOutcome of what was done all the same, or of nothing but success."""
    if not texts:
        return outcome([issue("informational", "All went well", severity="information")])
    return outcome([issue("not-supported", text, severity="warning") for text in texts])
