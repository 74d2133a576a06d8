"""Instances that were fetched as priors: here to be compared with, in no snapshot, until somebody sends them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from polyclinic.core.errors import NotFound
from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive.contracts import PRIOR_SOURCE, Receipt
from polyclinic.departments.archive.ports import Archive
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.memory_archive import InMemoryArchive

Make = Callable[..., bytes]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STUDY = stable_uid("study", "1")


@pytest.fixture(params=["sql", "memory"])
def archive(request: pytest.FixtureRequest, tmp_path: Path, open_archive: Callable[..., SqlArchive]) -> Archive:
    return open_archive(tmp_path) if request.param == "sql" else InMemoryArchive()


def test_a_fetched_prior_is_quiet(archive: Archive, part10: Make) -> None:
    assert archive.store(part10(1), source=PRIOR_SOURCE) is Receipt.NEW
    archive.store(part10(1, study="2"), source="CT1")
    assert [study.study_instance_uid for study in archive.unsettled()] == [stable_uid("study", "2")]
    with pytest.raises(NotFound):
        archive.snapshot(STUDY, evidence="test", at=NOW)
    assert [study.study_instance_uid for study in archive.priors(stable_uid("study", "2"))] == [STUDY]
    (series,) = archive.series(STUDY)
    assert not series.derived
    assert archive.study(STUDY).instance_count == 1


@pytest.mark.parametrize("same_bytes", [True, False])
def test_a_prior_that_is_sent_at_last_arrives_once(archive: Archive, part10: Make, same_bytes: bool) -> None:
    """A PACS that pushes a study to be read is not deaf to us because it was here as a prior, changed or not."""
    for number in (1, 2):
        archive.store(part10(number), source=PRIOR_SOURCE)
    pushed = part10(1) if same_bytes else part10(1, InstitutionName="Elsewhere")
    expected = Receipt.SAME if same_bytes else Receipt.KEPT_ASIDE
    assert archive.store(pushed, source="PACS") is expected
    assert archive.store(pushed, source="PACS") is expected
    (arriving,) = archive.unsettled()
    assert (arriving.study_instance_uid, arriving.instance_count) == (STUDY, 1)
    snapshot = archive.snapshot(STUDY, evidence="test", at=NOW)
    assert snapshot.sop_instance_uids == (stable_uid("instance", "1", "1", 1),)
    assert archive.unsettled() == ()
    assert {i.source for i in archive.instances(STUDY)} == {"PACS", PRIOR_SOURCE}


def test_fetching_what_was_sent_changes_nothing(archive: Archive, part10: Make) -> None:
    archive.store(part10(1), source="CT1")
    archive.snapshot(STUDY, evidence="test", at=NOW)
    assert archive.store(part10(1), source=PRIOR_SOURCE) is Receipt.SAME
    archive.store(part10(2), source=PRIOR_SOURCE)
    assert archive.unsettled() == ()
    assert {i.source for i in archive.instances(STUDY)} == {"CT1", PRIOR_SOURCE}
