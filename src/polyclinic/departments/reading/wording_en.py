"""English wording of reports."""

from __future__ import annotations

from polyclinic.core import codes
from polyclinic.departments.reading import comparison_words
from polyclinic.departments.reading.wording import (
    CHEST,
    RADIOGRAPH_OPACITY,
    RADIOGRAPH_TUBERCULOSIS_PATTERN,
    Wording,
    key,
)

ENGLISH = Wording(
    titles={
        "technique": "Technique",
        "comparison": "Comparison",
        "findings": "Findings",
        "impression": "Impression",
    },
    terms={
        **comparison_words.ENGLISH_TERMS,
        key(codes.LUNG): "both lungs",
        CHEST: "chest",
        key(codes.LEFT_LUNG): "left lung",
        key(codes.RIGHT_LUNG): "right lung",
        key(codes.LEFT): "left",
        key(codes.RIGHT): "right",
        key(codes.PULMONARY_NODULE): "lung nodule",
        key(codes.EMPHYSEMA): "emphysema densitometry",
        key(codes.LUNG_VOLUME_FINDING): "lung volume",
        RADIOGRAPH_OPACITY: "pneumonia-type opacity",
        RADIOGRAPH_TUBERCULOSIS_PATTERN: "pattern suspicious for pulmonary tuberculosis",
        key(codes.LONG_AXIS): "long axis",
        key(codes.SHORT_AXIS): "short axis",
        key(codes.MEAN_DIAMETER): "mean diameter",
        key(codes.SOLID_COMPONENT): "solid component, mean diameter",
        key(codes.VOLUME): "volume",
        key(codes.LAA_950): "lung volume below -950 HU (LAA-950)",
        key(codes.PERC_15): "15th percentile of lung attenuation (Perc15)",
        key(codes.MEAN_ATTENUATION): "mean attenuation",
        key(codes.THORACIC_SPINE): "thoracic spine",
        key(codes.BONE_DENSITY): "spongy bone of the vertebral bodies",
        key(codes.LIVER): "liver",
        key(codes.LIVER_ATTENUATION): "parenchyma under the dome",
        key(codes.DIAMETER): "diameter",
        key(codes.ASCENDING_AORTA): "ascending aorta",
        key(codes.DESCENDING_AORTA): "descending thoracic aorta",
        key(codes.ASCENDING_AORTA_DIAMETER): "axial calibre",
        key(codes.DESCENDING_AORTA_DIAMETER): "axial calibre",
        key(codes.HEART): "heart",
        key(codes.CORONARY_CALCIUM): "coronary artery calcification",
        key(codes.AGATSTON): "Agatston-equivalent score",
        key(codes.CAC_DRS): "CAC-DRS class",
        **{
            key(code): code.display for code in (codes.CAC_DRS_A0, codes.CAC_DRS_A1, codes.CAC_DRS_A2, codes.CAC_DRS_A3)
        },
        key(codes.LUNG_OPACITY): "opacity (ground glass or consolidation)",
        key(codes.SHARE_OF_LUNG): "share of the lung",
        key(codes.CONSOLIDATED_SHARE): "of it consolidated",
        key(codes.INTERPRETATION): "interpretation",
        key(codes.WITHIN_LIMITS): "within published limits",
        key(codes.BEYOND_LIMITS): "beyond a published limit",
        key(codes.MEASURED_ONLY): "measured without a published limit",
        key(codes.NODULE_ATTENUATION): "attenuation type",
        key(codes.SOLID): "solid",
        key(codes.PART_SOLID): "part-solid",
        key(codes.GROUND_GLASS): "ground-glass",
        key(codes.CALCIFIED): "calcified",
    },
    nodules={
        ("", ""): "nodule",
        key(codes.SOLID): "solid nodule",
        key(codes.PART_SOLID): "part-solid nodule",
        key(codes.GROUND_GLASS): "ground-glass nodule",
        key(codes.CALCIFIED): "calcified nodule",
    },
    fact_names={
        "images": "images",
        "slices": "images",
        "slice thickness": "slice thickness",
        "slice spacing": "slice spacing",
        "pixel spacing": "pixel spacing",
        "kernel": "kernel",
        "reconstruction kernel": "kernel",
        "contrast": "contrast medium",
        "contrast agent": "contrast medium",
        "tube voltage": "tube voltage",
        "scanner": "scanner",
        "gantry tilt": "gantry tilt",
        "radiograph": "examination",
        "view": "projection (PA or AP)",
    },
    facts={
        "radiograph": "chest radiograph ({value})",
        "view": "{value} projection",
        "images": "{value} images",
        "slices": "{value} images",
        "slice thickness": "slice thickness {value}",
        "slice spacing": "slice interval {value}",
        "pixel spacing": "pixel spacing {value}",
        "gantry tilt": "gantry tilt {value}",
        "tube voltage": "acquired at {value}",
        "contrast": "contrast medium {value}",
        "contrast agent": "contrast medium {value}",
        "kernel": "reconstructed with kernel {value}",
        "reconstruction kernel": "reconstructed with kernel {value}",
        "scanner": "{value} scanner",
    },
    phrases={
        "it touches the pleura; its border there is estimated": "The border with the adjoining pleura is estimated.",
        "it touches a vessel; its border there is estimated": "The border with an adjoining vessel is estimated.",
    },
    enumeration=", ",
    last=" and ",
    parts=", ",
    between_limits=" ",
    technique="{facts}.",
    not_stated="Not stated in the images: {names}.",
    technique_unknown="The acquisition is not described in the images.",
    series_problem="Series: {problem}.",
    comparison="Earlier studies of {dates} are on file; no automatic comparison was made.",
    comparison_none="No earlier study is on file.",
    signed_before="A report of this study was signed by {name} on {at}; more images have arrived since.",
    nodule="{site}: {nodule}, {parts}{position}.",
    numbered="{kind} {number}",
    numbered_many="{kind}s {numbers}",
    number_run="{first}-{last}",
    axes="{long} × {short} mm",
    long_axis_only="long axis {long} mm",
    measured="{name} {value}",
    on_image=" (image {image})",
    at_height=" (z = {z} mm)",
    limits="Limitations ({subject}): {limits}",
    note="Reader's note on {subject}: {note}",
    all_nodules="all nodules",
    densitometry="Lung densitometry ({site}): {parts}.",
    lung_volumes="Lung volume on CT: {parts}.",
    other_unmeasured="{site}: {name}.",
    with_reason="{text} ({reason})",
    judged="{meaning} ({limit}; {citation}).",
    within_limit="within the published limit",
    other_scored="{site}: {name}; software probability {score}.",
    other="{site}: {name}, {parts}.",
    proposed="[Proposed, unreviewed] {text}",
    proposed_with_confidence="[Proposed, unreviewed, confidence {confidence}%] {text}",
    none_found="No {name} was marked by the software ({agent}).",
    none_found_scored="No {name} was marked by the software ({agent}): probability {score}. This does not exclude it.",
    none_confirmed="No {name} was confirmed.",
    no_findings="No finding is reported.",
    nothing_excluded="The software judged only what has a probability above; one below its threshold excludes nothing.",
    awaiting="Proposed findings that await review and are not part of this report: {count}.",
    not_assessed="Not assessed by the software ({agent}): {items}.",
    abstained="The software ({agent}) gave no result: {reason}",
    failed="The software ({agent}) could not be run: {reason}",
    impression_nodule="One lung nodule: {kind}, {site}, {size}.",
    impression_nodules="{count} lung nodules, the largest a {kind}, {site}, {size}.",
    impression_densitometry="Lung densitometry: {parts}.",
    impression_other="{name}, {site}.",
    impression_scored="{name} ({site}), marked by software: an appearance on the radiograph, no diagnosis of cause.",
    lung_rads=(
        "If this is a lung cancer screening examination without an earlier one: Lung-RADS v2022 category {category} by "
        "size and type ({subject})."
    ),
    lung_rads_at_least=(
        "If this is a lung cancer screening examination without an earlier one: Lung-RADS v2022 category {category} or "
        "higher by size and type ({subject}); category and follow-up depend on the nodules without category."
    ),
    lung_rads_nodules="Lung-RADS v2022 by nodule, if this is a first lung cancer screening examination: {groups}.",
    lung_rads_group="{category} ({subject})",
    first_examination_only=(
        "What the guidelines say here is for a first examination only: earlier studies are on file, but the software "
        "made no comparison; growth or stability may change category and follow-up."
    ),
    fleischner="If found incidentally, in {who}: Fleischner 2017, guided by {subject} ({size} mm).",
    fleischner_too_young="{advice} They are for adults of {youngest} years or more; the patient is {age}.",
    adult="an adult of {youngest} years or more without known cancer or immunosuppression",
    patient="a patient without known cancer or immunosuppression",
    advised="{text} {advice}",
    by_risk="At low risk: {low} At high risk: {high}",
    unclassified={
        "calcified": (
            "{subject}: no Lung-RADS v2022 category and no follow-up interval; whether calcification is benign depends "
            "on its pattern, which the software does not know and the reader judges."
        ),
        "size": (
            "{subject}: no Lung-RADS v2022 category and no follow-up interval, because the mean of long and short axis "
            "is not known."
        ),
        "attenuation": (
            "{subject}: no Lung-RADS v2022 category and no follow-up interval, because the nodule type is not known."
        ),
        "solid-component": "{subject}: no Lung-RADS v2022 category, because the solid component was not measured.",
        "component-change": (
            "{subject}: no Lung-RADS v2022 category, because the solid component was not compared with the earlier "
            "study."
        ),
        "interval": (
            "{subject}: no Lung-RADS v2022 category; growth is defined within 12 months, and the time between the two "
            "studies is longer or not known."
        ),
    },
    comparisons=comparison_words.ENGLISH,
)
