"""A correction or merge that comes by FHIR reaches the studies, as one by HL7 does, and history shows both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fhir_house import MRN, fhir_house, patient

from polyclinic.core.ids import stable_uid
from polyclinic.journeys.identity import followed


def test_a_correction_and_a_merge_by_fhir_reach_the_archive(tmp_path: Path, part10: Callable[..., bytes]) -> None:
    with fhir_house(tmp_path) as house:
        archive, fhir, uid = house.services.archive, house.fhir(), stable_uid("study", "1")
        archive.store(part10(1, "1"), source="TEST")

        def follow() -> int:
            return followed(house.services.record, archive, site_issuer="", tell=lambda change, uids: None)

        (prior,) = fhir.found(f"/Patient?identifier={MRN}|P-1")
        corrected = prior | {"name": [{"family": "Corrected", "given": ["Late"]}]}
        assert fhir.put(f"/Patient/{prior['id']}", corrected, If_Match='W/"0"').status_code == 201
        assert follow() == 1
        assert archive.study(uid).patient.name == "Corrected^Late"

        into = fhir.post("/Patient", patient("P-9", name=[{"family": "Surviving"}])).json()
        link = {"other": {"reference": f"Patient/{into['id']}"}, "type": "replaced-by"}
        merged = fhir.put(f"/Patient/{prior['id']}", corrected | {"link": [link]}, If_Match='W/"1"')
        assert merged.status_code == 200
        assert fhir.ids(f"/ImagingStudy?patient={into['id']}") == [uid]  # before the archive has followed
        assert follow() == 2
        assert archive.study(uid).patient.patient_id == "P-9"
        (study,) = fhir.found("/ImagingStudy?patient.family=surviving")
        assert study["subject"]["reference"] == f"Patient/{into['id']}"
        assert fhir.ids(f"/ImagingStudy?patient={prior['id']}") == [uid]
        versions = fhir.get(f"/Patient/{prior['id']}/_history").json()["entry"]
        assert [(e["resource"]["active"], e["resource"]["name"][0]["family"]) for e in versions] == [
            (False, "Corrected"),
            (True, "Corrected"),
        ]
