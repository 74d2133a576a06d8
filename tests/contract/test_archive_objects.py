"""What every object store must keep, on disk and in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyclinic.core.errors import Conflict, NotFound, Rejected
from polyclinic.edges.blobs.objects import Objects, open_objects


@pytest.fixture(params=["folder", "memory"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    return open_objects(tmp_path / "objects" if request.param == "folder" else "memory://")


def test_what_is_put_is_got(objects: Objects) -> None:
    digest = objects.put("runs/1/seg.dcm", b"abc")
    assert digest == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert objects.get("runs/1/seg.dcm") == b"abc"


def test_putting_twice_is_putting_once_and_other_bytes_are_a_conflict(objects: Objects) -> None:
    assert objects.put("a", b"abc") == objects.put("a", b"abc")
    with pytest.raises(Conflict, match=r"blobs\.other-bytes"):
        objects.put("a", b"abd")
    assert objects.get("a") == b"abc"


def test_absent_key(objects: Objects) -> None:
    with pytest.raises(NotFound, match=r"blobs\.no-object"):
        objects.get("absent")


@pytest.mark.parametrize("key", ["../a", "/a", "a//b", "", "a/../b", "a b"])
def test_keys_cannot_leave_the_store(objects: Objects, key: str) -> None:
    with pytest.raises(Rejected, match=r"blobs\.bad-key"):
        objects.put(key, b"")
