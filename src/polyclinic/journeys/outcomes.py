"""Outcomes of agent runs in the object store. Where the document is, the whole outcome is."""

from __future__ import annotations

from polyclinic.agentkit.outcome import Outcome
from polyclinic.agentkit.outcome_files import DOCUMENT, files_of, outcome_from
from polyclinic.departments.reading.ports import Objects


def _key(run_id: str, name: str) -> str:
    return f"outcomes/{run_id}/{name}"


def keep_outcome(objects: Objects, run_id: str, outcome: Outcome) -> None:
    """Write the outcome, its document last. Doing it twice leaves the same files."""
    for name, content in files_of(outcome):
        objects.put(_key(run_id, name), content)


def has_outcome(objects: Objects, run_id: str) -> bool:
    """Whether the run's outcome is there, whole."""
    return objects.exists(_key(run_id, DOCUMENT))


def load_outcome(objects: Objects, run_id: str, *, masks: bool = True) -> Outcome:
    """The kept outcome; without its masks when they are not needed.

    Raises
    ------
    polyclinic.core.errors.NotFound
        ``objects.no-object``.
    """
    return outcome_from(lambda name: objects.get(_key(run_id, name)), masks=masks)
