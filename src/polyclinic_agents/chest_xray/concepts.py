"""The concepts this agent proposes. No standard code says "pattern on a radiograph, cause open", so they are local."""

from __future__ import annotations

from polyclinic.core.codes import LOCAL, SNOMED_CT, Code

CHEST = Code(system=SNOMED_CT, code="51185008", display="Chest")
"""DICOM PS3.16 Annex L, Body Part Examined CHEST."""

OPACITY = Code(
    system=LOCAL,
    code="chest-xray-pneumonia-type-opacity",
    display="Pneumonia-type opacity on chest radiograph",
)
TUBERCULOSIS_PATTERN = Code(
    system=LOCAL,
    code="chest-xray-tuberculosis-pattern",
    display="Pattern suspicious for pulmonary tuberculosis on chest radiograph",
)
