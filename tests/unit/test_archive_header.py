"""The header walker against pydicom's reader, and against bytes that no device should send."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pydicom.data
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from polyclinic.dicom.header import (
    DEFLATED_LE,
    Encoding,
    HeaderError,
    Walker,
    inflate,
    read_file_meta,
    read_header,
)

FILES = sorted(p for p in (Path(pydicom.data.__file__).parent / "test_files").rglob("*.dcm"))


def reason_of(read: Callable[..., object], *arguments: object) -> str | None:
    try:
        read(*arguments)
    except HeaderError as error:
        return error.reason
    return None


def parse(data: bytes) -> dict[int, bytes]:
    meta = read_file_meta(data)
    header = read_header(data[meta.dataset_offset :], meta.transfer_syntax_uid)
    return {tag: header.raw(tag) for tag in header.elements}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_finds_the_elements_that_pydicom_finds(path: Path) -> None:
    data = path.read_bytes()
    if (reason := reason_of(parse, data)) is not None:
        assert reason in {"not-dicom", "truncated", "malformed"}
        return
    found = parse(data)
    read = dcmread(BytesIO(data))
    assert {tag for tag in found if tag >> 16 > 2} == {int(e.tag) for e in read if e.tag.group > 2}
    for keyword in ("SOPInstanceUID", "Rows", "Columns"):
        if keyword in read and not read[keyword].is_empty:
            raw = found[int(read[keyword].tag)]
            value = raw.rstrip(b"\0 ").decode() if keyword == "SOPInstanceUID" else None
            assert value in (None, str(read[keyword].value))


def encoded(dataset: Dataset, syntax: str) -> bytes:
    out = BytesIO()
    dcmwrite(
        out,
        dataset,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        force_encoding=True,
    )
    return out.getvalue()


def nested(depth: int) -> Dataset:
    dataset = Dataset()
    dataset.PatientID = "P"
    if depth:
        inner = nested(depth - 1)
        dataset.ReferencedStudySequence = [inner, nested(0)]
        dataset["ReferencedStudySequence"].is_undefined_length = depth % 2 == 0
        inner.is_undefined_length_sequence_item = depth % 3 == 0
    return dataset


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("depth", [1, 2, 5, 20])
def test_nested_sequences_of_both_kinds_are_passed(syntax: str, depth: int) -> None:
    dataset = nested(depth)
    dataset.InstanceNumber = 7
    header = read_header(encoded(dataset, syntax), syntax)
    assert header.text(0x00200013) == "7"
    walker = Walker(header.data, header.encoding)
    assert len(list(walker.items(header.elements[0x00081110]))) == 2


def test_every_cut_is_noticed(part10: Callable[..., bytes]) -> None:
    data = part10()
    offset = read_file_meta(data).dataset_offset
    boundaries = set()
    position = offset
    walker = Walker(data, Encoding(explicit=True, little=True))
    while position < len(data):
        boundaries.add(position)
        _, _, position = walker.element(position, len(data))
    for cut in range(offset, len(data)):
        if cut in boundaries:
            continue  # nothing in the bytes says that an element is missing; the archive asks for its UIDs
        with pytest.raises(HeaderError) as error:
            read_header(data[offset:cut], ExplicitVRLittleEndian)
        assert error.value.reason == "truncated"


def test_a_cut_in_encapsulated_pixel_data_is_noticed() -> None:
    pixels = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\0\0\0\0"
    fragment = b"\xfe\xff\x00\xe0" + (64).to_bytes(4, "little") + bytes(64)
    whole = pixels + fragment * 3 + b"\xfe\xff\xdd\xe0\0\0\0\0"
    assert read_header(whole, "1.2.840.10008.1.2.4.70").pixels is not None
    for cut in range(1, len(whole)):
        assert reason_of(read_header, whole[:-cut], "1.2.840.10008.1.2.4.70") == "truncated"


@given(st.binary(max_size=400), st.sampled_from(["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"]))
def test_random_bytes_end_in_a_header_or_a_reason(data: bytes, syntax: str) -> None:
    assert reason_of(read_header, data, syntax) in {None, "truncated", "malformed", "too-large"}


@settings(max_examples=200)
@given(st.data())
def test_flipped_bytes_end_in_a_header_or_a_reason(data: st.DataObject) -> None:
    original = bytearray(encoded(nested(6), ExplicitVRLittleEndian))
    for _ in range(data.draw(st.integers(1, 4))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    reason = reason_of(read_header, bytes(original), ExplicitVRLittleEndian)
    assert reason in {None, "truncated", "malformed", "too-large"}


def test_sequences_without_end_are_refused_and_not_followed() -> None:
    opening = b"\x08\x00\x10\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    with pytest.raises(HeaderError) as error:
        read_header(opening * 100_000, ExplicitVRLittleEndian)
    assert error.value.reason == "malformed"


def test_a_delimiter_in_a_sequence_of_known_length_ends_it() -> None:
    item = b"\xfe\xff\x00\xe0\x08\0\0\0" + b"\x10\x00\x20\x00LO\0\0"
    content = item + b"\xfe\xff\xdd\xe0\0\0\0\0"
    data = b"\x08\x00\x10\x11SQ\0\0" + len(content).to_bytes(4, "little") + content
    header = read_header(data, ExplicitVRLittleEndian)
    walker = Walker(header.data, header.encoding)
    assert list(walker.items(header.elements[0x00081110])) == [(20, 28)]


def test_deflated_is_read_and_bounded() -> None:
    dataset = encoded(nested(2), ExplicitVRLittleEndian)

    def deflated(data: bytes) -> bytes:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return deflater.compress(data) + deflater.flush()

    assert read_header(deflated(dataset), DEFLATED_LE).text(0x00100020) == "P"
    bomb = deflated(bytes(4_000_000))
    with pytest.raises(HeaderError) as error:
        inflate(bomb, limit=1_000_000)
    assert error.value.reason == "too-large"
    for damaged, reason in ((deflated(dataset)[:-3], "truncated"), (b"\xff" * 50, "malformed")):
        with pytest.raises(HeaderError) as error:
            inflate(damaged)
        assert error.value.reason == reason
