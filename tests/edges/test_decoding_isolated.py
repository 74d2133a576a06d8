"""Decoders in processes of their own: what breaks one of them is refused, and the next caller is served."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from polyclinic.core.errors import Rejected
from polyclinic.edges.decoding.isolated import Decoders, Undecodable


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    made = Decoders(most=1)
    yield made
    made.close()


def file_of(name: str) -> Path:
    return Path(str(get_testdata_file(name)))


def decode(decoders: Decoders, data: bytes, *indices: int) -> list[np.ndarray]:
    descriptor = os.memfd_create("test")
    try:
        os.write(descriptor, b"before" + data)
        return list(decoders.frames(descriptor, 6, len(data), indices or (0,), raw=True, frame_bytes=1000))
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "JPEG2000.dcm", "MR_small_jpeg_ls_lossless.dcm"])
def test_it_decodes_what_pydicom_decodes(decoders: Decoders, name: str) -> None:
    (frame,) = decode(decoders, file_of(name).read_bytes())
    assert np.array_equal(frame, dcmread(file_of(name)).pixel_array)


def test_frames_come_in_the_order_asked_for(decoders: Decoders) -> None:
    path = file_of("SC_rgb_rle_2frame.dcm")
    frames = decode(decoders, path.read_bytes(), 1, 0)
    assert [np.array_equal(a, b) for a, b in zip(frames, dcmread(path).pixel_array[::-1], strict=True)] == [True] * 2


def test_a_file_is_written_anew(decoders: Decoders) -> None:
    path = file_of("MR_small_RLE.dcm")
    plain = dcmread(BytesIO(decoders.decompressed(path.read_bytes())))
    assert not plain.file_meta.TransferSyntaxUID.is_compressed
    with pytest.raises(Rejected, match=r"dicom\.not-decompressible"):
        decoders.decompressed(b"nothing")


def test_a_broken_stream_is_refused(decoders: Decoders) -> None:
    data = file_of("MR_small_RLE.dcm").read_bytes()
    with pytest.raises(Undecodable):
        decode(decoders, data[:-3000])
    assert decode(decoders, data)


def test_a_process_that_dies_is_replaced(decoders: Decoders) -> None:
    data = file_of("MR_small_RLE.dcm").read_bytes()
    decode(decoders, data)
    (child,) = decoders._idle
    os.kill(child._process.pid, signal.SIGSTOP)  # it hangs ...
    child.socket.settimeout(0.2)
    with pytest.raises(Undecodable):
        decode(decoders, data)
    assert decode(decoders, data)
    (child,) = decoders._idle
    os.kill(child._process.pid, signal.SIGKILL)  # ... or aborts
    with pytest.raises(Undecodable):
        decode(decoders, data)
    assert decode(decoders, data)


def test_a_header_that_claims_too_much_is_refused(decoders: Decoders) -> None:
    dataset = dcmread(file_of("MR_small_RLE.dcm"))
    dataset.Rows = dataset.Columns = 65535
    out = BytesIO()
    dataset.save_as(out)
    with pytest.raises(Undecodable):
        decode(decoders, out.getvalue())
