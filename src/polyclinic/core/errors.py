"""Errors that cross rooms: a stable code, what to do next, and never patient data.

The tree says what the caller may do: `Rejected` is never retried, `Conflict` is re-read and tried again by a
person, `Unavailable` is retried by the machine. An agent that cannot judge a study does not raise: it abstains.
"""

from __future__ import annotations


class PolyclinicError(Exception):
    """Base of every error the platform raises on purpose.

    Parameters
    ----------
    code
        Stable, machine-readable, e.g. ``"archive.duplicate-other-bytes"``.
    message
        What happened and what to do, one sentence, without patient data.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} [{code}]")
        self.code = code
        self.message = message


class Rejected(PolyclinicError):
    """The input can never be accepted as it is; trying again changes nothing."""


class Forbidden(Rejected):
    """The actor may not do this; the message names the missing permission, not the resource's content."""


class NotFound(Rejected):
    """There is no such thing, or the actor may not know that there is."""


class Conflict(PolyclinicError):
    """Somebody else changed it first: read again, then decide again."""


class Unavailable(PolyclinicError):
    """A part that should answer did not; the same call may succeed later."""
