"""The finding of one measure of an organ, with how it lies to its published limits."""

from __future__ import annotations

from polyclinic.core import codes
from polyclinic.core.codes import Code
from polyclinic.core.findings import Attribute, Contour, Evidence, Finding, Measurement, Region
from polyclinic.core.guidelines.reference_limits import Judged
from polyclinic_agents.chest_ct.check import Chest
from polyclinic_agents.chest_ct.proposals import placed
from polyclinic_agents.chest_ct.scan import FloatArray


def measured(
    chest: Chest,
    *,
    kind: tuple[str, ...],
    code: Code,
    site: Code,
    measurement: Measurement,
    judged: Judged | None,
    middle: FloatArray,
    outline: tuple[Contour, ...],
    limits: tuple[str, ...],
) -> Finding:
    """A proposed finding with one measurement.

    Parameters
    ----------
    kind
        What makes its id: the same measure of the same series has the same id.
    judged
        None where no limit was published.
    middle
        Index ``(slice, row, column)`` of its middle on the scan.
    """
    return Finding(
        id=chest.origin.id(*kind),
        study_instance_uid=chest.origin.study_instance_uid,
        code=code,
        source=chest.origin.source,
        body_site=site,
        region=Region(
            frame_of_reference_uid=chest.scan.geometry.frame_of_reference_uid,
            centre_mm=placed(chest.scan.to_patient(middle)),
            contours=outline,
        ),
        measurements=(measurement,),
        attributes=(Attribute(code=codes.INTERPRETATION, value=_interpretation(judged)),),
        limits=limits,
        evidence=Evidence(
            images=tuple(contour.image for contour in outline),
            rules=(judged.rule,) if judged is not None and judged.rule is not None else (),
        ),
    )


def _interpretation(judged: Judged | None) -> Code:
    if judged is None or not judged.compared_with:
        return codes.MEASURED_ONLY
    return codes.BEYOND_LIMITS if judged.row is not None else codes.WITHIN_LIMITS
