"""ADT messages: who a patient is, and who turned out to be the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from polyclinic.departments.records.patients import PatientKey, PatientRecord
from polyclinic.edges.hl7v2.acknowledge import Answer, ErrorCode, NotTaken, Refusal
from polyclinic.edges.hl7v2.er7 import Field, Message, Segment
from polyclinic.edges.hl7v2.fields import day_of, patient_key, person_name

UPDATES = frozenset({"A01", "A02", "A03", "A04", "A05", "A06", "A07", "A08", "A28", "A31"})
"""Events whose PID and PV1 say how the patient stands now."""
MERGES = frozenset({"A40", "A47"})
"""Events whose MRG names an identity that lives on in that of PID."""
_SEXES = {"M": "M", "F": "F", "O": "O", "A": "O"}
_CLASSES = ("I", "O", "E")
_LOCATION_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Identification:
    """What PID and PV1 say of a patient. A field that is absent is left as it was, one with ``""`` is emptied."""

    key: PatientKey
    person: Segment
    visit: Segment | None

    def applied_to(self, kept: PatientRecord | None) -> PatientRecord:
        """The record as it is after this message."""
        record = kept or PatientRecord(key=self.key, name="")
        names = self.person.repetitions(5)
        if names:
            record = replace(record, name="" if names[0].is_null else person_name(names) or record.name)
        if born := self.person.field(7):
            record = replace(record, birth_date=None if born.is_null else day_of(born.text()) or record.birth_date)
        if sex := self.person.field(8):
            record = replace(record, sex=_SEXES.get(sex.text().upper(), ""))
        if self.visit is None:
            return record
        if patient_class := self.visit.field(2):
            said = patient_class.text().upper()
            record = replace(record, patient_class=said if said in _CLASSES else "")
        if location := self.visit.field(3):
            record = replace(record, location=_location(location))
        return record


def identification(message: Message, person: Segment, *, site_issuer: str) -> Identification:
    """What a message says in a PID segment.

    Raises
    ------
    NotTaken
        When PID names no identifier.
    """
    key = patient_key(person.repetitions(3), site_issuer=site_issuer)
    key = key or patient_key(person.repetitions(2), site_issuer=site_issuer)
    if key is None:
        raise _missing("PID", 3, "PID-3 must name the patient's identifier")
    return Identification(key=key, person=person, visit=message.first("PV1"))


def person_segment(message: Message) -> Segment:
    """The PID segment. Raises `NotTaken` when there is none."""
    person = message.first("PID")
    if person is None:
        text = "The message has no PID segment"
        raise NotTaken(Refusal(answer=Answer.ERROR, code=ErrorCode.SEGMENT_SEQUENCE, text=text, where=("PID", 0)))
    return person


def merges(message: Message, *, site_issuer: str) -> Iterator[tuple[Identification, PatientKey]]:
    """The pairs of an A40 or A47: who survives, and which identity is given up.

    Raises
    ------
    NotTaken
        When an MRG has no PID before it or names no identifier, or there is none at all.
    """
    person: Segment | None = None
    pairs = 0
    for segment in message.segments:
        if segment.name == "PID":
            person = segment
        elif segment.name == "MRG":
            prior = patient_key(segment.repetitions(1), site_issuer=site_issuer)
            if prior is None or person is None:
                raise _missing("MRG", 1, "MRG-1 must name the identifier that is given up, behind a PID segment")
            pairs += 1
            yield identification(message, person, site_issuer=site_issuer), prior
    if pairs == 0:
        raise _missing("MRG", 1, "A merge needs an MRG segment")


def _missing(segment: str, field: int, text: str) -> NotTaken:
    return NotTaken(Refusal(answer=Answer.ERROR, code=ErrorCode.REQUIRED_FIELD, text=text, where=(segment, field)))


def _location(field: Field) -> str:
    """PV1-3 (PL) in one line: point of care, room, bed, facility, as far as they are named."""
    return " ".join(filter(None, (field.text(n) for n in (1, 2, 3, 4))))[:_LOCATION_CHARACTERS]
