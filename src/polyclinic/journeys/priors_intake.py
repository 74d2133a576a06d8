"""The door for fetched priors: what comes is compared with who is meant, and kept without making a study arrive."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from polyclinic.core.errors import Rejected
from polyclinic.departments.archive.contracts import PRIOR_SOURCE
from polyclinic.departments.archive.file_meta import file_meta
from polyclinic.departments.archive.intake import Facts, examine_dataset, study_values
from polyclinic.departments.archive.ports import Archive
from polyclinic.departments.routing.contracts import Destination, PatientIdentity
from polyclinic.departments.routing.ports import Arriving
from polyclinic.departments.routing.priors import difference


@dataclass(slots=True)
class Expected:
    """A prior that is being fetched."""

    study_instance_uid: str
    identity: PatientIdentity
    source: Destination
    taken: set[str] = field(default_factory=set)
    refused: int = 0
    reason: str = ""


class PriorIntake:
    """Every method may be called from any thread.

    Parameters
    ----------
    ae_title
        Our own, which other archives name as the originator of what a C-MOVE of ours makes them send.
    """

    def __init__(self, archive: Archive, *, ae_title: str) -> None:
        self._archive = archive
        self._ae_title = ae_title
        self._lock = threading.Lock()
        self._expected: dict[str, Expected] = {}

    @contextmanager
    def expecting(self, study_instance_uid: str, identity: PatientIdentity, source: Destination) -> Iterator[Expected]:
        """Take the images of a study as a prior meanwhile."""
        expected = Expected(study_instance_uid, identity, source)
        with self._lock:
            self._expected[study_instance_uid] = expected
        try:
            yield expected
        finally:
            with self._lock:
                self._expected.pop(study_instance_uid, None)

    def keep(self, arriving: Arriving) -> None:
        """Keep one instance that came with C-GET.

        Raises
        ------
        Rejected
            ``priors.other-patient`` or ``priors.not-asked-for``, or as the archive says.
        Unavailable
            As the archive says.
        """
        facts = examine_dataset(arriving.dataset, arriving.transfer_syntax_uid)
        expected = self._expected.get(facts.study_instance_uid)
        if expected is None:
            raise Rejected("priors.not-asked-for", "The instance belongs to a study that was not asked for")
        self._check(expected, facts)
        meta = file_meta(
            sop_class_uid=facts.sop_class_uid,
            sop_instance_uid=facts.sop_instance_uid,
            transfer_syntax_uid=arriving.transfer_syntax_uid,
            source_ae_title=expected.source.ae_title,
        )
        self._archive.store(meta + bytes(arriving.dataset), source=PRIOR_SOURCE)

    def source_of(
        self, calling_ae_title: str, originator: str, dataset: bytes | memoryview, transfer_syntax_uid: str
    ) -> str:
        """What the DICOM node notes as the source of an instance that comes by C-STORE.

        It is a prior when its study is being fetched, and it comes from the archive that was asked or names us as the
        one who had it moved (Move Originator Application Entity Title, PS3.7 9.1.1.1); else it comes by itself.

        Raises
        ------
        Rejected
            ``priors.other-patient``, or as the archive says of a malformed one.
        """
        if not self._expected:
            return calling_ae_title
        facts = examine_dataset(dataset, transfer_syntax_uid)
        expected = self._expected.get(facts.study_instance_uid)
        if expected is None:
            return calling_ae_title
        if calling_ae_title != expected.source.ae_title and originator != self._ae_title:
            return calling_ae_title
        self._check(expected, facts)
        return PRIOR_SOURCE

    def _check(self, expected: Expected, facts: Facts) -> None:
        there = identity_of(facts)
        if not there.issuer:
            there = replace(there, issuer=expected.source.issuer)
        other = difference(expected.identity, there)
        with self._lock:
            if not other:
                expected.taken.add(facts.sop_instance_uid)
                return
            expected.refused += 1
            expected.reason = other
        raise Rejected(
            "priors.other-patient", f"An image of the prior is not kept, as it may be about somebody else: {other}"
        )


def identity_of(facts: Facts) -> PatientIdentity:
    """Whom an instance is about, by its own header."""
    values = study_values(facts.header)
    return PatientIdentity(
        patient_id=values["patient_id"],
        issuer=values["issuer"],
        birth_date=values["birth_date"],
        sex=values["sex"],
    )
