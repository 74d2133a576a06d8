"""What leaves by the outlets: other transfer syntaxes where the peer wants them, and refusals in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pynetdicom import AE, evt

from polyclinic.core.errors import Unavailable
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.departments.routing.contracts import Destination
from polyclinic.edges.dimse.forwarding import DicomOutlets

IMPLICIT, EXPLICIT, RLE, J2K = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".5", ".4.90"))
TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"


@contextmanager
def peer(
    sop_class_uid: str, syntaxes: Sequence[str], got: list[tuple[str, Dataset]], status: int = 0
) -> Iterator[Destination]:
    """A storage SCP that takes one SOP class in some transfer syntaxes."""

    def store(event: evt.Event) -> int:
        got.append((str(event.context.transfer_syntax), event.dataset))
        return status

    entity = AE(ae_title="PEER")
    entity.add_supported_context(sop_class_uid, list(syntaxes))
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield Destination(name="peer", ae_title="PEER", host="127.0.0.1", port=server.server_address[1])
    finally:
        server.shutdown()


def sent(archive: SqlArchive, destination: Destination, part10: bytes) -> str:
    header = dcmread(BytesIO(part10), stop_before_pixels=True)
    kinds = {(str(header.SOPClassUID), str(header.file_meta.TransferSyntaxUID))}
    with DicomOutlets(archive, ae_title="POLYCLINIC").open(destination, kinds) as outlet:
        return outlet.send(str(header.SOPInstanceUID), lambda: None)


@pytest.fixture
def archive(tmp_path: Path, open_archive: Callable[..., SqlArchive]) -> SqlArchive:
    return open_archive(tmp_path)


@pytest.mark.parametrize(
    ("name", "taken", "preferred", "arrives_as"),
    [
        ("MR_small_RLE.dcm", [RLE, EXPLICIT, IMPLICIT], (), RLE),
        ("MR_small_RLE.dcm", [EXPLICIT, IMPLICIT], (), EXPLICIT),
        ("MR_small_RLE.dcm", [IMPLICIT], (), IMPLICIT),
        ("MR_small_RLE.dcm", [RLE, EXPLICIT], (EXPLICIT,), EXPLICIT),
        ("MR_small_jp2klossless.dcm", [IMPLICIT], (), IMPLICIT),
        ("MR_small.dcm", [IMPLICIT], (), IMPLICIT),
    ],
)
def test_a_peer_gets_what_it_takes(
    archive: SqlArchive, name: str, taken: list[str], preferred: tuple[str, ...], arrives_as: str
) -> None:
    from dataclasses import replace

    part10 = (TEST_FILES / name).read_bytes()
    archive.store(part10, source="TEST")
    original = dcmread(BytesIO(part10))
    got: list[tuple[str, Dataset]] = []
    with peer(original.SOPClassUID, taken, got) as destination:
        assert sent(archive, replace(destination, transfer_syntaxes=preferred), part10) == ""
    ((syntax, dataset),) = got
    assert syntax == arrives_as
    assert dataset.SOPInstanceUID == original.SOPInstanceUID
    dataset.file_meta = original.file_meta
    dataset.file_meta.TransferSyntaxUID = syntax
    assert np.array_equal(dataset.pixel_array, dcmread(TEST_FILES / "MR_small.dcm").pixel_array)


def test_refusals_are_in_words(archive: SqlArchive, part10: Callable[..., bytes]) -> None:
    one = part10(1)
    archive.store(one, source="TEST")
    ct, mr = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
    got: list[tuple[str, Dataset]] = []
    with peer(mr, [EXPLICIT], got) as destination:
        assert "takes neither SOP class" in sent(archive, destination, one)
    with peer(ct, [EXPLICIT], got, status=0xA900) as destination:
        assert "status A900H" in sent(archive, destination, one)
    with peer(ct, [EXPLICIT], got, status=0x0111) as destination:
        assert sent(archive, destination, one) == ""  # it has it already
    with peer(ct, [EXPLICIT], got, status=0xA700) as destination, pytest.raises(Unavailable, match=r"routing\.not-now"):
        sent(archive, destination, one)


def test_a_damaged_compressed_one_says_what_to_do(archive: SqlArchive) -> None:
    dataset = dcmread(TEST_FILES / "MR_small_RLE.dcm")
    dataset.PixelData = encapsulate([b"\0" * 80])
    out = BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    archive.store(out.getvalue(), source="TEST")
    with peer(dataset.SOPClassUID, [EXPLICIT], []) as destination:
        assert f"kept in transfer syntax {RLE}" in sent(archive, destination, out.getvalue())
