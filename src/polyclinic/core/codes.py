"""Coded concepts. `system` is the FHIR URI; `polyclinic.dicom` maps it to DICOM's coding scheme designator."""

from __future__ import annotations

from dataclasses import dataclass

SNOMED_CT = "http://snomed.info/sct"
LOINC = "http://loinc.org"
RADLEX = "http://radlex.org"
DCM = "http://dicom.nema.org/resources/ontology/DCM"
UCUM = "http://unitsofmeasure.org"
LOCAL = "urn:polyclinic:codes"
"""Concepts for which we found no standard code; written to DICOM with designator ``99POLYCLINIC``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A concept in a coding system, e.g. SNOMED CT 39607008 "Lung structure"."""

    system: str
    code: str
    display: str

    def same_as(self, other: Code) -> bool:
        """Whether both mean the same concept; the display text does not count."""
        return (self.system, self.code) == (other.system, other.code)


def _sct(code: str, display: str) -> Code:
    return Code(system=SNOMED_CT, code=code, display=display)


def _local(code: str, display: str) -> Code:
    return Code(system=LOCAL, code=code, display=display)


# Sites and sides
LUNG = _sct("39607008", "Lung structure")
LEFT_LUNG = _sct("44029006", "Left lung structure")
RIGHT_LUNG = _sct("3341006", "Right lung structure")
LEFT = _sct("7771000", "Left")
RIGHT = _sct("24028007", "Right")

# Findings
PULMONARY_NODULE = _sct("427359005", "Solitary nodule of lung")
EMPHYSEMA = _sct("87433001", "Pulmonary emphysema")
LUNG_VOLUME_FINDING = _local("lung-volume", "Lung volume on CT")

# Measurements
LONG_AXIS = _sct("103339001", "Long axis")
SHORT_AXIS = _sct("103340004", "Short axis")
MEAN_DIAMETER = _local("mean-diameter", "Mean of long and short axis")
VOLUME = _sct("118565006", "Volume")
LAA_950 = _local("laa-950", "Lung volume below -950 HU")
PERC_15 = _local("perc-15", "15th percentile of lung attenuation")
MEAN_ATTENUATION = _local("mean-attenuation", "Mean attenuation")

# Attributes of a nodule
NODULE_ATTENUATION = _local("nodule-attenuation", "Nodule attenuation type")
SOLID = _local("solid", "Solid")
PART_SOLID = _local("part-solid", "Part-solid")
GROUND_GLASS = _local("ground-glass", "Ground-glass")
CALCIFIED = _local("calcified", "Calcified")

# More measurements
SOLID_COMPONENT = _local("solid-component", "Mean diameter of the solid component")

# How a measurement stands to its published limits (DICOM CID 222)
INTERPRETATION = _local("interpretation", "Interpretation")
WITHIN_LIMITS = _sct("17621005", "Normal")
BEYOND_LIMITS = _sct("263654008", "Abnormal")
MEASURED_ONLY = _local("measured-only", "Measured without a published limit")

# Chest CT beside the lungs
THORACIC_SPINE = _sct("122495006", "Thoracic spine structure")
BONE_DENSITY = _local("vertebral-attenuation", "Trabecular attenuation of a vertebra")
LIVER = _sct("10200004", "Liver structure")
LIVER_ATTENUATION = _local("liver-attenuation", "Attenuation of the liver")
DIAMETER = _sct("81827009", "Diameter")
ASCENDING_AORTA = _sct("54247002", "Ascending aorta structure")
DESCENDING_AORTA = _sct("281130003", "Descending thoracic aorta structure")
ASCENDING_AORTA_DIAMETER = _local("ascending-aorta-diameter", "Diameter of the ascending aorta")
DESCENDING_AORTA_DIAMETER = _local("descending-aorta-diameter", "Diameter of the descending aorta")
HEART = _sct("80891009", "Heart structure")
CORONARY_CALCIUM = _local("coronary-calcium", "Coronary artery calcification")
AGATSTON = _local("agatston-equivalent", "Agatston-equivalent score")
CAC_DRS = _local("cac-drs", "CAC-DRS class")
CAC_DRS_A0 = _local("cac-drs-a0", "CAC-DRS A0")
CAC_DRS_A1 = _local("cac-drs-a1", "CAC-DRS A1")
CAC_DRS_A2 = _local("cac-drs-a2", "CAC-DRS A2")
CAC_DRS_A3 = _local("cac-drs-a3", "CAC-DRS A3")
LUNG_OPACITY = _local("lung-opacity", "Lung opacity")
SHARE_OF_LUNG = _local("share-of-lung", "Share of the lung")
CONSOLIDATED_SHARE = _local("consolidated-share", "Consolidated share of the opacity")

# Change of a nodule since an earlier study
NODULE_CHANGE = _local("nodule-change", "Change since the earlier study")
NODULE_NEW = _local("new", "New")
NODULE_GROWN = _local("grown", "Grown")
NODULE_STABLE = _local("stable", "Stable")
NODULE_DECREASED = _local("decreased", "Decreased")
PRIOR_MEAN_DIAMETER = _local("prior-mean-diameter", "Mean diameter on the earlier study")
PRIOR_VOLUME = _local("prior-volume", "Volume on the earlier study")
PRIOR_INTERVAL = _local("prior-interval", "Time since the earlier study")
VOLUME_CHANGE = _local("volume-change", "Change of volume since the earlier study")
DOUBLING_TIME = _local("volume-doubling-time", "Volume doubling time")
RESOLVED_NODULE = _local("resolved-nodule", "Nodule of the earlier study no longer seen")
