"""What became of the instances of a STOW-RS request, one by one and together (PS3.18 10.5.3, I.2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from polyclinic.core.errors import PolyclinicError, Rejected, Unavailable
from polyclinic.departments.archive.contracts import Receipt
from polyclinic.departments.archive.intake import examine_file
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dicomweb.addresses import study_url
from polyclinic.edges.dicomweb.model import Json

SOURCE = "STOW-RS"
# Failure and warning reasons (PS3.18 table I.2-2, PS3.4 table B.2-1)
OUT_OF_RESOURCES = 0xA700
OTHER_STUDY = 0xA900
CANNOT_UNDERSTAND = 0xC000
PROCESSING_FAILURE = 0x0110
KEPT_ASIDE = 0xB000


@dataclass(slots=True)
class Outcome:
    """What became of the instances of one request."""

    kept: list[Json] = field(default_factory=list)
    failed: list[Json] = field(default_factory=list)
    warned: bool = False
    out_of_resources: bool = False
    studies: set[str] = field(default_factory=set)

    @property
    def status(self) -> int:
        """HTTP status (PS3.18 table 10.5.3-1)."""
        if self.failed and not self.kept:
            return 503 if self.out_of_resources else 409
        return 202 if self.failed or self.warned else 200


def keep_file(archive: SqlArchive, part10: bytes | memoryview, study: str | None, root: str) -> Outcome:
    """Keep one DICOM file and tell what became of it."""
    uids: Json = {}
    try:
        meta, facts = examine_file(part10)
        uids = reference(facts.sop_class_uid, facts.sop_instance_uid)
        if study is not None and facts.study_instance_uid != study:
            raise Rejected("dicomweb.other-study", "The instance belongs to another study than the address says")
        receipt = archive.store_examined(part10, meta, facts, source=SOURCE)
    except PolyclinicError as error:
        return Outcome(failed=[_failure(uids, error)], out_of_resources=isinstance(error, Unavailable))
    url = f"{study_url(root, facts.study_instance_uid)}/series/{facts.series_instance_uid}"
    kept = uids | {"00081190": {"vr": "UR", "Value": [f"{url}/instances/{facts.sop_instance_uid}"]}}
    if receipt is Receipt.KEPT_ASIDE:
        kept["00081196"] = {"vr": "US", "Value": [KEPT_ASIDE]}
    return Outcome(kept=[kept], warned=receipt is Receipt.KEPT_ASIDE, studies={facts.study_instance_uid})


def together(outcomes: Iterable[Outcome]) -> Outcome:
    """What became of all, in the order in which they were sent."""
    whole = Outcome()
    for one in outcomes:
        whole.kept += one.kept
        whole.failed += one.failed
        whole.warned |= one.warned
        whole.out_of_resources |= one.out_of_resources
        whole.studies |= one.studies
    return whole


def _failure(uids: Json, error: PolyclinicError) -> Json:
    return uids | {"00081197": {"vr": "US", "Value": [_reason(error)]}}


def cannot_understand(uids: Json) -> Outcome:
    """The outcome of something that makes no instance."""
    return Outcome(failed=[_failure(uids, Rejected("dicomweb.no-instance", "This makes no instance"))])


def not_dicom() -> Outcome:
    """The outcome of a part of another media type."""
    return cannot_understand({})


def _reason(error: PolyclinicError) -> int:
    if error.code == "archive.out-of-space":
        return OUT_OF_RESOURCES
    if isinstance(error, Unavailable):
        return PROCESSING_FAILURE
    return OTHER_STUDY if error.code == "dicomweb.other-study" else CANNOT_UNDERSTAND


def reference(sop_class_uid: str, sop_instance_uid: str) -> Json:
    return {
        "00081150": {"vr": "UI", "Value": [sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [sop_instance_uid]},
    }


def answer(outcome: Outcome, root: str) -> Json:
    """The Store Instances Response (PS3.18 table 10.5.3-2, I.2-1)."""
    out: Json = {}
    if len(outcome.studies) == 1:
        (study,) = outcome.studies
        out["00081190"] = {"vr": "UR", "Value": [study_url(root, study)]}
    if outcome.kept:
        out["00081199"] = {"vr": "SQ", "Value": outcome.kept}
    if outcome.failed:
        out["00081198"] = {"vr": "SQ", "Value": outcome.failed}
    return out
