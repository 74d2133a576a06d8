"""The conformance suite of PS3.18 runs against Polyclinic and against Orthanc, so that it is known to be fair.

What Orthanc does otherwise stands in `orthanc_deviations.ORTHANC_DEVIATIONS`, test by test, and must stay so: a listed
test that passes fails the suite, as one that is not listed and fails does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from dicomweb_server import PLUGIN, DicomWebServer, files, orthanc, polyclinic
from orthanc_deviations import ORTHANC_DEVIATIONS

SERVERS = {"polyclinic": polyclinic, "orthanc": orthanc}


@pytest.fixture(scope="session", params=list(SERVERS))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DicomWebServer]:
    """A server that holds `files` and is only read."""
    with started(request.param, tmp_path_factory) as running:
        running.stored = files()
        answer = running.store(*running.stored.values())
        assert answer.status_code in (200, 202), answer.text
        yield running


@pytest.fixture(scope="session", params=list(SERVERS))
def empty_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DicomWebServer]:
    """A server that is stored to."""
    with started(request.param, tmp_path_factory) as running:
        yield running


@contextmanager
def started(name: str, folders: pytest.TempPathFactory) -> Iterator[DicomWebServer]:
    if name == "orthanc" and not PLUGIN.exists():
        pytest.skip("Orthanc with its DICOMweb plugin is not installed")
    with SERVERS[name](folders.mktemp(name)) as running:
        yield running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    known = set()
    for item in items:
        if here not in item.path.parents or not isinstance(item, pytest.Function):
            continue
        name = item.name.replace("orthanc-", "").replace("[orthanc]", "")
        known.add(name.replace("polyclinic-", "").replace("[polyclinic]", ""))
        if "orthanc" in item.name and name in ORTHANC_DEVIATIONS:
            item.add_marker(pytest.mark.xfail(strict=True, reason=ORTHANC_DEVIATIONS[name]))
    if len(known) > 60:  # the whole suite is collected
        unknown = ORTHANC_DEVIATIONS.keys() - known
        assert not unknown, f"deviations of tests that do not exist: {sorted(unknown)}"
