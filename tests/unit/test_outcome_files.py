"""An outcome survives the way to files and back, and equal outcomes give equal bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from polyclinic.agentkit.outcome import Abstained, Assessed, Fact, Mask, MaskLabel
from polyclinic.agentkit.outcome_files import DOCUMENT, files_of, outcome_from
from polyclinic.core import codes
from polyclinic.core.errors import Rejected
from polyclinic.core.findings import Finding, ImageReference, Source, SourceKind
from polyclinic.core.plain import to_plain
from polyclinic.dicom.geometry import VolumeGeometry

AGENT = Source(kind=SourceKind.AGENT, id="aa", version="1.0.0")


def outcome(voxels: np.ndarray) -> Assessed:
    geometry = VolumeGeometry(
        frame_of_reference_uid="7",
        shape=voxels.shape,
        origin_mm=(0.0, 0.0, 0.0),
        slice_direction=(0.0, 0.0, 1.0),
        row_direction=(0.0, 1.0, 0.0),
        column_direction=(1.0, 0.0, 0.0),
        spacing_mm=(2.0, 1.0, 1.0),
    )
    mask = Mask(
        id="lungs",
        title="Lungs",
        geometry=geometry,
        voxels=voxels,
        labels=(MaskLabel(number=1, code=codes.LEFT_LUNG, title="Left lung"),),
        images=tuple(
            ImageReference(series_instance_uid="9", sop_class_uid="1", sop_instance_uid=str(k))
            for k in range(voxels.shape[0])
        ),
    )
    return Assessed(
        agent=AGENT,
        series_instance_uid="9",
        findings=(Finding(id="f", study_instance_uid="1.2", code=codes.PULMONARY_NODULE, source=AGENT),),
        masks=(mask,),
        facts=(Fact(name="slices", value=str(voxels.shape[0])),),
        seconds=(("look", 0.5),),
    )


@given(arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 7)), elements=st.integers(0, 3)))
def test_there_and_back(voxels: np.ndarray) -> None:
    made = outcome(voxels)
    files = dict(files_of(made))
    back = outcome_from(files.__getitem__)
    assert to_plain(back.findings) == to_plain(made.findings)
    assert (back.facts, back.seconds, back.agent) == (made.facts, made.seconds, made.agent)
    np.testing.assert_array_equal(back.masks[0].voxels, voxels)
    assert back.masks[0].geometry == made.masks[0].geometry
    assert back.masks[0].images == made.masks[0].images
    assert dict(files_of(outcome(voxels.copy()))) == files


def test_the_document_comes_last_so_that_it_vouches_for_the_rest() -> None:
    assert [name for name, _ in files_of(outcome(np.ones((2, 3, 4), np.uint8)))][-1] == DOCUMENT


def test_findings_are_read_without_touching_masks() -> None:
    files = dict(files_of(outcome(np.ones((2, 3, 4), np.uint8))))
    only_document = {DOCUMENT: files[DOCUMENT]}
    assert outcome_from(only_document.__getitem__, masks=False).masks == ()


def test_abstained() -> None:
    made = Abstained(agent=AGENT, reason_code="c", reason="r")
    assert outcome_from(dict(files_of(made)).__getitem__) == made


def test_a_torn_mask_is_refused() -> None:
    files = dict(files_of(outcome(np.ones((2, 3, 4), np.uint8))))
    (mask,) = files.keys() - {DOCUMENT}
    files[mask] = files[mask][:-9]
    with pytest.raises(Rejected, match="unreadable"):
        outcome_from(files.__getitem__)
