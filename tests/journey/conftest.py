"""One running house for all journey tests: starting it and its worker costs seconds, a study tenths of one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from house import House, running_house


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Journeys, DICOM node and one worker on a fresh data folder."""
    with running_house(tmp_path_factory.mktemp("house")) as opened:
        yield opened
